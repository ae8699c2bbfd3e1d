"""Shapes of labeling programs as boxes, polygons and masks of objects."""

import math
from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np

from gfnet_dense.datasets.coco.masks import FAR_OUTSIDE
from gfnet_dense.datasets.coco.structure import shorten
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.types import Size

from .model import Box, LabeledObject, Polygon

SLACK = 1e-3  # boxes may reach this far out of their image, in pixels
OUTSIDE = "objects outside of their image"  # why they are left out
THIN = "polygons of fewer than three points"  # why they are left out
CHORD = 0.1  # largest distance in pixels of a polygon from the circle for which it stands


def coco_mask() -> Any:
    """Return the module of masks of pycocotools.

    Raises:
        InputError: If it is not installed.
    """
    try:
        from pycocotools import mask
    except ImportError:
        raise InputError(
            "objects become masks by pycocotools, which is not installed: pip install pycocotools"
        ) from None
    return mask


def number(value: Any, what: str) -> float:
    """Return a finite number, also one that is written as text.

    Raises:
        InputError: If it is something else; ``what`` begins the sentence.
    """
    try:
        result = math.nan if isinstance(value, bool) or value is None else float(value)
    except (OverflowError, TypeError, ValueError):
        result = math.nan
    if not math.isfinite(result):
        raise InputError(f"{what} has the coordinate {shorten(value)}, which is no finite number")
    return result


def polygon(points: Any, what: str) -> Polygon:
    """Return pairs of coordinates as a flat list.

    Raises:
        InputError: If they are no pairs of finite numbers; ``what`` begins the sentence.
    """
    flat: Polygon = []
    for point in points if isinstance(points, (list, tuple)) else [points]:
        if not isinstance(point, (list, tuple)) or len(point) != 2:
            raise InputError(f"{what} has the point {shorten(point)}, a point is two numbers")
        flat += [number(value, what) for value in point]
    return flat


def corners_to_box(x1: float, y1: float, x2: float, y2: float) -> Box:
    """Return the box between two opposite corners."""
    left, top = min(x1, x2), min(y1, y2)
    return left, top, max(x1, x2) - left, max(y1, y2) - top


def ellipse(cx: float, cy: float, rx: float, ry: float, angle: float = 0.0) -> Polygon:
    """Return the polygon of an ellipse, with corners on it.

    Args:
        cx, cy: Center in pixels.
        rx, ry: Half axes in pixels.
        angle: Angle in radians from the x axis to the axis of ``rx``, clockwise in the image.
    """
    radius = max(abs(rx), abs(ry), 1.0)
    # A multiple of 4: the corners reach the ends of the axes.
    number = 4 * math.ceil(max(12, math.pi / math.acos(1 - CHORD / radius)) / 4)
    turns = np.arange(number) * (2 * math.pi / number)
    x, y = abs(rx) * np.cos(turns), abs(ry) * np.sin(turns)
    cos, sin = math.cos(angle), math.sin(angle)
    return np.stack([cx + x * cos - y * sin, cy + x * sin + y * cos], 1).ravel().tolist()


def rotated_box(box: Box, degrees: float) -> Polygon:
    """Return the corners of a box that is turned clockwise about its center."""
    x, y, w, h = box
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    center = x + w / 2, y + h / 2
    offsets = np.reshape(box_corners((-w / 2, -h / 2, w, h)), (4, 2))
    return (offsets @ [[cos, sin], [-sin, cos]] + center).ravel().tolist()


def box_corners(box: Box) -> Polygon:
    """Return a box as a polygon, clockwise from its left upper corner on."""
    x, y, w, h = box
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def box_around(points: Polygon) -> Box:
    """Return the box around a polygon."""
    return corners_to_box(min(points[::2]), min(points[1::2]), max(points[::2]), max(points[1::2]))


def visible_box(points: Polygon, size: Size) -> Box | None:
    """Return the box around the part of a polygon that is inside of its image, exactly.

    The part ends at corners of the polygon in the image, at places where it crosses the border, or
    at corners of the image inside of the polygon (by the rule of even and odd).

    Args:
        points: The polygon.
        size: (H, W) of the image.

    Returns:
        The box, None if no part is inside.
    """
    start = np.reshape(points, (-1, 2)).astype(float)
    end = np.roll(start, -1, 0)
    limits = np.array([size[1], size[0]], float)
    ends = [start]
    for axis in (0, 1):
        for border in (0.0, limits[axis]):
            crosses = (start[:, axis] < border) != (end[:, axis] < border)
            a, b = start[crosses], end[crosses]
            places = a + (b - a) * ((border - a[:, axis]) / (b - a)[:, axis])[:, None]
            places[:, axis] = border
            ends.append(places)
            if axis == 1:  # corners of the image with an odd number of crossings to their right
                number = (places[:, :1] > (0.0, limits[0])).sum(0)
                ends.append(np.array([(x, border) for x in (0.0, limits[0])])[number % 2 == 1])
    found = np.concatenate(ends)
    found = found[((found >= -SLACK) & (found <= limits + SLACK)).all(1)].clip(0, limits)
    return box_around(found.ravel().tolist()) if len(found) else None


def place_mask(crop: np.ndarray, left: int, top: int, size: Size) -> dict:
    """Return a mask of a part of an image as run lengths of the whole one.

    Args:
        crop: (h, w) bool.
        left, top: Place of its first pixel; the mask may reach out of the image.
        size: (H, W) of the image.
    """
    whole = np.zeros(size, np.uint8, order="F")
    height, width = crop.shape
    y, x = max(top, 0), max(left, 0)
    inside = crop[y - top : max(size[0] - top, 0), x - left : max(size[1] - left, 0)]
    whole[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
    return encode(whole)


def encode(mask: np.ndarray) -> dict:
    """Return a mask (H, W) as compressed run lengths, whose counts are text."""
    return _with_text(coco_mask().encode(np.asfortranarray(mask, np.uint8)))


def outline_rle(each: LabeledObject, size: Size) -> dict:
    """Return the mask of an object with an outline as compressed run lengths of pycocotools."""
    if each.rle is not None:
        return each.rle
    masks = coco_mask()
    return _with_text(masks.merge(masks.frPyObjects(each.polygons, *size)))


def decode(rle: dict) -> np.ndarray:
    """Return a mask of run lengths as (H, W) bool."""
    return coco_mask().decode(rle).astype(bool)


def is_thin(each: LabeledObject) -> bool:
    """Return whether all that an object has are polygons of fewer than three points."""
    return bool(each.polygons) and all(len(points) < 6 for points in each.polygons)


def join_groups(grouped: Iterable[tuple[Hashable, LabeledObject]]) -> list[LabeledObject]:
    """Join the shapes of the same class and group to one object.

    Its outline is that of all shapes; it has none if one of them has none, and then its box is the
    one around all.

    Args:
        grouped: Group, None for a shape of its own, and the object of each shape.
    """
    joined: dict[Hashable, list[LabeledObject]] = {}
    for i, (group, each) in enumerate(grouped):
        key = ("alone", i) if group is None else (each.name, group)
        joined.setdefault(key, []).append(each)
    return [_join(members) if len(members) > 1 else members[0] for members in joined.values()]


def _join(members: list[LabeledObject]) -> LabeledObject:
    name, crowd = members[0].name, any(each.crowd for each in members)
    if all(each.polygons for each in members):
        return LabeledObject(
            name, None, [p for each in members for p in each.polygons], None, crowd
        )
    if all(each.has_outline for each in members):
        size = next(each.rle["size"] for each in members if each.rle is not None)
        rle = _with_text(coco_mask().merge([outline_rle(each, size) for each in members]))
        return LabeledObject(name, None, [], rle, crowd)
    return LabeledObject(name, _box_of([_around(each) for each in members]), crowd=crowd)


def _with_text(rle: dict) -> dict:
    """Return run lengths whose counts are text, as JSON holds them."""
    return dict(size=list(rle["size"]), counts=rle["counts"].decode())


def _box_of(boxes: Iterable[Box]) -> Box:
    """Return the box around several."""
    return box_around([value for box in boxes for value in box_corners(box)])


def _around(each: LabeledObject) -> Box:
    """Return the box of an object, which may reach out of the image."""
    if each.box is not None:
        return each.box
    if each.rle is not None:
        return tuple(coco_mask().toBbox(each.rle).tolist())
    return _box_of([box_around(points) for points in each.polygons])


def fit_object(each: LabeledObject, size: Size) -> tuple[LabeledObject | None, str]:
    """Bring an object into its image.

    Args:
        each: An object.
        size: (H, W) of the image.

    Returns:
        The object with the box around what is inside of the image, and with the polygons of three
        points or more; None if nothing of it is there. Then the reason why it is left out, or what
        was changed; '' if nothing was.

    Raises:
        InputError: If it lies far outside of the image, as if it were for another one.
    """
    polygons = [points for points in each.polygons if len(points) >= 6]
    if is_thin(each):
        return None, THIN
    limit = FAR_OUTSIDE * max(size)
    box = _around(LabeledObject(each.name, each.box, polygons, each.rle))
    reach = max(map(abs, (box[0], box[1], box[0] + box[2], box[1] + box[3])))
    if reach > limit or any(abs(value) > limit for points in polygons for value in points):
        raise InputError(
            f"a {each.name!r} reaches to the coordinate {reach:.6g}, far outside of the image of "
            f"{size[1]}x{size[0]} pixels: it was labeled on another one"
        )
    x, y, w, h = box
    if w <= 0 or h <= 0:
        return None, "objects without an area"
    left, top = max(x, 0.0), max(y, 0.0)
    right, bottom = min(x + w, float(size[1])), min(y + h, float(size[0]))
    if right <= left or bottom <= top:
        return None, OUTSIDE
    fitted = LabeledObject(each.name, box, polygons, each.rle, each.crowd)
    if fitted.has_outline and not coco_mask().area(outline_rle(fitted, size)):
        return None, "objects whose outline holds no pixel"
    if max(left - x, top - y, x + w - right, y + h - bottom) <= SLACK:
        return fitted, ""
    if polygons:
        visible = [part for points in polygons if (part := visible_box(points, size))]
        if not visible:
            return None, OUTSIDE
        fitted.box = _box_of(visible)
    elif each.rle is not None:
        fitted.box = tuple(coco_mask().toBbox(each.rle).tolist())
    else:
        fitted.box = left, top, right - left, bottom - top
    return fitted, "clipped"
