"""Checking COCO's masks before pycocotools reads them, which crashes on numbers out of range.

The formats are those of https://github.com/cocodataset/cocoapi/blob/master/common/maskApi.h.
"""

import numpy as np

from gfnet_dense.utils.types import Size


def check_annotation(annotation: dict, sizes: dict[int, Size], with_mask: bool) -> None:
    """Raise ValueError, KeyError or TypeError unless COCO's evaluation can read an annotation.

    Args:
        annotation: One of the list in the file.
        sizes: (H, W) of the images, by id.
        with_mask: Whether its ``segmentation`` is read, too.
    """
    size = sizes[annotation["image_id"]]
    if not all(type(n) is int and n > 0 for n in size):
        raise ValueError(f"its image is of size {size}")
    annotation["id"], annotation["category_id"]
    numbers = np.asarray([*annotation["bbox"], annotation["area"]], dtype=np.float64)
    if numbers.shape != (5,) or not np.isfinite(numbers).all():
        raise ValueError("bbox are four numbers, area is one")
    if with_mask:
        check_mask(annotation["segmentation"], size)


def check_mask(mask: list | dict, size: Size) -> None:
    """Raise ValueError unless a ``segmentation`` can be made a mask of an image of ``size`` (H, W).

    Args:
        mask: Polygons ``[[x1, y1, x2, y2, ...], ...]``, or run lengths, a dict of ``size`` and
            ``counts``, a list of numbers or their compressed text.
        size: Of the image.
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
    places = np.asarray(polygon, dtype=np.float64)
    if places.ndim != 1:
        raise ValueError("a polygon is not a list of numbers")
    limit = 2 * max(size)  # a little outside of the image is usual
    if not (np.isfinite(places) & (abs(places) <= limit)).all():
        raise ValueError("a polygon is far outside of its image")


def _read_counts(text: str | bytes) -> list[int]:
    """Return the run lengths of their compressed text: numbers of 5 bits a character, the sixth
    bit for "more follows", from the third on as differences to the last but one."""
    counts, value, shift = [], 0, 0
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
