"""Checks of COCO annotations, because pycocotools crashes on masks with numbers out of range.

The mask formats are described at
https://github.com/cocodataset/cocoapi/blob/master/common/maskApi.h.
"""

import numpy as np

from gfnet_dense.utils.types import Size


def check_annotation(annotation: dict, sizes: dict[int, Size], with_mask: bool) -> None:
    """Raise an error unless COCO's evaluation can read an annotation.

    Args:
        annotation: An element of the list ``annotations`` in a COCO file.
        sizes: (H, W) in pixels of each image, by image id.
        with_mask: Whether to check its ``segmentation``, too.

    Raises:
        LookupError: If a key is missing, or the image is not in the file.
        OverflowError: If a number is too large.
        TypeError: If a value is of the wrong type.
        ValueError: If a value is out of range.
    """
    size = sizes[annotation["image_id"]]
    if not all(type(n) is int and n > 0 for n in size):
        raise ValueError(f"its image is of size {size}")
    annotation["id"], annotation["category_id"]  # only to raise KeyError
    numbers = np.asarray([*annotation["bbox"], annotation["area"]], dtype=np.float64)
    if numbers.shape != (5,) or not np.isfinite(numbers).all():
        raise ValueError("bbox are four numbers, area is one")
    if with_mask:
        check_mask(annotation["segmentation"], size)


def check_mask(mask: list | dict, size: Size) -> None:
    """Raise an error unless pycocotools can decode a ``segmentation``.

    Args:
        mask: Polygons ``[[x1, y1, x2, y2, ...], ...]`` in pixels, or run lengths: a dict with
            ``size`` (H, W) and ``counts``, which are a list of numbers or compressed text.
        size: (H, W) of the image in pixels.

    Raises:
        ValueError: If the mask is malformed, or does not fit the image.
        TypeError: If a part of the mask is of the wrong type.
    """
    if isinstance(mask, list):
        for polygon in mask:
            _check_polygon(polygon, size)
        return
    if not isinstance(mask, dict) or not {"size", "counts"} <= set(mask):
        raise ValueError("a mask is neither polygons nor size and counts")
    if list(mask["size"]) != list(size):
        raise ValueError(f"a mask is of size {mask['size']}, its image of {list(size)}")
    counts = mask["counts"]
    counts = _read_counts(counts) if isinstance(counts, (str, bytes)) else counts
    if not all(isinstance(n, int) and n >= 0 for n in counts) or sum(counts) != size[0] * size[1]:
        raise ValueError("the counts of a mask do not add up to the pixels of its image")


def _check_polygon(polygon: list[float], size: Size) -> None:
    coordinates = np.asarray(polygon, dtype=np.float64)
    if coordinates.ndim != 1:
        raise ValueError("a polygon is not a list of numbers")
    limit = 2 * max(size)  # real annotations often reach a little outside of the image
    if not (np.isfinite(coordinates) & (abs(coordinates) <= limit)).all():
        raise ValueError("a polygon is far outside of its image")


def _read_counts(text: str | bytes) -> list[int]:
    """Decode compressed run lengths (``rleFrString`` in maskApi.c).

    Each character minus 48 holds five bits of a number, the lowest bits first; its sixth bit says
    that more bits follow. From the fourth number on, differences to the number two places before
    are stored.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text.encode() if isinstance(text, str) else text:
        bits = character - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError("the counts of a mask are no compressed run lengths")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits & 16) and 1 << shift
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value = shift = 0
    if shift:
        raise ValueError("the counts of a mask end in the middle of a number")
    return counts
