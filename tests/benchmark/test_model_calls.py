from functools import wraps

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from torch import nn

from gfnet_dense.benchmark import model_calls
from gfnet_dense.benchmark.model_calls import Inference, Training
from gfnet_dense.benchmark.whole_model import build_random
from gfnet_dense.demo import shrink
from gfnet_dense.utils.config import read_config


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
        self.bbox_head = Head(clock, 1, 1, 1)
        self.clock, self.seen = clock, None

    def forward(self, x, samples, mode):
        self.seen = [sample.metainfo["ori_shape"] for sample in samples], mode
        x = self.bbox_head.predict(self.neck(self.backbone(x)))
        self.clock.now += 1
        return x


def test_shares_of_time_exclude_the_first_call(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(model_calls, "time", clock)
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


def test_samples_tell_that_images_are_whole_and_not_padded():
    first, second = model_calls.samples_of(torch.zeros(2, 3, 8, 16))
    assert first is not second and first.pad_shape == first.ori_shape == (8, 16)
    assert first.border == (0, 8, 0, 16)  # mmdetection: top, bottom, left, right


def test_loss_of_training_is_that_of_both_heads_for_the_labels():
    cfg = read_config("upernet_gfnet_ade20k")
    shrink(cfg)
    model = build_random(cfg)
    x, labels = torch.randn(2, 3, 64, 64), torch.randint(model.num_classes, (2, 64, 64))
    training = Training(model).eval()  # without dropout
    with torch.no_grad():
        maps = model.extract_feat(x)
        expected = 0.0
        for head, weight in ((model.decode_head, 1), (model.auxiliary_head, 0.4)):
            logits = F.interpolate(head(maps), size=(64, 64), mode="bilinear")
            expected += weight * F.cross_entropy(logits, labels)
        assert training(x, labels) == pytest.approx(float(expected), rel=1e-5)
    assert not any(isinstance(module, nn.SyncBatchNorm) for module in training.modules())


@pytest.mark.parametrize("config", ["upernet_gfnet_ade20k", "segformer_gfnet-h-ti_ade20k"])
def test_labels_of_segmentors_are_those_of_their_library_without_its_logits(config, monkeypatch):
    cfg = read_config(config)
    shrink(cfg)
    model = build_random(cfg).eval()
    x = torch.randn(2, 3, 76, 52)

    @wraps(model.encode_decode)
    def logits_at_the_size_of_images(*_):
        raise AssertionError

    with torch.inference_mode():
        expected = model(x, model_calls.samples_of(x), mode="predict")
        monkeypatch.setattr(model, "encode_decode", logits_at_the_size_of_images)
        found = Inference(model)(x)
    for sample, stock in zip(found, expected, strict=True):
        assert torch.equal(sample.pred_sem_seg.data, stock.pred_sem_seg.data)
        assert "seg_logits" not in sample
