"""Contact sheet of a data set: images of all classes with their annotations."""

from contextlib import suppress
from itertools import zip_longest
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from matplotlib import colormaps
from mmengine.structures import InstanceData

from gfnet_dense.datasets.survey.contents import AnnotatedImage, Report
from gfnet_dense.utils.errors import InputError

from .overlays import NOT_LABELED, class_colors, overlay_instances, overlay_labels
from .sheets import draw_sheet

NUM_EXAMPLES = 12  # largest number of images on a sheet
MAX_SIDE = 640  # larger images are drawn at this size, in pixels
COLORS = colormaps["tab10"]  # of classes without a palette


def draw_data_sheet(report: Report, path: Path) -> bool:
    """Draw images of a split with their annotations, of rare classes first.

    Args:
        report: What a survey has found.
        path: The PNG file to write.

    Returns:
        Whether there was an image to draw.
    """
    colors = report.palette or [
        tuple(round(255 * value) for value in COLORS(i % COLORS.N)[:3])
        for i in range(len(report.classes))
    ]
    metainfo = dict(classes=report.classes, palette=colors)
    cells: list[np.ndarray] = []
    present: set[int] = set()
    for example in choose_examples(report):
        cells += [example.image, _annotated(example, metainfo)]
        shown = example.classes if example.labels is None else example.labels
        present |= set(np.unique(shown).tolist())
    if not cells:
        return False
    per_row = 4 if len(cells) > 2 else 2
    rows = [tuple(cells[i : i + per_row]) for i in range(0, len(cells), per_row)]
    legend = class_colors(metainfo, present)
    if report.unit == "pixels" and 255 in present:
        legend["not labeled"] = NOT_LABELED
    draw_sheet(rows, ("image", "annotation") * (per_row // 2), legend, path, dpi=150)
    return True


def choose_examples(report: Report) -> list[AnnotatedImage]:
    """Load up to NUM_EXAMPLES images, in turn one of each class, of the rarest class first."""
    names = sorted(report.examples, key=lambda name: report.counts[name])
    turns = zip_longest(*(report.examples[name] for name in names))
    loaded: dict[str, AnnotatedImage] = {}
    for example in (each for turn in turns for each in turn if each is not None):
        if example.path not in loaded and len(loaded) < NUM_EXAMPLES:
            with suppress(InputError):  # the report names the file
                loaded[example.path] = _smaller(example.load())
    return list(loaded.values())


def _smaller(example: AnnotatedImage) -> AnnotatedImage:
    """Return a large image with its annotation at a size at which it is drawn."""
    height, width = example.image.shape[:2]
    factor = MAX_SIDE / max(height, width)
    if factor >= 1:
        return example
    size = max(1, round(factor * width)), max(1, round(factor * height))

    def nearest(array: np.ndarray) -> np.ndarray:
        return cv2.resize(array.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)

    labels, masks = example.labels, example.masks
    return example._replace(
        image=cv2.resize(example.image, size, interpolation=cv2.INTER_AREA),
        labels=None if labels is None else nearest(labels),
        boxes=factor * example.boxes,
        masks=None if masks is None else np.stack([nearest(mask) for mask in masks]).astype(bool),
    )


def _annotated(example: AnnotatedImage, metainfo: dict[str, Any]) -> np.ndarray:
    if example.labels is not None:
        return overlay_labels(example.image, example.labels, metainfo)
    instances = InstanceData(
        bboxes=torch.from_numpy(example.boxes), labels=torch.from_numpy(example.classes)
    )
    if example.masks is not None:
        instances.masks = torch.from_numpy(example.masks)
    return overlay_instances(example.image, instances, metainfo)
