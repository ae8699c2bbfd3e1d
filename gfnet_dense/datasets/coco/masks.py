"""Checks of COCO masks, because pycocotools crashes on masks with numbers out of range.

The mask formats are described at
https://github.com/cocodataset/cocoapi/blob/master/common/maskApi.h.
"""

from typing import Any

import numpy as np

from gfnet_dense.utils.types import Size

# Largest coordinate of a polygon, as a multiple of the longer side of its image. Real annotations
# often reach a little outside.
FAR_OUTSIDE = 2


def is_polygon(points: Any) -> bool:
    """Return whether ``[x1, y1, ...]`` has at least three points and as many x as y."""
    return isinstance(points, list) and len(points) >= 6 and len(points) % 2 == 0


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
    limit = FAR_OUTSIDE * max(size)
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
