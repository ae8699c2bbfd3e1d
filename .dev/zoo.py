"""Write configs/README.md, the page of all configs, and model-index.yml, their index."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from mmengine.config import Config
from torch import nn

from gfnet_dense.benchmark.complexity import Complexity, count_flops
from gfnet_dense.benchmark.whole_model import build_model
from gfnet_dense.checkpoint.official import OFFICIAL_FILES, TRAINED
from gfnet_dense.utils.config import find_datasets
from gfnet_dense.utils.tables import format_table
from gfnet_dense.utils.types import Size

LARGE = (1024, 1024)  # size of the large image for which FLOPs are stated, in pixels

# Names in configs, and the names for them on the page; the page shows all other names unchanged.
TASKS = {"mmseg": "Semantic segmentation", "mmdet": "Detection and instance segmentation"}
DATASETS = {
    "ADE20KDataset": "ADE20K",
    "CityscapesDataset": "Cityscapes",
    "CocoDataset": "COCO 2017",
    "PascalVOCDataset": "Pascal VOC 2012 + SBD",
}
OWN = "your own images"
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
    "tiny-gf": "HorNet-T-GF",
    "small-gf": "HorNet-S-GF",
    "base-gf": "HorNet-B-GF",
    "large-gf": "HorNet-L-GF",
}

# Family of the backbones: architecture, and the paper's title and address
COLLECTIONS = {
    "GFNet": (
        "Global Filter Network",
        "Global Filter Networks for Image Classification",
        "https://arxiv.org/abs/2107.00645",
    ),
    "HorNet": (
        "Recursive Gated Convolution",
        "HorNet: Efficient High-Order Spatial Interactions with Recursive Gated Convolutions",
        "https://arxiv.org/abs/2207.14284",
    ),
}
# Tasks in the index, by the metrics of published figures
METRICS = {
    "mIoU": "Semantic Segmentation",
    "box AP": "Object Detection",
    "mask AP": "Instance Segmentation",
}

_PVT = "PVT's paper", "https://arxiv.org/abs/2102.12122"
_HORNET = "https://github.com/raoyongming/HorNet/tree/master"
_HORNET_ADE20K = "HorNet's repository", f"{_HORNET}/semantic_segmentation"
_HORNET_COCO = "HorNet's repository", f"{_HORNET}/object_detection"
_ADE20K = "ADE20K", "UPerNet"
_COCO = "COCO 2017", "Cascade Mask R-CNN"
# Dataset, method, backbone, metrics in percent, name and address of the source
PUBLISHED: list[tuple[str, str, str, dict[str, float], str, str]] = [
    ("ADE20K", "Semantic FPN", "ResNet-50", {"mIoU": 36.7}, *_PVT),
    ("ADE20K", "Semantic FPN", "PVT-Small", {"mIoU": 39.8}, *_PVT),
    (
        "ADE20K", "Semantic FPN", "PoolFormer-S24", {"mIoU": 40.3},
        "PoolFormer's paper", "https://arxiv.org/abs/2111.11418",
    ),
    (
        "ADE20K", "Semantic FPN", "GFNet-H-B", {"mIoU": 44.8},
        "GFNet's paper", "https://arxiv.org/abs/2107.00645",
    ),
    (
        *_ADE20K, "Swin-T", {"mIoU": 44.5},
        "Swin's repository",
        "https://github.com/SwinTransformer/Swin-Transformer-Semantic-Segmentation",
    ),
    (
        *_ADE20K, "ConvNeXt-T", {"mIoU": 46.0},
        "ConvNeXt's repository",
        "https://github.com/facebookresearch/ConvNeXt/tree/main/semantic_segmentation",
    ),
    (*_ADE20K, "HorNet-T-GF", {"mIoU": 49.2}, *_HORNET_ADE20K),
    (*_ADE20K, "HorNet-S-GF", {"mIoU": 50.0}, *_HORNET_ADE20K),
    (*_ADE20K, "HorNet-B-GF", {"mIoU": 50.5}, *_HORNET_ADE20K),
    (*_ADE20K, "HorNet-L-GF", {"mIoU": 55.0}, *_HORNET_ADE20K),
    (
        *_COCO, "Swin-T", {"box AP": 50.4, "mask AP": 43.7},
        "Swin's repository",
        "https://github.com/SwinTransformer/Swin-Transformer-Object-Detection",
    ),
    (
        *_COCO, "ConvNeXt-T", {"box AP": 50.4, "mask AP": 43.7},
        "ConvNeXt's repository",
        "https://github.com/facebookresearch/ConvNeXt/tree/main/object_detection",
    ),
    (*_COCO, "HorNet-T-GF", {"box AP": 52.4, "mask AP": 45.6}, *_HORNET_COCO),
    (*_COCO, "HorNet-S-GF", {"box AP": 53.3, "mask AP": 46.3}, *_HORNET_COCO),
    (*_COCO, "HorNet-B-GF", {"box AP": 54.0, "mask AP": 46.9}, *_HORNET_COCO),
    (*_COCO, "HorNet-L-GF", {"box AP": 56.0, "mask AP": 48.6}, *_HORNET_COCO),
]  # fmt: skip

PAGE = """\
# Configs

Written by `python .dev/zoo_page.py` from the configs themselves: run it after a change.

This project has trained none of these full-size models, so the tables state no accuracy of theirs.
HorNet's authors have trained those with "authors'" in the column of the weights:
`gfnet_dense.load_model(name, pretrained=True)` loads such a model by the name of its config.
Accuracies that authors report for their own models are in the last section, "Published figures".

- **Image** is the training crop of a segmentor (height x width), or the largest test image of a
  detector (shorter x longer side).
- **Batch** is GPUs x images per GPU. The learning rate is set for this batch; with another one add
  `--cfg-options auto_scale_lr.enable=True`. On 8 GPUs the command is
  `tools/dist_train.sh CONFIG 8`.
- **Parameters** include those of an auxiliary head.
- **FLOPs** are the multiply-adds for one image in evaluation, without the auxiliary head. A
  two-stage detector is counted with 1000 proposals, its mask heads with 100 boxes. Norms,
  activations and interpolation count nothing. The share of the global filters, which many counters
  leave out, is in brackets: a Fourier transform of N real points counts 5/4 N log2 N, one of N
  complex points twice as much, and a complex product 3. Resizing filters does not count, since they
  are resized once for each image size and then kept. Without the share of the global filters,
  Semantic FPN on ADE20K has the 128, 182 and 265 G at 1024x1024 that GFNet's authors publish.
- Mask2Former needs mmcv's compiled operators: `make install-det`.

{tables}

## Published figures

Others report these figures for their own models and training. This project has neither measured nor
reproduced any of them. Where the source distinguishes single-scale from multi-scale testing, the
figure is of single-scale testing. The detectors were trained for 36 epochs. HorNet-L-GF was
pretrained on ImageNet-22K, the others on ImageNet-1K.

{published}
"""

INDEX = """\
# Written by .dev/zoo_page.py. Nothing here was trained by this project: weights and results are
# those of the models' authors, published at the address under Source and not reproduced here.
# FLOPs are multiply-adds of one image of the given size, Fourier transforms included.
"""


@dataclass(frozen=True)
class Settings:
    """Properties of a model and its training that are read from its config.

    Attributes:
        name: Name of the config file, without its suffix.
        task: Name of the task on the page.
        dataset: Name of the dataset on the page.
        method: Name of the segmentor's head or of the detector on the page.
        backbone: Name of the backbone on the page.
        size: (H, W) of a segmentor's training crop; shorter and longer side of a detector's image.
        schedule: Length of the training, in epochs or iterations.
        batch_size: Images of one step, for which the learning rate is set.
        batch_size_per_gpu: Images of one step on one GPU.
    """

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
    """Cost of a model.

    Attributes:
        parameters: Number of parameters, those of auxiliary heads included.
        image: Multiply-adds for an image of the size in :class:`Settings`.
        large: Multiply-adds for an image of the size :data:`LARGE`.
    """

    parameters: int
    image: Complexity
    large: Complexity


def read_settings(name: str, cfg: Config) -> Settings:
    """Return the settings of the config ``cfg`` in the file ``name``.py."""
    model, train_cfg = cfg.model, cfg.train_cfg
    dataset = find_datasets(cfg.train_dataloader.dataset)[0]["type"]
    method = (model.get("decode_head") or model).type.removeprefix("gfnet_dense.")
    if "max_epochs" in train_cfg:
        schedule = f"{train_cfg.max_epochs} epochs"
    else:
        schedule = f"{train_cfg.max_iters / 1000:g}k iterations"
    return Settings(
        name=name,
        task=TASKS.get(cfg.default_scope, cfg.default_scope),
        dataset=OWN if name.endswith("_own-data") else DATASETS.get(dataset, dataset),
        method=METHODS.get(method, method),
        backbone=BACKBONES.get(model.backbone.arch, model.backbone.arch),
        size=_image_size(cfg),
        schedule=schedule,
        batch_size=cfg.auto_scale_lr.base_batch_size,
        batch_size_per_gpu=cfg.train_dataloader.batch_size,
    )


def _image_size(cfg: Config) -> Size:
    """Return (H, W) of a segmentor's training crop, or the short and long side for a detector."""
    if "size" in cfg.model.data_preprocessor:
        return tuple(cfg.model.data_preprocessor.size)
    pipeline = find_datasets(cfg.test_dataloader.dataset)[0].pipeline
    (scale,) = (transform["scale"] for transform in pipeline if "scale" in transform)
    return min(scale), max(scale)


def measure_cost(cfg: Config) -> Cost:
    """Count the parameters and FLOPs of a config's model without loading weights."""
    divisor = cfg.model.data_preprocessor.get("pad_size_divisor", 1)
    h, w = (-(-side // divisor) * divisor for side in _image_size(cfg))
    try:
        return _measure_cost(build_model(cfg, "meta"), (h, w))
    except RuntimeError:  # Mask2Former, for one, reads values of tensors: the meta device has none
        return _measure_cost(build_model(cfg, "cpu"), (h, w))


def _measure_cost(model: nn.Module, size: Size) -> Cost:
    return Cost(
        parameters=sum(p.numel() for p in model.parameters()),
        image=count_flops(model, size),
        large=count_flops(model, LARGE),
    )


def format_page(zoo: Sequence[tuple[Settings, Cost]]) -> str:
    """Return the text of configs/README.md, with a table for each pair of task and dataset."""
    groups = {}
    for settings, cost in sorted(
        zoo, key=lambda x: (x[0].task, x[0].dataset, x[0].method, x[1].parameters, x[0].name)
    ):
        groups.setdefault(f"{settings.task}, {settings.dataset}", []).append(_row(settings, cost))
    head = [
        "config", "method", "backbone", "image", "schedule", "batch", "parameters",
        "FLOPs of the image", f"FLOPs at {_times(LARGE)}", "weights", "train",
    ]  # fmt: skip
    tables = [
        f"## {title}\n\n{format_table([head, *rows], left=(0, 1, 2, 9, 10))}"
        for title, rows in groups.items()
    ]
    return PAGE.format(tables="\n\n".join(tables), published="\n\n".join(_published_tables()))


def _published_tables() -> list[str]:
    """Return a table of :data:`PUBLISHED` for each set of metrics."""
    tables: dict[tuple[str, ...], list[list[str]]] = {}
    for dataset, method, backbone, metrics, who, where in PUBLISHED:
        figures = [f"{value:.1f}" for value in metrics.values()]
        row = [dataset, method, backbone, *figures, f"[{who}]({where})"]
        tables.setdefault(tuple(metrics), []).append(row)
    return [
        format_table(
            [["dataset", "method", "backbone", *metrics, "reported in"], *rows],
            left=(0, 1, 2, 3 + len(metrics)),
        )
        for metrics, rows in tables.items()
    ]


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
        "authors'" if settings.name in TRAINED else "",
        f"`python tools/train.py configs/{settings.name}.py`",
    ]


def _flops(flops: Complexity) -> str:
    return f"{flops.total / 1e9:.1f} G ({flops.filters / flops.total:.1%})"


def _times(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def format_index(zoo: Sequence[tuple[Settings, Cost]]) -> str:
    """Return the text of model-index.yml, in the format of OpenMMLab's model indexes."""
    zoo = sorted(zoo, key=lambda x: x[0].name)
    index = {
        "Collections": [_collection(name, zoo) for name in COLLECTIONS],
        "Models": [_model(settings, cost) for settings, cost in zoo],
    }
    return INDEX + yaml.safe_dump(index, sort_keys=False, width=100)


def _family(settings: Settings) -> str:
    return next(name for name in COLLECTIONS if settings.backbone.startswith(name))


def _collection(name: str, zoo: Sequence[tuple[Settings, Cost]]) -> dict[str, Any]:
    architecture, title, url = COLLECTIONS[name]
    datasets = {settings.dataset for settings, _ in zoo if _family(settings) == name}
    return {
        "Name": name,
        "License": "Apache License 2.0",
        "Metadata": {"Training Data": sorted(datasets), "Architecture": [architecture]},
        "Paper": {"Title": title, "URL": url},
        "README": "configs/README.md",
        "Code": f"gfnet_dense/models/backbones/{name.lower()}.py",
        "Frameworks": ["PyTorch"],
    }


def _model(settings: Settings, cost: Cost) -> dict[str, Any]:
    model = {
        "Name": settings.name,
        "In Collection": _family(settings),
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
    if settings.name in TRAINED:
        key = (settings.dataset, settings.method, settings.backbone)
        metrics, where = next((row[3], row[5]) for row in PUBLISHED if row[:3] == key)
        model["Results"] = [
            {"Task": METRICS[name], "Dataset": settings.dataset, "Metrics": {name: value}}
            for name, value in metrics.items()
        ]
        model["Weights"] = OFFICIAL_FILES[TRAINED[settings.name]][1]
        model["Source"] = where
    return model
