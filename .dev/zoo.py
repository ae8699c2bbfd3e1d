"""The page of all configs, configs/README.md, and their index, model-index.yml."""

from collections.abc import Sequence
from dataclasses import dataclass

import yaml
from mmengine.config import Config
from torch import nn

from gfnet_dense.benchmark.complexity import Complexity, count_flops
from gfnet_dense.benchmark.whole_model import build_model
from gfnet_dense.utils.config import find_datasets
from gfnet_dense.utils.tables import format_table
from gfnet_dense.utils.types import Size

LARGE = (1024, 1024)

# What the names in configs stand for on the page; a name that is not here stands for itself.
TASKS = {"mmseg": "Semantic segmentation", "mmdet": "Detection and instance segmentation"}
DATASETS = {
    "ADE20KDataset": "ADE20K",
    "BaseSegDataset": "your own images",
    "CityscapesDataset": "Cityscapes",
    "CocoDataset": "COCO 2017",
    "PascalVOCDataset": "Pascal VOC 2012 + SBD",
}
METHODS = {
    "CascadeRCNN": "Cascade Mask R-CNN",
    "DINO": "DINO, 4 scales",
    "FasterRCNN": "Faster R-CNN",
    "FPNHead": "Semantic FPN",
    "Mask2FormerHead": "Mask2Former",
    "MaskRCNN": "Mask R-CNN",
    "SegformerHead": "SegFormer's head",
    "UPerHead": "UPerNet",
}
BACKBONES = {
    "h-tiny": "GFNet-H-Ti",
    "h-small": "GFNet-H-S",
    "h-base": "GFNet-H-B",
    "tiny": "GFNet-Ti",
    "xsmall": "GFNet-XS",
    "small": "GFNet-S",
    "base": "GFNet-B",
}

_PVT = "PVT's paper", "https://arxiv.org/abs/2102.12122"
# dataset, method, backbone, mIoU, who reported it, where
PUBLISHED = [
    ("ADE20K", "Semantic FPN", "ResNet-50", 36.7, *_PVT),
    ("ADE20K", "Semantic FPN", "PVT-Small", 39.8, *_PVT),
    (
        "ADE20K", "Semantic FPN", "PoolFormer-S24", 40.3,
        "PoolFormer's paper", "https://arxiv.org/abs/2111.11418",
    ),
    (
        "ADE20K", "Semantic FPN", "GFNet-H-B", 44.8,
        "GFNet's paper", "https://arxiv.org/abs/2107.00645",
    ),
    (
        "ADE20K", "UPerNet", "Swin-T", 44.5,
        "Swin's repository",
        "https://github.com/SwinTransformer/Swin-Transformer-Semantic-Segmentation",
    ),
    (
        "ADE20K", "UPerNet", "ConvNeXt-T", 46.0,
        "ConvNeXt's repository",
        "https://github.com/facebookresearch/ConvNeXt/tree/main/semantic_segmentation",
    ),
    (
        "ADE20K", "UPerNet", "HorNet-T (GF)", 49.2,
        "HorNet's repository",
        "https://github.com/raoyongming/HorNet/tree/master/semantic_segmentation",
    ),
]  # fmt: skip

PAGE = """\
# Configs

Written by `python .dev/zoo_page.py` from the configs themselves: run it after a change.

This project has trained none of these full-size models, and the page shows no accuracy of its own.
What others report is below, under "Published figures".

- **Image** is the training crop of a segmentor, the size of the test images of a detector (shorter
  and longer side at most).
- **Batch** is GPUs x images for each, which the learning rate is for. With another number add
  `--cfg-options auto_scale_lr.enable=True`. On 8 GPUs the command is
  `tools/dist_train.sh CONFIG 8`.
- **Parameters** are all that are trained, an auxiliary head included.
- **FLOPs** are of one image in evaluation, without the auxiliary head; two-stage detectors look at
  1000 proposals, their mask heads at 100. As in papers, one
  multiply-add counts as one; norms, activations and interpolation count nothing. In brackets is the
  share of the global filters, which many counters leave out: a Fourier transform of N real points
  counts 5/4 N log2 N (a complex one twice that), a complex product 3. Filters are resized once for
  each image size and kept: that does not count. Without this share Semantic FPN on ADE20K has the
  128, 182 and 265 G at 1024x1024 that GFNet's authors publish.
- Mask2Former needs mmcv's compiled operators: `make install-det`.

{tables}

## Published figures

Reported by others, for their own models and training; none of them was measured or reproduced here.
Single-scale testing, where the source tells it from multi-scale.

{published}
"""

INDEX = """\
# Written by .dev/zoo_page.py. Nothing here was trained by this project: no results, no weights.
# FLOPs are multiply-adds of one image of the given size, Fourier transforms included.
"""


@dataclass(frozen=True)
class Settings:
    """What a config says about a model and its training."""

    name: str
    task: str
    dataset: str
    method: str
    backbone: str
    size: Size
    schedule: str
    batch_size: int
    batch_size_per_gpu: int


@dataclass(frozen=True)
class Cost:
    """What a model costs: parameters, multiply-adds for an image of its size and of LARGE."""

    parameters: int
    image: Complexity
    large: Complexity


def read_settings(name: str, cfg: Config) -> Settings:
    """Return the settings of the config called ``name``."""
    model, train_cfg = cfg.model, cfg.train_cfg
    dataset = find_datasets(cfg.train_dataloader.dataset)[0]["type"]
    method = (model.get("decode_head") or model).type
    if "max_epochs" in train_cfg:
        schedule = f"{train_cfg.max_epochs} epochs"
    else:
        schedule = f"{train_cfg.max_iters / 1000:g}k iterations"
    return Settings(
        name=name,
        task=TASKS.get(cfg.default_scope, cfg.default_scope),
        dataset=DATASETS.get(dataset, dataset),
        method=METHODS.get(method, method),
        backbone=BACKBONES.get(model.backbone.arch, model.backbone.arch),
        size=_image_size(cfg),
        schedule=schedule,
        batch_size=cfg.auto_scale_lr.base_batch_size,
        batch_size_per_gpu=cfg.train_dataloader.batch_size,
    )


def _image_size(cfg: Config) -> Size:
    """Return (H, W) of a training crop, or of the images that a detector is tested on."""
    if "size" in cfg.model.data_preprocessor:
        return tuple(cfg.model.data_preprocessor.size)
    pipeline = find_datasets(cfg.test_dataloader.dataset)[0].pipeline
    (scale,) = (transform["scale"] for transform in pipeline if transform["type"] == "Resize")
    return min(scale), max(scale)


def measure_cost(cfg: Config) -> Cost:
    """Count the parameters and FLOPs of a config's model; no weights are loaded."""
    divisor = cfg.model.data_preprocessor.get("pad_size_divisor", 1)
    h, w = (-(-side // divisor) * divisor for side in _image_size(cfg))
    try:
        return _measure_cost(build_model(cfg, "meta"), (h, w))
    except RuntimeError:  # Mask2Former and others look at the values of tensors
        return _measure_cost(build_model(cfg, "cpu"), (h, w))


def _measure_cost(model: nn.Module, size: Size) -> Cost:
    return Cost(
        parameters=sum(p.numel() for p in model.parameters()),
        image=count_flops(model, size),
        large=count_flops(model, LARGE),
    )


def format_page(zoo: Sequence[tuple[Settings, Cost]]) -> str:
    """Return configs/README.md: a table for each task and dataset, and published figures."""
    groups = {}
    for settings, cost in sorted(
        zoo, key=lambda x: (x[0].task, x[0].dataset, x[0].method, x[1].parameters, x[0].name)
    ):
        groups.setdefault(f"{settings.task}, {settings.dataset}", []).append(_row(settings, cost))
    head = [
        "config", "method", "backbone", "image", "schedule", "batch", "parameters",
        "FLOPs of the image", f"FLOPs at {_times(LARGE)}", "train",
    ]  # fmt: skip
    tables = [
        f"## {title}\n\n{format_table([head, *rows], left=(0, 1, 2, 9))}"
        for title, rows in groups.items()
    ]
    published = [["dataset", "method", "backbone", "mIoU", "reported in"]]
    published += [
        [dataset, method, backbone, f"{miou:.1f}", f"[{who}]({where})"]
        for dataset, method, backbone, miou, who, where in PUBLISHED
    ]
    return PAGE.format(
        tables="\n\n".join(tables),
        published=format_table(published, left=(0, 1, 2, 4)),
    )


def _row(settings: Settings, cost: Cost) -> list[str]:
    per_gpu = settings.batch_size_per_gpu
    return [
        f"[{settings.name}]({settings.name}.py)",
        settings.method,
        settings.backbone,
        _times(settings.size),
        settings.schedule,
        f"{settings.batch_size // per_gpu} x {per_gpu}",
        f"{cost.parameters / 1e6:.1f} M",
        _flops(cost.image),
        _flops(cost.large),
        f"`python tools/train.py configs/{settings.name}.py`",
    ]


def _flops(flops: Complexity) -> str:
    return f"{flops.total / 1e9:.1f} G ({flops.filters / flops.total:.1%})"


def _times(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def format_index(zoo: Sequence[tuple[Settings, Cost]]) -> str:
    """Return model-index.yml in the form of OpenMMLab's."""
    zoo = sorted(zoo, key=lambda x: x[0].name)
    collection = {
        "Name": "GFNet",
        "License": "Apache License 2.0",
        "Metadata": {
            "Training Data": sorted({settings.dataset for settings, _ in zoo}),
            "Architecture": ["Global Filter Network"],
        },
        "Paper": {
            "Title": "Global Filter Networks for Image Classification",
            "URL": "https://arxiv.org/abs/2107.00645",
        },
        "README": "configs/README.md",
        "Code": "gfnet_dense/models/backbones/gfnet.py",
        "Frameworks": ["PyTorch"],
    }
    models = [
        {
            "Name": settings.name,
            "In Collection": "GFNet",
            "Config": f"configs/{settings.name}.py",
            "Metadata": {
                "Training Data": settings.dataset,
                "Batch Size": settings.batch_size,
                "Schedule": settings.schedule,
                "Architecture": [settings.backbone, settings.method],
                "Image Size": list(settings.size),
                "Parameters": cost.parameters,
                "FLOPs": cost.image.total,
                "FLOPs of Global Filters": cost.image.filters,
                f"FLOPs at {_times(LARGE)}": cost.large.total,
                f"FLOPs of Global Filters at {_times(LARGE)}": cost.large.filters,
            },
        }
        for settings, cost in zoo
    ]
    index = {"Collections": [collection], "Models": models}
    return INDEX + yaml.safe_dump(index, sort_keys=False, width=100)
