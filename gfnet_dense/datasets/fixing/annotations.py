"""Mending of the categories and the annotations of a COCO file, in place."""

import numpy as np

from gfnet_dense.datasets.coco.annotations import AnnotationArrays
from gfnet_dense.datasets.coco.file import CocoReport, describe, inspect
from gfnet_dense.datasets.coco.names import check_names
from gfnet_dense.datasets.coco.structure import shorten
from gfnet_dense.datasets.coco.uses import CocoUse
from gfnet_dense.datasets.survey.contents import Problem

from .copy import Plan

SLACK = 1e-3  # boxes may reach this far out of their picture, in pixels


def mend_categories(plan: Plan, content: dict, use: CocoUse) -> None:
    """Take out unused root categories, and bring the others into the order of the config."""
    used = {each.get("category_id") for each in content.get("annotations", [])}
    categories = content["categories"]
    names = [each.get("name") for each in categories]
    parents = {each.get("supercategory") for each in categories}
    kept = []
    for each, name in zip(categories, names, strict=True):
        is_root = name in parents and name not in use.classes
        if each["id"] not in used and (is_root or names.count(name) > 1):
            plan.say(f"{use.path}: the unused category {each['id']} {name!r} is taken out")
        else:
            kept.append(each)
    content["categories"] = kept
    order = [each.get("name") for each in kept if each.get("name") in use.classes]
    if sorted(order) == sorted(use.classes) and order != list(use.classes):
        place = {name: i for i, name in enumerate(use.classes)}
        kept.sort(key=lambda each: place.get(each.get("name"), len(place)))
        plan.say(
            f"{use.path}: its categories are in the order of the config, {', '.join(use.classes)}; "
            f"it was {', '.join(order)}",
        )


def mend_annotations(plan: Plan, content: dict, use: CocoUse, doubtful: set[int]) -> None:
    """Take out annotations that cannot be used, and clip boxes to their pictures.

    Args:
        plan: Gets a line for each change.
        content: Content of a COCO file, changed in place.
        use: What the file is for.
        doubtful: Ids of images of unknown size, whose boxes stay as they are.
    """

    def report() -> CocoReport:
        return inspect(
            content, use.path, use.classes, use.with_masks, use.purpose, use.only_polygons
        )

    if check_names(content["categories"], use.classes, use.path) or not all(
        map(_has_size, content["images"])
    ):
        plan.left += [Problem("", sentence) for sentence in report().errors]
        return
    if not content.get("annotations"):
        return
    arrays = AnnotationArrays(content, use.classes)
    _take_out(
        plan, content, use, arrays.image_index < 0, "image_id", "its image is not in the file"
    )
    arrays = AnnotationArrays(content, use.classes)
    malformed = np.isnan(arrays.boxes[:, 0])
    _take_out(plan, content, use, malformed, "bbox", "its bbox is not four numbers")
    errors = report().errors
    if errors:  # of all annotations together, such as corners in place of sizes
        plan.left += [Problem("", sentence) for sentence in errors]
        return
    arrays = AnnotationArrays(content, use.classes)
    x, y, w, h = arrays.boxes.T
    height, width = arrays.sizes.T
    empty = (w <= 0) | (h <= 0)
    outside = (x >= width) | (y >= height) | (x + w <= 0) | (y + h <= 0)
    outside &= _is_sure(content, doubtful)
    _take_out(plan, content, use, empty, "bbox", "its box has no area")
    _take_out(plan, content, use, outside[~empty], "bbox", "its box is outside")
    _clip_boxes(plan, content, use, doubtful)
    plan.left += [Problem("", sentence) for sentence in report().errors]


def _is_sure(content: dict, doubtful: set[int]) -> np.ndarray:
    """Return (N,) bool, whether the size of each annotation's image is known."""
    return np.array([each["image_id"] not in doubtful for each in content["annotations"]], bool)


def _has_size(image: dict) -> bool:
    """Return whether an entry of a COCO file has a size in whole pixels."""
    return all(type(image.get(key)) is int and image[key] > 0 for key in ("width", "height"))


def _take_out(
    plan: Plan, content: dict, use: CocoUse, flags: np.ndarray, key: str, reason: str
) -> None:
    """Take out the flagged annotations, with a line for each."""
    annotations = content["annotations"]
    for i in np.flatnonzero(flags).tolist():
        value = shorten(annotations[i].get(key))
        plan.say(
            f"{use.path}: {describe(content, i)} is taken out, {reason}: {key} {value}",
        )
    content["annotations"] = [
        each for each, flag in zip(annotations, flags.tolist(), strict=True) if not flag
    ]


def _clip_boxes(plan: Plan, content: dict, use: CocoUse, doubtful: set[int]) -> None:
    """Clip boxes to their pictures; without a mask, also the area becomes that of the box."""
    arrays = AnnotationArrays(content, use.classes)
    x, y, w, h = arrays.boxes.T
    height, width = arrays.sizes.T
    left, top = x.clip(0, width), y.clip(0, height)
    clipped = np.stack([left, top, (x + w).clip(0, width) - left, (y + h).clip(0, height) - top], 1)
    reaches_out = (abs(clipped - arrays.boxes) > SLACK).any(1) & _is_sure(content, doubtful)
    for i in np.flatnonzero(reaches_out).tolist():
        annotation, box = content["annotations"][i], [round(n, 3) for n in clipped[i].tolist()]
        plan.say(
            f"{use.path}: the box of {describe(content, i)} is clipped to its picture: "
            f"{shorten(annotation['bbox'])} to {box}",
        )
        annotation["bbox"] = box
        if not annotation.get("segmentation"):
            annotation["area"] = box[2] * box[3]
