"""Every config of the repository, a new one included, trains and evaluates under --demo."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper

from gfnet_dense.benchmark.whole_model import build_model
from gfnet_dense.checkpoint.official import TRAINED
from gfnet_dense.demo.scaling import change_values
from gfnet_dense.utils.config import find_datasets, read_config
from gfnet_dense.utils.config_diff import ABSENT, diff_configs
from tests.commands import SHORT, run, tool
from tests.conftest import ROOT, config_param, needs_operators

CONFIGS = sorted((ROOT / "configs").glob("*.py"))
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
    # Gradients of new gated convolutions are below the usual 1e-8, which would hide them.
    options += ["optim_wrapper.optimizer.eps=1e-20"]
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
        elif re.fullmatch(r"backbone\..*(norm\d+|fc\d|pwconv\d)\.bias", name):
            kind, has_moved = "bias", weight.any()
        elif re.fullmatch(r"backbone\..*\.gamma\d?", name):
            kind, has_moved = "gamma", weight.min() < weight.max()
        else:
            continue
        numbers[kind] += 1
        assert has_moved, f"{name} is as it was"
    blocks = sum(bool(re.fullmatch(r"backbone\..+\.norm1\.weight", name)) for name in weights)
    assert blocks > 5 and numbers["norm"] > 2 * blocks and numbers["bias"] > 4 * blocks
    assert numbers["gamma"] in (0, blocks, 2 * blocks)  # a HorNet has two in a block
    assert any(name.endswith("complex_weight") for name in weights)


HORNETS = ("tiny", "small", "base", "large")
# Configs whose published models store filters for 384
FILTERS_FOR_384 = {f"upernet_hornet-{size}-gf_ade20k" for size in HORNETS}
FILTERS_FOR_384.add("cascade-mask-rcnn_hornet-large-gf_coco-3x")


@pytest.mark.parametrize("path", PARAMS)
def test_full_size_config_has_consistent_sizes_and_schedules(path):
    cfg = Config.fromfile(path)
    model, loader = cfg.model, cfg.train_dataloader
    assert cfg.auto_scale_lr.base_batch_size % loader.batch_size == 0
    family = "hornet" if "_hornet" in path.stem else "gfnet"
    assert model.backbone.init_cfg.checkpoint == f"{family}://{model.backbone.arch}"
    assert model.backbone.img_size == (384 if path.stem in FILTERS_FOR_384 else 224)
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
# ConvNeXt's box heads, spelled out there; HorNet's authors take them, too
CONVNEXT = "convnext/cascade-mask-rcnn_convnext-t-p4-w7_fpn_4conv1fc-giou_amp-ms-crop-3x_coco.py"
DEFAULTS = ("debug", "target_means", "target_stds")  # spelled out in the library's configs


# Parameters that HorNet's authors state (the tables of their repository), in millions
PUBLISHED_PARAMETERS = {
    "upernet_hornet-tiny-gf_ade20k": 55,
    "upernet_hornet-small-gf_ade20k": 85,
    "upernet_hornet-base-gf_ade20k": 126,
    "upernet_hornet-large-gf_ade20k": 239,
    "cascade-mask-rcnn_hornet-tiny-gf_coco-3x": 80,
    "cascade-mask-rcnn_hornet-small-gf_coco-3x": 108,
    "cascade-mask-rcnn_hornet-base-gf_coco-3x": 146,
    "cascade-mask-rcnn_hornet-large-gf_coco-3x": 259,  # 253 with filters for 224
}


@pytest.mark.parametrize("name", [config_param(name) for name in PUBLISHED_PARAMETERS])
def test_models_with_published_weights_have_the_published_number_of_parameters(name):
    assert name in TRAINED
    model = build_model(read_config(ROOT / "configs" / f"{name}.py"), "meta")
    millions = sum(param.numel() for param in model.parameters()) / 1e6
    assert round(millions) == PUBLISHED_PARAMETERS[name]


def learning_rates(name):
    """Return the learning rate of each parameter of a config's backbone, relative to the heads'."""
    cfg = read_config(ROOT / "configs" / f"{name}.py")
    optimizer = build_optim_wrapper(build_model(cfg, "meta"), cfg.optim_wrapper).optimizer
    base = cfg.optim_wrapper.optimizer.lr
    rates = {n: g["lr"] / base for g in optimizer.param_groups for n in g["param_names"]}
    return {n.removeprefix("backbone."): r for n, r in rates.items() if n.startswith("backbone.")}


@pytest.mark.parametrize(
    ("size", "rate", "number"),
    [("tiny", 0.9, 6), ("small", 0.9, 12), ("base", 0.9, 12), ("large", 0.8, 12)],
)
def test_learning_rates_of_hornet_upernets_are_those_of_the_authors(size, rate, number):
    # The authors count number + 2 layers: the stem is layer 0, stage i is layer i, the last layer
    # is everything behind the blocks. They take the other downsampling layers for the stem.
    for name, found in learning_rates(f"upernet_hornet-{size}-gf_ade20k").items():
        stage = re.match(r"stages\.(\d)", name)
        if stage or name.startswith("downsample_layers."):
            layer = int(stage[1]) + 1 if stage else 0
            assert found == pytest.approx(rate ** (number + 1 - layer)), name
        elif name.startswith("norm"):
            assert found == 1, name


@needs_operators
@pytest.mark.parametrize(("size", "rate"), [("tiny", 0.7), ("base", 0.8), ("large", 0.7)])
def test_learning_rates_of_hornet_detectors_are_those_of_the_authors(size, rate):
    # The authors count 14 layers: the stem, stages 1 and 2, the third stage in pairs of blocks,
    # stage 4, everything behind it. A rate for each block is within half a layer of that.
    for name, found in learning_rates(f"cascade-mask-rcnn_hornet-{size}-gf_coco-3x").items():
        place = re.match(r"(stages|downsample_layers)\.(\d)\.(\d+)", name)
        if not place:
            assert name.startswith("norm") and found == 1
            continue
        kind, stage, block = place[1], int(place[2]), int(place[3])
        first = [1, 2, 3, 12][stage]
        layer = first + (block // 2 if stage == 2 and kind == "stages" else 0)
        if name.startswith("downsample_layers.0."):
            layer = 0
            assert found == pytest.approx(rate**13)
        assert rate**0.51 < found / rate ** (13 - layer) < rate**-0.51, name


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


@needs_operators
def test_hornet_detectors_equal_mmdetections_convnext_except_for_the_backbone():
    library = Path(find_spec("mmdet").origin).parent / ".mim" / "configs"
    theirs = Config.fromfile(library / CONVNEXT, import_custom_modules=False)
    ours = Config.fromfile(ROOT / "configs" / "cascade-mask-rcnn_hornet-tiny-gf_coco-3x.py")
    for head in theirs.model.roi_head.bbox_head:
        assert head.pop("num_shared_convs") == 4 and head.pop("num_shared_fcs") == 1
        head.type = "Shared4Conv1FCBBoxHead"
    found = [
        key
        for key, _, new in diff_configs(theirs.model.to_dict(), ours.model.to_dict())
        if not key.startswith("backbone.")
        and not (new is ABSENT and key.rpartition(".")[2] in DEFAULTS)
    ]
    assert found == ["neck.in_channels"]
    assert ours.model.backbone.drop_path_rate == theirs.model.backbone.drop_path_rate
    assert ours.optim_wrapper.optimizer == theirs.optim_wrapper.optimizer
    assert ours.param_scheduler == theirs.param_scheduler
    loaded = [cfg.train_dataloader.dataset.pipeline for cfg in (theirs, ours)]
    for pipeline in loaded:
        change_values(pipeline, {"scales": lambda scales: [tuple(sorted(s)) for s in scales]})
    assert {key for key, *_ in diff_configs(*loaded)} == {".0.backend_args", ".0.imdecode_backend"}


def test_hornet_segmentors_with_crops_of_640_equal_mmsegmentations_convnext():
    library = Path(find_spec("mmseg").origin).parent / ".mim" / "configs" / "convnext"
    path = library / "convnext-base_upernet_8xb2-amp-160k_ade20k-640x640.py"
    theirs = Config.fromfile(path, import_custom_modules=False)
    ours = Config.fromfile(ROOT / "configs" / "upernet_hornet-base-gf_ade20k.py")
    assert ours.model.test_cfg == theirs.model.test_cfg
    assert ours.model.data_preprocessor == theirs.model.data_preprocessor
    for head in ("decode_head", "auxiliary_head"):
        differences = [key for key, *_ in diff_configs(theirs.model[head], ours.model[head])]
        assert differences == ["type"]
    assert ours.optim_wrapper.optimizer == theirs.optim_wrapper.optimizer
    assert ours.param_scheduler == theirs.param_scheduler
    for split in ("train", "test"):
        pipelines = [cfg[f"{split}_dataloader"].dataset.pipeline for cfg in (theirs, ours)]
        differences = {key.rpartition(".")[2] for key, *_ in diff_configs(*pipelines)}
        assert differences == {"imdecode_backend", "reduce_zero_label"}  # the dataset has this one
    # Theirs are factors of the size, ours are sizes.
    resizes = [cfg.tta_pipeline[1].transforms[0] for cfg in (theirs, ours)]
    for factor, size in zip(*resizes, strict=True):
        assert size.scale == (2560 * factor.scale_factor, 640 * factor.scale_factor)
