import json
from dataclasses import asdict
from pathlib import Path

import mmdet
import pytest
import torch
from mmengine.config import Config
from mmseg.models import FPNHead

from gfnet_dense.benchmark.complexity import count_flops
from gfnet_dense.benchmark.measure import Settings
from gfnet_dense.benchmark.whole_model import build_model, build_random, cases, forget_weights
from gfnet_dense.demo import shrink
from gfnet_dense.registry import MODELS
from gfnet_dense.utils.config import read_config
from gfnet_dense.utils.errors import InputError
from tests.conftest import ROOT, needs_operators

SETTINGS = Settings(threads=1, batch_size=2)
FPN = str(ROOT / "configs" / "fpn_gfnet-h-ti_ade20k.py")


def check_record(config, size, settings=SETTINGS):
    (case,) = cases(str(ROOT / "configs" / f"{config}.py"), [size], settings, demo=True)
    assert (case.series, case.size) == (config, size) and json.dumps(case.options)
    record = case.run(case.size, **case.options)
    assert json.loads(json.dumps(record)) == record
    assert sum(record["shares"].values()) == pytest.approx(1)
    assert all(0 <= share < 1 for share in record["shares"].values())
    assert all(record["shares"][part] > 0 for part in ("backbone", "neck", "heads"))
    assert min(record["latencies"]) > 0 and record["batch_size"] == 2
    return record


def test_segmentor_is_measured_with_the_shares_of_its_parts():
    record = check_record("fpn_gfnet-h-ti_ade20k", 75)
    cfg = Config.fromfile(FPN)
    shrink(cfg)
    model = build_model(cfg, "meta")
    assert record["params"] == sum(p.numel() for p in model.parameters())
    assert record["flops"] == count_flops(model, (75, 75)).total


@needs_operators
@pytest.mark.parametrize("config", ["mask-rcnn_gfnet-h-ti_coco", "dino-4scale_gfnet-h-ti_coco"])
def test_detector_is_measured_with_the_shares_of_its_parts(config):
    record = check_record(config, 128)
    # The meta device has no values, from which DINO takes the number of its positions.
    assert ("flops" in record) == config.startswith("mask-rcnn")


@needs_operators
def test_detector_is_measured_in_bfloat16_with_the_operators_of_mmcv_in_float32():
    settings = Settings(threads=1, batch_size=2, amp="bfloat16")
    check_record("mask-rcnn_gfnet-h-ti_coco", 64, settings)


@needs_operators
@pytest.mark.parametrize(
    "name",
    ["centernet/centernet_r18_8xb16-crop512-140e_coco", "sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco"],
)
def test_detectors_that_need_a_border_or_initial_boxes_are_measured(name):
    config = Path(mmdet.__file__).parent / ".mim" / "configs" / f"{name}.py"
    (case,) = cases(str(config), [64], Settings(threads=1), demo=False)
    assert min(case.run(case.size, **case.options)["latencies"]) > 0


def test_a_training_step_of_a_segmentor_is_measured():
    settings = Settings(threads=1, batch_size=2, train=True)
    (case,) = cases("upernet_gfnet_ade20k", [64], settings, demo=True)
    record = case.run(case.size, **case.options)
    assert min(record["latencies"]) > 0 and record["flops"] > 0 and "shares" not in record


@needs_operators
def test_training_of_detectors_and_missing_configs_are_refused(tmp_path):
    with pytest.raises(InputError, match="mask-rcnn_gfnet-h-ti_coco is a detector"):
        cases("mask-rcnn_gfnet-h-ti_coco", [64], Settings(train=True), False)
    with pytest.raises(InputError, match="missing.py does not exist"):
        cases(str(tmp_path / "missing.py"), [64], SETTINGS, demo=False)


def test_full_size_config_is_read_without_demo():
    (case,) = cases(FPN, [64], SETTINGS, demo=False)
    assert case.options["settings"] == asdict(SETTINGS) and case.options["demo"] is False


def test_a_peer_is_measured_beside_the_config_with_its_number_of_classes():
    ours, peer = cases(FPN, [64], Settings(threads=1), demo=True, against=["SegNeXt-T"])
    assert (ours.series, peer.series) == ("fpn_gfnet-h-ti_ade20k", "SegNeXt-T")
    record = peer.run(peer.size, **peer.options)
    cfg = read_config(FPN)
    shrink(cfg)
    classes = cfg.model.decode_head.num_classes
    # 4,263,414 with 150 classes, each of which has 256 weights and a bias in the last layer
    assert record["params"] == 4_263_414 - (150 - classes) * 257
    assert "difference" not in record


class OwnHead(FPNHead):
    """A head whose logits are 1 % larger than mmsegmentation's, and whose loss is half as large."""

    def forward(self, inputs):
        return 1.01 * super().forward(inputs)

    def loss_by_feat(self, seg_logits, batch_data_samples):
        losses = super().loss_by_feat(seg_logits / 1.01, batch_data_samples)
        return {key: value / 2 for key, value in losses.items()}


@pytest.mark.parametrize("train", [False, True])
def test_stock_heads_have_the_same_weights_and_the_difference_is_told(train, monkeypatch, tmp_path):
    monkeypatch.setattr(OwnHead, "__module__", "gfnet_dense.own")
    monkeypatch.setitem(MODELS.module_dict, "OwnHead", OwnHead)
    config = tmp_path / "own.py"
    head = "model = dict(decode_head=dict(type='gfnet_dense.OwnHead'))"
    config.write_text(f"_base_ = {FPN!r}\n{head}\n")
    settings = Settings(threads=1, batch_size=2, train=train)
    ours, stock = cases(str(config), [64], settings, demo=True, against=["stock-heads"])
    record = stock.run(stock.size, **stock.options)
    assert record["difference"] == pytest.approx(0.01, rel=1e-4)
    assert record.get("gradient_difference") == (pytest.approx(0.5, rel=1e-4) if train else None)
    record = ours.run(ours.size, **ours.options)
    assert "difference" not in record


def test_random_weights_are_the_same_in_each_call_and_leave_the_generator_as_it_was():
    cfg = read_config(FPN)
    shrink(cfg)
    cfg.model.backbone.init_cfg = dict(type="Pretrained", checkpoint="gfnet://h-tiny")
    state = torch.get_rng_state()
    first, second = (build_random(cfg).state_dict() for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    # 0.01 is the standard deviation with which heads start, of 64 * classes weights
    assert float(first["decode_head.conv_seg.weight"].std()) == pytest.approx(0.01, rel=0.2)
    assert cfg.model.backbone.init_cfg.checkpoint == "gfnet://h-tiny"


def test_addresses_of_weights_are_forgotten_and_other_initializers_kept():
    normal, file = dict(type="Normal", std=0.01), dict(type="Pretrained", checkpoint="a.pth")
    model = dict(
        pretrained="open-mmlab://a",
        backbone=dict(init_cfg=dict(checkpoint="b.pth"), pretrained=None),
        heads=[dict(init_cfg=[normal, file]), dict(init_cfg=normal)],
    )
    forget_weights(model)
    assert model == dict(
        pretrained=None,
        backbone=dict(pretrained=None),
        heads=[dict(init_cfg=[normal]), dict(init_cfg=normal)],
    )
