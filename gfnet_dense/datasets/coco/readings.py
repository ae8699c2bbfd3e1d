"""Boxes that are meant in another way than COCO's [x, y, width, height] in pixels.

Programs for labeling export corners, centers, shares of the picture (0 to 1) and percent. Nothing
in mmdetection notices; the masks of the same objects, where there are any, prove how boxes are
meant.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from .annotations import AnnotationArrays
from .completion import encode_mask
from .masks import is_polygon

# From this share of boxes on, boxes that reach out, or that do not fit their masks, are told.
LARGE_SHARE = 0.05
# Boxes may reach this many pixels out of their picture, and out of their mask.
SLACK = 2
# From this number and this share of boxes that reach out on, boxes that look like corners are
# taken for corners. Corners that are spread evenly would reach out in three of four cases.
MANY, CORNER_SHARE = 4, 0.25
# Number of masks that are compared with their boxes: a few tenths of a second.
NUM_MASKS = 2000
# Least overlap (intersection over union) of a box and the box around its mask. The box of an
# object that is partly hidden may be larger than its mask.
OVERLAP = 0.5
# Boxes up to 100 are percent rather than pixels where no picture has a side below this.
LARGE_PICTURE = 200

CORNERS, CENTERS = "corners [x1, y1, x2, y2]", "centers [x, y, width, height]"
PERCENT, PIXELS = "percent of the picture", "COCO's boxes are [x, y, width, height] in pixels"


class Doubts(NamedTuple):
    """What is said about the boxes of a file: sentences that stop, and others."""

    errors: list[str]
    warnings: list[str]


def doubts_of_boxes(arrays: AnnotationArrays, path: Path) -> Doubts:
    """Return what is said about boxes that may be meant in another way.

    Args:
        arrays: The annotations of a file.
        path: The file, for the messages.
    """
    own = (arrays.label >= 0) & (arrays.image_index >= 0) & np.isfinite(arrays.boxes[:, 0])
    if not own.any():
        return Doubts([], [])
    boxes, sizes = arrays.boxes[own], arrays.sizes[own]
    x, y, w, h = boxes.T
    height, width = sizes.T
    is_inside = (boxes >= 0).all()
    if is_inside and max((x + w).max(), (y + h).max()) <= 1:
        return Doubts(
            [
                f"all boxes in {path} lie between 0 and 1, COCO's are in pixels: multiply x and "
                "width by the width of the picture, y and height by its height"
            ],
            [],
        )
    doubts = _compare_with_masks(arrays, own, path)
    if doubts.errors:
        return doubts
    reach = (x + w > width + SLACK) | (y + h > height + SLACK) | (np.minimum(x, y) < -SLACK)
    if reach.mean() > LARGE_SHARE:
        sentence = f"{reach.sum()} of {reach.size} boxes in {path} reach out of their picture"
        meant = next((name for name in (CORNERS, CENTERS) if _fit(boxes, sizes, name)), None)
        if meant and reach.size >= MANY and reach.mean() >= CORNER_SHARE:
            doubts.errors.append(f"{sentence}, and all would lie inside as {meant}: {PIXELS}")
        else:
            doubts.warnings.append(f"{sentence}: compare boxes and pictures")
    elif (
        is_inside
        and reach.size >= MANY
        and max((x + w).max(), (y + h).max()) <= 100 + SLACK
        and sizes.min() >= LARGE_PICTURE
    ):
        doubts.warnings.append(
            f"all boxes in {path} lie between 0 and 100, in pictures of {int(sizes.min())} pixels "
            f"and more: if they are {PERCENT}, multiply x and width by its width / 100, y and "
            "height by its height / 100"
        )
    return doubts


def _read(boxes: np.ndarray, sizes: np.ndarray, meant: str) -> np.ndarray:
    """Return boxes that are meant in some way as corners: (N, 4) x1, y1, x2, y2 in pixels."""
    if meant == CORNERS:
        return boxes
    if meant == CENTERS:
        boxes = np.hstack([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, 2:]])
    elif meant == PERCENT:
        boxes = boxes * np.tile(sizes[:, ::-1], 2) / 100
    return np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])


def _fit(boxes: np.ndarray, sizes: np.ndarray, meant: str) -> bool:
    """Return whether all boxes lie in their picture, if they are meant in some way."""
    corners = _read(boxes, sizes, meant)
    is_positive = (corners[:, 2:] > corners[:, :2]).all()
    return bool(
        is_positive
        and (corners[:, :2] >= -SLACK).all()
        and (corners[:, 2:] <= sizes[:, ::-1] + SLACK).all()
    )


def _compare_with_masks(arrays: AnnotationArrays, own: np.ndarray, path: Path) -> Doubts:
    """Compare boxes, spread over a file, with the boxes around the masks of the same objects."""
    is_positive = (arrays.boxes[:, 2:] > 0).all(1)
    candidates = np.flatnonzero(own & is_positive & ~arrays.crowd)
    step = max(len(candidates) // NUM_MASKS, 1)
    around = {
        int(i): box for i in candidates[::step] if (box := _around_mask(arrays, i)) is not None
    }
    if len(around) < MANY:
        return Doubts([], [])
    indices, masks = np.array(list(around)), np.array(list(around.values()))
    boxes, sizes = arrays.boxes[indices], arrays.sizes[indices]
    off = ~_agree(_read(boxes, sizes, PIXELS), masks)
    if off.sum() < MANY or off.mean() <= LARGE_SHARE:
        return Doubts([], [])
    sentence = (
        f"{off.sum()} of {len(off)} boxes in {path} that were compared with the masks of their "
        "objects lie elsewhere"
    )
    for meant in (CORNERS, CENTERS, PERCENT):
        if _agree(_read(boxes, sizes, meant), masks).mean() > 1 - LARGE_SHARE:
            return Doubts([f"{sentence}, and fit as {meant}: {PIXELS}"], [])
    first = arrays.annotations[indices[np.argmax(off)]]
    return Doubts(
        [],
        [
            f"{sentence}, first that of annotation {first.get('id')}: compare boxes and masks with "
            "the pictures"
        ],
    )


def _around_mask(arrays: AnnotationArrays, index: int) -> np.ndarray | None:
    """Return the box x1, y1, x2, y2 around a mask in pixels, None if there is no readable one."""
    annotation = arrays.annotations[index]
    mask = annotation.get("segmentation")
    if isinstance(mask, dict):
        from pycocotools import mask as coco_mask  # comes with mmdetection

        height, width = arrays.sizes[index].astype(int).tolist()
        code = encode_mask(annotation, {annotation["image_id"]: (height, width)})
        if code is None or not coco_mask.area(code):
            return None
        x, y, w, h = coco_mask.toBbox(code)
        return np.array([x, y, x + w, y + h])
    if not isinstance(mask, list) or not mask or not all(map(is_polygon, mask)):
        return None
    try:
        points = np.concatenate([np.asarray(each, np.float64).reshape(-1, 2) for each in mask])
    except (OverflowError, TypeError, ValueError):
        return None  # reported where masks are used
    if not np.isfinite(points).all():
        return None
    return np.concatenate([points.min(0), points.max(0)])


def _agree(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return whether boxes (N, 4) of corners overlap others, or differ by SLACK pixels at most."""
    low, high = np.maximum(boxes[:, :2], others[:, :2]), np.minimum(boxes[:, 2:], others[:, 2:])
    common = np.clip(high - low, 0, None).prod(1)
    union = sum(np.clip(each[:, 2:] - each[:, :2], 0, None).prod(1) for each in (boxes, others))
    is_near = (abs(boxes - others) <= SLACK).all(1)
    return is_near | (common >= OVERLAP * (union - common))
