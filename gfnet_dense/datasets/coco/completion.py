"""Filling in what a COCO file lacks, where it can have one meaning only.

Programs for labeling leave out ``iscrowd``, ``area`` or ``bbox``, write 0 for every area, or count
annotations from 0. mmdetection and pycocotools stop at some of this, and at some they leave out
objects without a word (open-mmlab/mmdetection#4436, cocodataset/cocoapi#507, #374).
"""

from dataclasses import dataclass
from typing import Any

from gfnet_dense.utils.types import Size

from .annotations import is_id, read_boxes
from .masks import check_mask, is_polygon


@dataclass(frozen=True)
class Filled:
    """Values that were filled in.

    Attributes:
        count: How many annotations or images were concerned.
        index: Index of the first of them in its list.
    """

    count: int
    index: int


def complete(content: dict) -> dict[str, Filled]:
    """Fill in what a COCO file lacks, in place.

    - Sizes of images, such as 640.0, become whole numbers.
    - ``iscrowd`` is 0, unless it says otherwise.
    - Of a mask, polygons of fewer than three points are removed if others stay.
    - ``bbox`` is the box around the mask.
    - ``area``, if it is no positive number, is that of the mask, without a mask that of the box.
    - Annotations are numbered from 1 if an ``id`` is missing, 0 or not unique: pycocotools takes a
      match with the id 0 for none, and nothing else refers to these ids.

    Entries that are broken otherwise are left as they are: :func:`.file.inspect` reports them.

    Args:
        content: Content of a COCO file; anything else passes.

    Returns:
        What was filled in, in words that follow a number: 'areas (from the mask or the box)'.
    """
    images = [each for each in _list(content, "images") if type(each) is dict]
    annotations = _list(content, "annotations")
    if not annotations or not all(type(each) is dict for each in annotations):
        return _report([("sizes of images (whole numbers)", _round_sizes(images))])
    return _report(
        [
            ("sizes of images (whole numbers)", _round_sizes(images)),
            ("values of iscrowd (0)", _fill_crowds(annotations)),
            (
                "masks (polygons of fewer than three points removed)",
                _drop_thin_polygons(annotations),
            ),
            *_fill_boxes_and_areas(annotations, images),
            ("ids (counted from 1)", _renumber(annotations)),
        ]
    )


def _list(content: Any, key: str) -> list:
    value = content.get(key) if isinstance(content, dict) else None
    return value if isinstance(value, list) else []


def _report(steps: list[tuple[str, list[int]]]) -> dict[str, Filled]:
    return {words: Filled(len(indices), indices[0]) for words, indices in steps if indices}


def _round_sizes(images: list[dict]) -> list[int]:
    changed = []
    for i, image in enumerate(images):
        for key in ("width", "height"):
            value = image.get(key)
            if type(value) is float and value.is_integer():
                image[key] = int(value)
                changed.append(i)
    return sorted(set(changed))


def _fill_crowds(annotations: list[dict]) -> list[int]:
    missing = [i for i, each in enumerate(annotations) if each.get("iscrowd") is None]
    for i in missing:
        annotations[i]["iscrowd"] = 0
    return missing


def _drop_thin_polygons(annotations: list[dict]) -> list[int]:
    changed = []
    for i, each in enumerate(annotations):
        mask = each.get("segmentation")
        if isinstance(mask, list) and len(mask) > 1:
            whole = [polygon for polygon in mask if is_polygon(polygon)]
            if whole and len(whole) < len(mask):
                each["segmentation"] = whole
                changed.append(i)
    return changed


def _fill_boxes_and_areas(
    annotations: list[dict], images: list[dict]
) -> list[tuple[str, list[int]]]:
    lacks_box = [i for i, each in enumerate(annotations) if each.get("bbox") in (None, [])]
    lacks_area = [i for i, each in enumerate(annotations) if not _is_positive(each.get("area"))]
    if not lacks_box and not lacks_area:
        return []
    from pycocotools import mask as coco_mask  # comes with mmdetection

    sizes = _sizes_by_id(images)
    masks = {
        i: code
        for i in sorted({*lacks_box, *lacks_area})
        if (code := encode_mask(annotations[i], sizes)) is not None
    }
    found = [i for i in lacks_box if i in masks]
    for i in found:
        annotations[i]["bbox"] = coco_mask.toBbox(masks[i]).tolist()
    boxes = read_boxes([annotations[i].get("bbox") for i in lacks_area])
    filled = []
    for i, (_, _, w, h) in zip(lacks_area, boxes.tolist(), strict=True):
        area = float(coco_mask.area(masks[i])) if i in masks else 0.0
        if not area and w > 0 and h > 0:
            area = w * h
        if area:
            annotations[i]["area"] = area
            filled.append(i)
    return [
        ("boxes (from the mask)", found),
        ("areas (from the mask or the box)", filled),
    ]


def _is_positive(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < 1e300


def _sizes_by_id(images: list[dict]) -> dict[int, Size]:
    return {
        image["id"]: (image["height"], image["width"])
        for image in images
        if is_id(image.get("id"))
        and all(type(image.get(key)) is int and image[key] > 0 for key in ("height", "width"))
    }


def encode_mask(annotation: dict, sizes: dict[int, Size]) -> dict | None:
    """Return the mask of an annotation in run lengths, None if it has none or a broken one."""
    mask: Any = annotation.get("segmentation")
    image_id: Any = annotation.get("image_id")
    size = sizes.get(image_id) if is_id(image_id) else None
    if not mask or size is None:
        return None
    if isinstance(mask, list) and not all(map(is_polygon, mask)):
        return None
    try:
        check_mask(mask, size)  # pycocotools may crash at a broken one
    except (OverflowError, TypeError, ValueError):
        return None
    from pycocotools import mask as coco_mask

    if isinstance(mask, list):
        return coco_mask.merge(coco_mask.frPyObjects(mask, *size))
    if isinstance(mask["counts"], list):
        return coco_mask.frPyObjects(mask, *size)
    return mask


def _renumber(annotations: list[dict]) -> list[int]:
    ids = [each.get("id") for each in annotations]
    whole = set(map(type, ids)) == {int} or all(map(is_id, ids))
    if whole and 0 not in ids and len(set(ids)) == len(ids):
        return []
    for i, each in enumerate(annotations):
        each["id"] = i + 1
    return list(range(len(annotations)))
