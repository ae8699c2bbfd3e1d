"""Tiny versions of the configs of mmsegmentation and mmdetection, for :mod:`stock`.

Methods, pipelines and schedules stay those of the libraries. Data are the synthetic scenes of the
demo, sizes a fraction, and a training has two iterations. ``--demo`` cannot serve: it knows how the
configs of this project are built, and replaces schedules and hooks.
"""

import importlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import Registry

from gfnet_dense.benchmark.whole_model import forget_weights
from gfnet_dense.datasets.synthetic.writers import ade20k_folder, coco_folder
from gfnet_dense.demo.scaling import change_values, scale_size
from gfnet_dense.demo.shrink_detection import CLASSES, PALETTE
from gfnet_dense.demo.shrink_segmentation import demo_classes
from gfnet_dense.utils.config import datasets_of, evaluators_of

SIDE = 128  # side of the training crop of segmentors and of the test image of detectors, in pixels
QUERIES = 100  # maximum number of queries and of boxes in an image
IMAGES = {"train": 4, "val": 3, "test": 3}  # images of each split
SIZES = ("scale", "scales", "img_scale", "crop_size", "size", "border", "random_size_range")


def find_stock_config(library: str, name: str) -> Path:
    """Return the path of a config in the installed wheel of a library, by its name without .py."""
    package = importlib.import_module(library)
    assert package.__file__ is not None
    (path,) = Path(package.__file__).parent.glob(f".mim/configs/*/{name}.py")
    return path


def tiny_config(path: Path, keep_weights: bool = False) -> Config:
    """Return the tiny version of a stock config.

    Args:
        path: A config of mmsegmentation or mmdetection.
        keep_weights: Whether it still starts from the weights that it names.
    """
    cfg = Config.fromfile(path)
    if not keep_weights:
        forget_weights(cfg.model)
    (_tiny_detection if cfg.default_scope == "mmdet" else _tiny_segmentation)(cfg)
    shorten(cfg)
    return cfg


def shorten(cfg: Config) -> None:
    """Set a training of two iterations and an evaluation of three images in a config, in place."""
    for split, count in IMAGES.items():
        loader = cfg[f"{split}_dataloader"]
        loader.update(batch_size=2 if split == "train" else 1, num_workers=0)
        loader.persistent_workers = False
        for dataset in datasets_of(cfg, split):
            dataset.indices = count
    is_epochs = "max_epochs" in cfg.train_cfg
    length = dict(max_epochs=1) if is_epochs else dict(max_iters=2)
    cfg.train_cfg.update(length, val_interval=1 if is_epochs else 2)
    cfg.train_cfg.pop("dynamic_intervals", None)
    cfg.default_hooks.logger.interval = 1
    cfg.default_hooks.checkpoint.interval = 1 if is_epochs else 2


def _tiny_segmentation(cfg: Config) -> None:
    model, classes = cfg.model, demo_classes()
    factor = SIDE / min(model.data_preprocessor.get("size") or cfg.crop_size)
    if "size" in model.data_preprocessor:
        model.data_preprocessor.size = scale_size(model.data_preprocessor.size, factor)
    for key in ("crop_size", "stride"):
        if key in model.test_cfg:
            model.test_cfg[key] = scale_size(model.test_cfg[key], factor)
    (dataset, *_) = datasets_of(cfg, "train")
    _set_classes(model, 19 if dataset.type == "CityscapesDataset" else 150, len(classes))
    for split, folder in dict(train="training", val="validation", test="validation").items():
        for dataset in datasets_of(cfg, split):
            dataset.update(
                type="ADE20KDataset",
                metainfo=dict(classes=classes),
                data_root=str(ade20k_folder()),
                data_prefix=dict(img_path=f"images/{folder}", seg_map_path=f"annotations/{folder}"),
            )
            change_values(dataset.pipeline, _scaled(factor))


def _tiny_detection(cfg: Config) -> None:
    scales = [
        transform.scale
        for dataset in datasets_of(cfg, "test")
        for transform in dataset.pipeline
        if "scale" in transform
    ]
    factor = SIDE / min(scales[0]) if scales else SIDE / 512  # CenterNet keeps the size
    for split, folder in dict(train="train2017", val="val2017", test="val2017").items():
        for dataset in datasets_of(cfg, split):
            dataset.update(
                type="CocoDataset",
                metainfo=dict(classes=CLASSES, palette=PALETTE),
                data_root=str(coco_folder()),
                ann_file=f"annotations/instances_{folder}.json",
                data_prefix=dict(img=folder),
            )
        change_values(cfg[f"{split}_dataloader"].dataset, _scaled(factor))
        for evaluator in evaluators_of(cfg, split):
            evaluator.ann_file = str(coco_folder() / f"annotations/instances_{folder}.json")
    for hook in cfg.get("custom_hooks") or []:  # those that switch the pipeline near the end
        change_values(hook, _scaled(factor))
    change_values(cfg.model.get("data_preprocessor"), _scaled(factor))
    # The masks of the scenes are run lengths, which mmdetection leaves out otherwise.
    change_values(cfg.train_dataloader.dataset, {"poly2mask": lambda _: True})
    change_values(cfg.get("custom_hooks") or [], {"poly2mask": lambda _: True})
    # The maps of small images have few positions to choose queries from.
    few = {key: lambda number: min(number, QUERIES) for key in ("num_queries", "max_per_img")}
    change_values(cfg.model, few)
    _set_classes(cfg.model, 80, len(CLASSES))


def _scaled(factor: float) -> Mapping[str, Any]:
    def scale(size: Any) -> Any:
        return scale_size(size, factor) if isinstance(size, (int, list, tuple)) else size

    return dict.fromkeys(SIZES, scale)


def _set_classes(model: ConfigDict, old: int, new: int) -> None:
    """Change the number of classes of a model's heads and losses, in place.

    Args:
        model: The model; heads with another number than ``old`` are of other things than classes.
        old: Number of classes of the stock config.
        new: Number of classes of the synthetic scenes.
    """

    def number(value: int) -> int:
        return new if value == old else value

    def weights(value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            return value
        return [1.0] * new + [0.1] * (len(value) - old)  # the last one is that of "no object"

    # RPN's and text heads have numbers of their own.
    names = ("num_classes", "num_things_classes")
    change_values(model, {**dict.fromkeys(names, number), "class_weight": weights})


def lazy_text(cfg: Config) -> str:
    """Return a config as text in the style with lazy imports, in which types are classes.

    As in mmdetection's pure Python configs, ``default_scope`` is None
    (https://github.com/open-mmlab/mmdetection, mmdet/configs/_base_/default_runtime.py).

    Args:
        cfg: A config in the old style, in which types are names.
    """
    found: dict[str, str] = {}  # module by class name
    settings = _with_marks(cfg.to_dict(), cfg.default_scope, found)
    settings["default_scope"] = None
    text = re.sub(r"'<(\w+)>'", r"\1", Config(settings).pretty_text)
    imports = "".join(f"from {module} import {name}\n" for name, module in found.items())
    return f"{imports}\n{text}"


def _with_marks(node: Any, scope: str, found: dict[str, str]) -> Any:
    """Return nested settings with ``<Name>`` for each name of a registered class."""
    if isinstance(node, (list, tuple)):
        return type(node)(_with_marks(each, scope, found) for each in node)
    if not isinstance(node, dict):
        return node
    # mmcv's ConvModule knows by name which activations take ``inplace``.
    kept = {key: value for key, value in node.items() if key == "act_cfg"}
    marked = {key: _with_marks(value, scope, found) for key, value in node.items()} | kept
    kind = marked.get("type")
    if isinstance(kind, str):
        cls = next(_classes_named(kind, scope), None)
        name = getattr(cls, "__name__", "")
        if cls is not None and found.setdefault(name, cls.__module__) == cls.__module__:
            marked["type"] = f"<{name}>"
    return marked


def _classes_named(kind: str, scope: str) -> Iterator[Any]:
    """Yield what the library of a name, by default ``scope`` or mmengine, has registered."""
    library, _, name = kind.rpartition(".")
    for each in [library] if library else [scope, "mmengine"]:
        for registry in vars(importlib.import_module(f"{each}.registry")).values():
            if isinstance(registry, Registry) and registry.scope == each:
                registry.import_from_location()
                if name in registry.module_dict:
                    yield registry.module_dict[name]
