"""The COCO files that a config reads, and for what purpose, without building a dataset."""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mmengine.config import ConfigDict
from mmengine.registry import DATASETS, METRICS

from gfnet_dense.datasets.checks.detection_classes import find_class, thing_classes
from gfnet_dense.utils.config import (
    evaluators_of,
    find_datasets,
    is_remote,
    registered_class,
    type_name,
    typed_configs,
)

from .names import list_names
from .structure import Purpose


@dataclass(frozen=True)
class CocoUse:
    """One use of a COCO file.

    Attributes:
        path: The file.
        classes: Class names of the config in their order.
        purpose: What the file is for.
        by: Key of the config that names the file, 'val_evaluator'.
        with_masks: Whether masks are read.
        only_polygons: Whether masks in run lengths are left out.
        folder: Folder of the pictures, None for an evaluator.
        is_turned: Whether photos are turned by their EXIF orientation when they are loaded.
        filter_cfg: mmdetection's rules for images that a dataset leaves out.
        is_part: Whether the dataset has a part of the images only (``indices``).
    """

    path: Path
    classes: tuple[str, ...]
    purpose: Purpose
    by: str
    with_masks: bool = False
    only_polygons: bool = False
    folder: Path | None = None
    is_turned: bool = True
    filter_cfg: dict = field(default_factory=dict)
    is_part: bool = False


def find_uses(cfg: ConfigDict, split: str) -> list[CocoUse]:
    """Return the uses of COCO files by the datasets and the evaluators of a split.

    Datasets and evaluators count if they read files as mmdetection's CocoDataset and CocoMetric do:
    LVIS, Objects365, panoptic and other files have rules of their own.

    Args:
        cfg: A whole config of mmdetection.
        split: 'train', 'val' or 'test'.

    Raises:
        InputError: If the class names of a dataset are invalid.
    """
    loader = cfg.get(f"{split}_dataloader")
    if loader is None or cfg.get("default_scope") != "mmdet":
        return []
    evaluators = evaluators_of(cfg, split)
    purpose: Purpose = "training" if split == "train" else "evaluation"
    if evaluators and all(each.get("format_only") for each in evaluators):
        purpose = "prediction"
    datasets = find_datasets(loader["dataset"])
    uses = [use for each in datasets if (use := _of_dataset(each, cfg, split, purpose)) is not None]
    named = (thing_classes(dataset, cfg.default_scope) for dataset in datasets)
    classes = next((tuple(names) for names in named if names is not None), ())
    for each in evaluators:
        if classes and each.get("ann_file") and _is_coco_metric(each, cfg.default_scope):
            use = CocoUse(
                Path(each["ann_file"]),
                classes,
                "prediction" if each.get("format_only") else "evaluation",
                f"{split}_evaluator",
                with_masks="segm" in _metrics(each),
            )
            uses = _merge(uses, use)
    return uses


def faults_of_evaluators(cfg: ConfigDict, split: str, uses: list[CocoUse]) -> list[str]:
    """Return why CocoMetric could not evaluate the datasets of a split, or would do it wrongly.

    Args:
        cfg: A whole config of mmdetection.
        split: 'val' or 'test'.
        uses: Uses of the split, see :func:`find_uses`.
    """
    loader, faults = cfg.get(f"{split}_dataloader"), []
    if loader is None or cfg.get("default_scope") != "mmdet":
        return []
    of_datasets = {os.path.realpath(use.path): use.path for use in uses if use.folder is not None}
    for each in evaluators_of(cfg, split):
        if not _is_coco_metric(each, cfg.default_scope):
            continue
        if "segm" in _metrics(each) and _has_no_masks(cfg.get("model")):
            faults.append(
                f"{split}_evaluator measures masks (metric='segm'), but the model has no mask_head "
                "and predicts boxes alone: set metric='bbox'"
            )
        path = each.get("ann_file")
        others = dict(of_datasets)
        if path and others.pop(os.path.realpath(path), None) and others:
            faults.append(
                f"the {split}_evaluator reads {path} alone, but the {split}_dataloader has the "
                f"pictures of {list_names([str(other) for other in others.values()])}, too, whose "
                "ids may mean other pictures: put all into one file, or evaluate them apart with "
                "MultiDatasetsEvaluator"
            )
        # CocoMetric makes a file of its own from the objects that the pipeline hands over.
        elif not path and not all(
            "instances" in transform.get("meta_keys", ())
            for dataset in find_datasets(loader["dataset"])
            for transform in typed_configs(dataset.get("pipeline"))
            if type_name(transform) == "PackDetInputs"
        ):
            file = f" to {next(iter(of_datasets.values()))}" if of_datasets else ""
            faults.append(
                f"CocoMetric in {split}_evaluator has no ann_file: set it{file}, or add "
                f"'instances' to meta_keys of PackDetInputs in the {split}_dataloader"
            )
    return faults


def _metrics(evaluator: ConfigDict) -> list[str]:
    """Return the metrics of a CocoMetric, one or several in the config."""
    metric = evaluator.get("metric", "bbox")
    return [metric] if isinstance(metric, str) else list(metric)


def _has_no_masks(model: Any) -> bool:
    """Return whether a detector certainly predicts no masks: two stages without a mask head.

    Detectors of one stage say it in no common way, see :mod:`..checks.evaluated_masks`.
    """
    head = model.get("roi_head") if isinstance(model, dict) else None  # or it was built elsewhere
    return isinstance(head, dict) and not any("mask" in key and head[key] for key in head)


def _of_dataset(
    dataset: ConfigDict, cfg: ConfigDict, split: str, purpose: Purpose
) -> CocoUse | None:
    """Return how a dataset uses its COCO file, None if it has none."""
    cls, stock = find_class(dataset, cfg.default_scope), DATASETS.get("mmdet.CocoDataset")
    if (
        cls is None
        or not dataset.get("ann_file")
        or is_remote(dataset)
        or getattr(cls, "COCOAPI", None) is not stock.COCOAPI
        or cls.load_data_list is not stock.load_data_list
        or cls.parse_data_info is not stock.parse_data_info
    ):
        return None
    classes = thing_classes(dataset, cfg.default_scope)
    if classes is None:
        return None
    root = dataset.get("data_root") or ""
    transforms = list(typed_configs(dataset.get("pipeline")))
    loads = [each for each in transforms if type_name(each) == "LoadAnnotations"]
    images = [each for each in transforms if type_name(each) == "LoadImageFromFile"]
    with_masks = any(each.get("with_mask") for each in loads)
    is_filtered = cls.filter_data is stock.filter_data and not dataset.get("test_mode")
    colors = images[0].get("color_type", "color") if images else "color"
    return CocoUse(
        Path(root, dataset["ann_file"]),
        tuple(classes),
        purpose if purpose != "training" or loads else "prediction",  # images without labels
        f"{split}_dataloader",
        with_masks=with_masks,
        only_polygons=with_masks and not all(each.get("poly2mask", True) for each in loads),
        folder=Path(root, (dataset.get("data_prefix") or {}).get("img") or ""),
        is_turned=colors != "unchanged" and not colors.endswith("ignore_orientation"),
        filter_cfg=dict(dataset.get("filter_cfg") or {}) if is_filtered else {},
        is_part=dataset.get("indices") is not None,
    )


def _is_coco_metric(evaluator: ConfigDict, scope: str) -> bool:
    cls = registered_class(METRICS, evaluator, scope)
    return cls is not None and issubclass(cls, METRICS.get("mmdet.CocoMetric"))


def _merge(uses: list[CocoUse], other: CocoUse) -> list[CocoUse]:
    """Return uses and another one, merged with one of the same file for the same purpose."""
    for i, use in enumerate(uses):
        is_same = os.path.realpath(use.path) == os.path.realpath(other.path)
        if is_same and (use.classes, use.purpose) == (other.classes, other.purpose):
            merged = replace(use, with_masks=use.with_masks or other.with_masks)
            return [*uses[:i], merged, *uses[i + 1 :]]
    return [*uses, other]
