"""Every config of the repository, a new one included, trains and evaluates under --demo."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from gfnet_dense.utils.config import find_datasets
from gfnet_dense.utils.config_diff import ABSENT, diff_configs
from tests.commands import SHORT, run, tool
from tests.conftest import ROOT, config_param, needs_operators

CONFIGS = sorted((ROOT / "configs").glob("*_gfnet*.py"))
PARAMS = [config_param(path.stem, path) for path in CONFIGS]
SEGMENTORS = ("fpn", "mask2former", "segformer", "upernet")
DETECTORS = [path for path in CONFIGS if not path.stem.startswith(SEGMENTORS)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, demo_data):
    """A working directory with the demo data."""
    path = tmp_path_factory.mktemp("run")
    (path / "data").symlink_to(demo_data)
    return path


@pytest.mark.parametrize("path", PARAMS)
def test_config_trains_and_evaluates_under_demo(path, folder):
    options = [*SHORT.split(), "train_cfg.max_iters=2", "train_cfg.val_interval=2"]
    # Only the best checkpoint is written, without the state of the optimizer: with it, the largest
    # model takes 1 GB. The other tests of the commands write whole checkpoints.
    checkpoint = "default_hooks.checkpoint"
    options += [f"{checkpoint}.save_optimizer=False", f"{checkpoint}.save_last=False"]
    options += [f"{checkpoint}.interval=10"]
    if path in DETECTORS:
        options += ["model.test_cfg.score_thr=0"]  # scores of untrained one-stage detectors are low
    result = run(tool("train", path, "--demo", "--cfg-options", *options), folder)
    assert result.returncode == 0, result.stderr[-3000:]
    losses = re.findall(r"Iter\(train\) \[\d/2\].*? loss: ([\d.]+)", result.stdout)
    assert len(losses) == 2 and all(0 < float(loss) < 200 for loss in losses)
    metric = "bbox_mAP" if path in DETECTORS else "mIoU"
    assert re.search(rf"Iter\(val\) \[3/3\].*{metric}: \d", result.stdout)
    (best,) = (folder / "work_dirs" / "demo" / path.stem).glob("best_*_iter_2.pth")
    assert_weights_of_the_backbone_have_changed(best)
    best.unlink()


def assert_weights_of_the_backbone_have_changed(checkpoint):
    """Check that weights initialized as ones, zeros or a constant have changed in each block."""
    weights = torch.load(checkpoint, weights_only=False)["state_dict"]
    numbers = {"norm": 0, "bias": 0, "gamma": 0}
    for name, weight in weights.items():
        if re.fullmatch(r"backbone\..*norm\d+\.weight", name):
            kind, has_moved = "norm", (weight != 1).any()
        elif re.fullmatch(r"backbone\..*(norm\d+|fc\d)\.bias", name):
            kind, has_moved = "bias", weight.any()
        elif name.startswith("backbone.") and name.endswith(".gamma"):
            kind, has_moved = "gamma", weight.min() < weight.max()
        else:
            continue
        numbers[kind] += 1
        assert has_moved, f"{name} is as it was"
    blocks = sum(name.endswith("complex_weight") for name in weights)
    assert numbers["norm"] > 2 * blocks and numbers["bias"] > 4 * blocks
    assert numbers["gamma"] in (0, blocks)


@pytest.mark.parametrize("path", PARAMS)
def test_full_size_config_has_consistent_sizes_and_schedules(path):
    cfg = Config.fromfile(path)
    model, loader = cfg.model, cfg.train_dataloader
    assert cfg.auto_scale_lr.base_batch_size % loader.batch_size == 0
    assert model.backbone.init_cfg.checkpoint == f"gfnet://{model.backbone.arch}"
    assert model.backbone.img_size == 224
    hooks = {hook["type"] for hook in cfg.custom_hooks}
    assert {"gfnet_dense.FiniteLossHook", "gfnet_dense.CufftPlanCacheHook"} <= hooks
    if path in DETECTORS:
        assert cfg.param_scheduler[-1]["end"] == cfg.train_cfg.max_epochs
        return
    height, width = model.data_preprocessor.size
    for dataset in find_datasets(loader.dataset):
        (crop,) = (t for t in dataset.pipeline if t["type"] == "RandomCrop")
        assert tuple(crop["crop_size"]) == (height, width)
    assert cfg.param_scheduler[-1]["end"] == cfg.train_cfg.max_iters


# Source of a model in mmdetection's configs; keys outside the backbone that differ from it.
DIFFERENCES = {
    "mask-rcnn": ("_base_/models/mask-rcnn_r50_fpn.py", {}),
    "cascade-mask-rcnn": ("_base_/models/cascade-mask-rcnn_r50_fpn.py", {}),
    "faster-rcnn": ("_base_/models/faster-rcnn_r50_fpn.py", {}),
    # The backbone does not build the stage that the neck would leave out.
    "retinanet": ("_base_/models/retinanet_r50_fpn.py", {"neck.start_level": ABSENT}),
    "atss": ("atss/atss_r50_fpn_1x_coco.py", {"neck.start_level": ABSENT}),
    "dino-4scale": (
        "dino/dino-4scale_r50_8xb2-12e_coco.py",
        {"data_preprocessor.pad_size_divisor": 32},
    ),
}
DEFAULTS = ("debug", "target_means", "target_stds")  # spelled out in the library's configs


@needs_operators
@pytest.mark.parametrize("name", DIFFERENCES)
def test_detectors_equal_those_of_mmdetection_except_for_the_backbone(name):
    source, differences = DIFFERENCES[name]
    library = Path(find_spec("mmdet").origin).parent / ".mim" / "configs"
    theirs = Config.fromfile(library / source).model.to_dict()
    ours = Config.fromfile(ROOT / f"configs/_base_/models/{name}_gfnet.py").model.to_dict()
    found = {
        key: new
        for key, old, new in diff_configs(theirs, ours)
        if not key.startswith("backbone.")
        and not (new is ABSENT and key.rpartition(".")[2] in DEFAULTS)
    }
    in_channels = found.pop("neck.in_channels")
    assert in_channels in ([64, 128, 256, 512], [128, 256, 512])
    assert found == differences
