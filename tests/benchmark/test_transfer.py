import json
import math

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from gfnet_dense.benchmark import transfer
from gfnet_dense.demo import shrink
from gfnet_dense.utils.config import read_config
from gfnet_dense.utils.errors import InputError
from tests.conftest import ROOT, TINY, needs_operators
from tests.markdown import read_table

CONFIG = str(ROOT / "configs" / "fpn_gfnet-h-ti_ade20k.py")
TINY_CONFIG = f"""
_base_ = {CONFIG!r}
model = dict(
    backbone=dict(_delete_=True, type="gfnet_dense.GFNet", arch=dict({TINY}), img_size=512),
    neck=dict(in_channels={list(TINY["dims"])}),
    # a demo image at scale 1 fits in one window
    test_cfg=dict(crop_size=(512, 768), stride=(512, 768)),
)
"""
OPTIONS = {"test_dataloader.dataset.indices": 2, "test_dataloader.num_workers": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, demo_data):
    """A working directory with the demo data, a config, and an untrained checkpoint."""
    path = tmp_path_factory.mktemp("transfer")
    (path / "data").symlink_to(demo_data)
    (path / "tiny.py").write_text(TINY_CONFIG)
    cfg = read_config(path / "tiny.py")
    shrink(cfg)
    init_default_scope("mmseg")
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    for name, weight in model.named_parameters():
        if name.endswith("complex_weight"):
            weight.data *= 20  # so that the filters matter
    torch.save({"state_dict": model.state_dict(), "meta": {}}, path / "untrained.pth")
    return path


@pytest.fixture(autouse=True)
def working_directory(folder, monkeypatch):
    monkeypatch.chdir(folder)


def cases(options=None, **kwargs):
    kwargs = {"scales": [1], "demo": True, "modes": ["trigonometric"], **kwargs}
    cases = transfer.cases(
        "tiny.py", "untrained.pth", cfg_options={**OPTIONS, **(options or {})}, **kwargs
    )
    return {(case.series, case.size): case for case in cases}


def metrics(case):
    # A sweep stores the options as JSON and reads them back.
    record = case.run(case.size, **json.loads(json.dumps(case.options)))
    assert record["metric"] == "mIoU" and record.pop("seconds") > 0
    assert 0 < record["mIoU"] < 100 and 0 < record["aAcc"] < 100
    return record


WHOLE = "whole, trigonometric, circular (as trained)"
ZEROS = "whole, trigonometric, zeros"


def test_one_sliding_window_gives_the_metrics_of_the_whole_image(folder):
    before = sorted(folder.rglob("*"))
    found = cases(scales=[0.5, 1])
    for scale in (0.5, 1):  # images at 0.5 are smaller than the window
        assert metrics(found["slide", scale]) == metrics(found[WHOLE, scale])
    small = {"model.test_cfg.crop_size": [64, 64], "model.test_cfg.stride": [64, 64]}
    assert metrics(cases(small)["slide", 1]) != metrics(found["slide", 1])
    assert sorted(folder.rglob("*")) == before  # no new file


def test_each_resize_mode_and_border_gives_different_metrics():
    found = cases(scales=[1.5], modes=["trigonometric", "bilinear"], borders=["circular", "zeros"])
    assert len({tuple(metrics(case).values()) for case in found.values()}) == len(found) == 5


def test_a_border_in_the_test_gives_the_metrics_of_a_config_with_this_border():
    found = cases()
    zeros = metrics(cases({"model.backbone.border": "zeros"})[f"{ZEROS} (as trained)", 1])
    assert metrics(found[ZEROS, 1]) == zeros != metrics(found[WHOLE, 1])


def test_cases_vary_either_the_resize_mode_or_the_border():
    found = cases(
        scales=[1, 2, 1],
        modes=["trigonometric", "bilinear", "bicubic", "spectral_pad"],
        borders=["circular", "zeros", "reflect"],
    )
    assert [way for way, scale in found if scale == 2] == [
        "slide",
        "slide, zeros",
        "slide, reflect",
        WHOLE,
        "whole, bilinear, circular",
        "whole, bicubic, circular",
        "whole, spectral_pad, circular",
        ZEROS,
        "whole, trigonometric, reflect",
    ]
    assert len(found) == 18
    assert found["slide", 1].options["backbone"] == {"test_border": "circular"}


@pytest.mark.parametrize(
    "backbone, modes, expected",
    [
        ({}, ["trigonometric"], ["slide", "slide, zeros", WHOLE, ZEROS]),
        ({"test_border": "zeros"}, ["trigonometric"], ["slide", "slide, zeros", WHOLE, ZEROS]),
        (
            {"test_border": "reflect"},
            ["trigonometric"],
            ["slide", "slide, reflect", "slide, zeros", WHOLE]
            + ["whole, trigonometric, reflect", ZEROS],
        ),
        ({"border": "zeros"}, transfer.FILTER_RESIZE_MODES, ["slide", f"{ZEROS} (as trained)"]),
        ({}, ["bilinear"], ["slide", "whole, bilinear, circular"]),
        (
            {"filter_resize": "bicubic"},
            ["trigonometric", "bicubic"],
            ["slide", "whole, trigonometric, circular", "whole, bicubic, circular (as trained)"]
            + [ZEROS],
        ),
    ],
)
def test_the_border_of_the_training_and_zeros_are_the_default(backbone, modes, expected):
    options = {f"model.backbone.{key}": value for key, value in backbone.items()}
    assert [way for way, _ in cases(options, modes=modes)] == expected


def test_scales_multiply_only_the_size_of_test_images():
    cfg = Config.fromfile(CONFIG)
    transfer.scale_test_images(cfg, 1.5)
    sizes = {t.type: (t.get("scale"), t.get("size_divisor")) for t in cfg.test_pipeline}
    assert sizes["Resize"] == ((2048, 512), None)  # unchanged: datasets have copies
    sizes = {
        t.type: (t.get("scale"), t.get("size_divisor"))
        for t in cfg.test_dataloader.dataset.pipeline
    }
    assert sizes["Resize"] == ((3072, 768), None)
    assert sizes["ResizeToMultiple"] == (None, 32)
    assert cfg.val_dataloader.dataset.pipeline[1].scale == (2048, 512)
    cfg.test_dataloader.dataset.pipeline.pop(1)
    with pytest.raises(InputError, match="the test pipeline does not tell the size"):
        transfer.scale_test_images(cfg, 1.5)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(modes=["cubic"]), "filter_resize is one of trigonometric, .*'cubic'"),
        (dict(borders=["mirror"]), "border is one of circular, zeros, reflect, got 'mirror'"),
        (
            dict(modes=["bilinear"], borders=["zeros"]),
            "the border zeros goes with the mode trigonometric alone, got bilinear",
        ),
        (dict(scales=[1, 0]), "a scale is a factor .* got 0"),
        (dict(scales=[math.nan]), "a scale is a factor .* got nan"),
        (
            dict(options={"model.test_cfg": {"_delete_": True, "mode": "whole"}}),
            "sliding windows need .*crop_size",
        ),
    ],
)
def test_invalid_arguments_are_rejected(kwargs, message):
    with pytest.raises(InputError, match=message):
        cases(**kwargs)


def test_errors_name_a_missing_checkpoint_and_missing_data(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="checkpoint none.pth does not exist"):
        transfer.cases("tiny.py", "none.pth", [1], demo=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="ADE20K was not found"):
        transfer.cases(CONFIG, "none.pth", [1])


def test_evaluation_without_metrics_is_refused(tmp_path):
    options = {"test_evaluator.format_only": True, "test_evaluator.output_dir": str(tmp_path)}
    case = cases(options)["slide", 1]
    with pytest.raises(InputError, match="compares with no label maps"):
        case.run(1, **case.options)


@needs_operators
def test_detectors_are_refused():
    with pytest.raises(InputError, match="transfer is for segmentors"):
        transfer.cases(str(ROOT / "configs/retinanet_gfnet-h-ti_coco.py"), "untrained.pth", [1])


def entry(series, size, value=None, status="ok"):
    records = [{"aAcc": 90.0, "mIoU": value, "metric": "mIoU"}] * 2 if value else []
    return dict(series=series, size=size, status=status, records=records)


RESULTS = dict(
    cases=[
        entry("slide", 1, 50.0),
        entry("whole, bilinear, circular", 1, 48.75),
        entry("slide", 1.5, 49.5),
        entry("whole, bilinear, circular", 1.5, 50.0),
        entry("slide", 2, status="time limit"),
        entry("whole, bilinear, circular", 2, 47.0),
        entry("whole, spectral_pad, circular", 1, status="out of memory"),
        entry("whole, spectral_pad, circular", 1.5, status="skipped: out of memory at 1"),
        entry("whole, spectral_pad, circular", 2, status="failed: ValueError: | x"),
    ]
)


def test_table_has_the_difference_to_sliding_windows():
    assert read_table(transfer.format_table(RESULTS)) == [
        ["mIoU", "x 1", "x 1.5", "x 2"],
        ["slide", "50.00", "49.50", "time limit"],
        ["whole, bilinear, circular", "48.75 (-1.25)", "50.00 (+0.50)", "47.00"],
        ["whole, spectral_pad, circular", "out of memory", "skipped", "failed"],
    ]


def test_table_has_empty_cells_for_scales_that_were_not_tested():
    results = dict(cases=[entry("slide", 1, 50.0), entry("whole", 3, 47.0)])
    table = read_table(transfer.format_table(results))
    assert table[1:] == [["slide", "50.00", ""], ["whole", "", "47.00"]]


def test_plot_has_a_line_for_each_kind_of_prediction():
    (axis,) = transfer.draw_plot(RESULTS).axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in axis.lines}
    assert lines == {
        "slide": [[1, 50], [1.5, 49.5]],
        "whole, bilinear, circular": [[1, 48.75], [1.5, 50], [2, 47]],
        "whole, spectral_pad, circular": [],
    }
