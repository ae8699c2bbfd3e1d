"""Reading of CVAT's own XML, "CVAT for images 1.1" (https://docs.cvat.ai/docs/dataset_management/
formats/format-cvat/)."""

import math
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.types import Size

from .files import SPLITS, Files, checked_size, leave_out_unlabeled, missing, read_xml
from .model import LabeledImage, LabeledObject, Source
from .shapes import (
    THIN,
    box_around,
    corners_to_box,
    ellipse,
    is_thin,
    join_groups,
    number,
    place_mask,
    polygon,
    rotated_box,
    visible_box,
)

WITHOUT_AREA = {"polyline", "points", "cuboid", "skeleton", "tag"}


def is_cvat(root: Element) -> bool:
    """Return whether the root of an XML file is of CVAT."""
    return root.tag == "annotations"


def read_cvat(files: Files) -> Source:
    """Read all XML files of CVAT in a source.

    Shapes of the same label and ``group_id`` are one object. Labels of the task, job or project are
    the classes, in their order.
    """
    source = Source(classes=[])
    assert source.classes is not None
    for path in files.with_suffix(".xml"):
        with source.collecting(path):
            root = read_xml(path)
            if not is_cvat(root):
                source.leave_out("XML files of something else than CVAT", path)
                continue
            if root.find("track") is not None:
                raise InputError(
                    f'{path} is "CVAT for video": export the task as "CVAT for images 1.1"'
                )
            labels = root.iterfind("meta/*/labels/label")
            names = [
                (each.findtext("name") or "").strip()
                for each in labels
                if each.find("parent") is None
            ]
            source.classes += [name for name in names if name not in source.classes]
            for element in root.iterfind("image"):
                with source.collecting(path):
                    source.images.append(_read_image(element, path, files, source))
    leave_out_unlabeled(source, files, "images that no XML file names")
    return source


def _read_image(element: Element, path: Path, files: Files, source: Source) -> LabeledImage:
    name, subset = element.get("name", ""), element.get("subset", "")
    split = SPLITS.get(subset.casefold(), "")
    image = files.find_image(name, path, [subset] if subset else [], split)
    if image is None:
        raise missing(name, path)
    try:
        height, width = int(element.get("height", "")), int(element.get("width", ""))
    except ValueError:
        raise InputError(f"{path}: the image {name} has no width and height") from None
    size = checked_size(height, width, path)
    assert source.classes is not None
    grouped = []
    for i, shape in enumerate(element, start=1):
        what = f"{path}, image {name}, shape {i} ({shape.tag})"
        if shape.tag in WITHOUT_AREA:
            source.leave_out(f"shapes of the type {shape.tag}, which have no area", path)
            continue
        label = (shape.get("label") or "").strip()
        if not label:
            raise InputError(f"{what} has no label")
        if label not in source.classes:
            source.classes.append(label)
        each = _read_shape(shape, label, size, what)
        if is_thin(each):
            source.leave_out(THIN, path)
            continue
        group = shape.get("group_id") or None
        grouped.append((None if group == "0" else group, each))
        if shape.tag == "box" and float(shape.get("rotation") or 0) % 180:
            source.note("rotated boxes are written as the upright boxes around them", path)
    return LabeledImage(image, size, path, join_groups(grouped), split=split)


def _read_shape(shape: Element, label: str, size: Size, what: str) -> LabeledObject:
    def values(*names: str) -> list[float]:
        return [number(shape.get(name), what) for name in names]

    angle = number(shape.get("rotation") or 0, what)
    if shape.tag == "box":
        box = corners_to_box(*values("xtl", "ytl", "xbr", "ybr"))
        if angle % 180:
            corners = rotated_box(box, angle)
            return LabeledObject(label, visible_box(corners, size) or box_around(corners))
        return LabeledObject(label, box)
    if shape.tag == "polygon":
        points = [point.split(",") for point in (shape.get("points") or "").split(";") if point]
        return LabeledObject(label, polygons=[polygon(points, what)])
    if shape.tag == "ellipse":
        cx, cy, rx, ry = values("cx", "cy", "rx", "ry")
        return LabeledObject(label, polygons=[ellipse(cx, cy, rx, ry, math.radians(angle))])
    if shape.tag == "mask":
        left, top, width, height = map(int, values("left", "top", "width", "height"))
        return LabeledObject(
            label, rle=place_mask(_read_runs(shape, height, width, what), left, top, size)
        )
    raise InputError(f"{what} is of no known type: box, polygon, ellipse or mask")


def _read_runs(shape: Element, height: int, width: int, what: str) -> np.ndarray:
    """Return a mask whose rows are given by lengths of runs, the first one outside."""
    try:
        runs = [int(run) for run in (shape.get("rle") or "").split(",")]
    except ValueError:
        runs = [-1]
    if min(runs) < 0 or sum(runs) != height * width or min(height, width) < 1:
        raise InputError(f"{what}: its runs do not add up to its {width}x{height} pixels")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
