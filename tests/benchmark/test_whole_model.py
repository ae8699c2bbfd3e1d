import json
from dataclasses import asdict

import pytest
import torch
from mmengine.config import Config, ConfigDict
from torch import nn

from gfnet_dense.benchmark import whole_model
from gfnet_dense.benchmark.measure import Settings
from gfnet_dense.benchmark.whole_model import Inference, build_model, cases
from gfnet_dense.demo import shrink
from gfnet_dense.utils.errors import InputError
from tests.conftest import ROOT, needs_operators

SETTINGS = Settings(threads=1, batch_size=2)


class Clock:
    now = 0.0

    def perf_counter(self):
        return self.now


class Part(nn.Module):
    def __init__(self, clock, *seconds):
        super().__init__()
        self.clock, self.seconds = clock, iter(seconds)

    def forward(self, x):
        self.clock.now += next(self.seconds)
        return x


class Head(Part):
    def predict(self, x):
        self.clock.now += 3
        return self(x)


class Model(nn.Module):
    """Model whose second and third call take 24 seconds: backbone 12, neck 2, head 8, other 2."""

    def __init__(self, clock):
        super().__init__()
        self.test_cfg = ConfigDict(mode="slide")
        self.backbone, self.neck = Part(clock, 100, 5, 7), Part(clock, 1, 1, 1)
        self.decode_head = Head(clock, 1, 1, 1)
        self.clock, self.seen = clock, None

    def forward(self, x, samples, mode):
        self.seen = [sample.metainfo["ori_shape"] for sample in samples], mode
        x = self.decode_head.predict(self.neck(self.backbone(x)))
        self.clock.now += 1
        return x


def test_shares_of_time_exclude_the_first_call(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(whole_model, "time", clock)
    inference = Inference(Model(clock))
    for _ in range(3):
        inference(torch.zeros(2, 3, 8, 16))
    # A head's predict calls its forward, whose second is counted once: 4 seconds, not 5.
    expected = {"backbone": 12 / 24, "neck": 2 / 24, "heads": 8 / 24, "other": 2 / 24}
    assert inference.shares() == pytest.approx(expected)


class OnGpu:
    """Images on a GPU, for a model that uses their shape alone."""

    shape, device = (2, 3, 8, 16), torch.device("cuda")

    def __iter__(self):
        return iter(range(2))


def test_shares_on_a_gpu_are_those_of_events_and_wait_for_no_part(monkeypatch):
    clock, waited = Clock(), []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self, stream):
            self.milliseconds = 1e3 * clock.now

        def synchronize(self):
            waited.append(self)

        def elapsed_time(self, end):
            return end.milliseconds - self.milliseconds

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    inference = Inference(Model(clock))
    for _ in range(3):
        inference(OnGpu())
    assert not waited
    expected = {"backbone": 12 / 24, "neck": 2 / 24, "heads": 8 / 24, "other": 2 / 24}
    assert inference.shares() == pytest.approx(expected)


def test_inference_predicts_whole_images():
    model = Model(Clock())
    Inference(model)(torch.zeros(2, 3, 8, 16))
    assert model.test_cfg.mode == "whole"
    assert model.seen == ([(8, 16), (8, 16)], "predict")


def check_record(config, size):
    (case,) = cases(str(ROOT / "configs" / f"{config}.py"), [size], SETTINGS, demo=True)
    assert (case.series, case.size) == (config, size) and json.dumps(case.options)
    record = case.run(case.size, **case.options)
    assert json.loads(json.dumps(record)) == record
    assert sum(record["shares"].values()) == pytest.approx(1)
    assert all(0 <= share < 1 for share in record["shares"].values())
    assert min(record["latencies"]) > 0 and record["batch_size"] == 2
    return record


def test_segmentor_is_measured_with_the_shares_of_its_parts():
    record = check_record("fpn_gfnet-h-ti_ade20k", 75)
    assert all(record["shares"][part] > 0 for part in ("backbone", "neck", "heads"))
    cfg = Config.fromfile(ROOT / "configs/fpn_gfnet-h-ti_ade20k.py")
    shrink(cfg)
    assert record["params"] == sum(p.numel() for p in build_model(cfg, "meta").parameters())


@needs_operators
@pytest.mark.parametrize("config", ["mask-rcnn_gfnet-h-ti_coco", "dino-4scale_gfnet-h-ti_coco"])
def test_detector_is_measured_with_the_shares_of_its_parts(config):
    record = check_record(config, 128)
    assert all(record["shares"][part] > 0 for part in ("backbone", "neck", "heads"))


def test_training_and_missing_configs_are_refused(tmp_path):
    with pytest.raises(InputError, match="leave out --train"):
        cases(str(ROOT / "configs/fpn_gfnet-h-ti_ade20k.py"), [64], Settings(train=True), False)
    with pytest.raises(InputError, match="missing.py does not exist"):
        cases(str(tmp_path / "missing.py"), [64], SETTINGS, demo=False)


def test_full_size_config_is_read_without_demo():
    (case,) = cases(str(ROOT / "configs/fpn_gfnet-h-ti_ade20k.py"), [64], SETTINGS, demo=False)
    assert case.options["settings"] == asdict(SETTINGS) and case.options["demo"] is False
