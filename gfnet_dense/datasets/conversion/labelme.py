"""Reading of labelme's JSON files, one beside each photo (https://github.com/wkentaro/labelme)."""

import base64
import binascii
import io
import math
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from gfnet_dense.datasets.coco.pictures import EXCHANGES
from gfnet_dense.datasets.coco.structure import shorten
from gfnet_dense.utils.decoding import decode_label_map
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.image_headers import FORMATS, exif_orientation, naming
from gfnet_dense.utils.types import Size

from .files import (
    Files,
    beside,
    checked_size,
    leave_out_unlabeled,
    missing,
    read_json,
    reading,
    shown_size,
)
from .model import LabeledImage, LabeledObject, Source
from .shapes import (
    THIN,
    corners_to_box,
    ellipse,
    is_thin,
    join_groups,
    number,
    place_mask,
    polygon,
)

WITHOUT_AREA = {"line", "linestrip", "point", "points"}
KINDS = "polygon, rectangle, circle, mask"


def is_labelme(content: Any) -> bool:
    """Return whether the content of a JSON file is of labelme."""
    return isinstance(content, dict) and "shapes" in content and "imagePath" in content


def read_labelme(files: Files) -> Source:
    """Read all JSON files of labelme in a source.

    Shapes of the same label and ``group_id`` are one object. Images without a JSON are not labeled
    yet, and are left out.
    """
    source = Source()
    for path in reading(files.with_suffix(".json")):
        with source.collecting(path):
            content = read_json(path)
            if is_labelme(content):
                source.images.append(_read_image(content, path, files, source))
            else:
                source.leave_out("JSON files of something else than labelme", path)
    leave_out_unlabeled(source, files, "images without a JSON file, which are not labeled")
    return source


def _read_image(content: dict, path: Path, files: Files, source: Source) -> LabeledImage:
    image, data = _find_image(content, path, files)
    stated = _stated_size(content, path)
    size = stated or (shown_size(image) if data is None else _size_of(data))
    if not isinstance(content["shapes"], list):
        raise InputError(f"{path}: its shapes are no list")
    grouped = []
    for i, shape in enumerate(content["shapes"], start=1):
        what = f"{path}: shape {i}"
        if not isinstance(shape, dict):
            raise InputError(f"{what} is no object of JSON")
        label, kind = shape.get("label"), str(shape.get("shape_type") or "polygon")
        group = shape.get("group_id")
        if not isinstance(group, (int, str, type(None))):
            raise InputError(f"{what} has the group_id {shorten(group)}, which is no number")
        if not isinstance(label, str) or not label.strip():
            raise InputError(f"{what} has no label")
        if kind in WITHOUT_AREA:
            source.leave_out(f"shapes of the type {kind}, which have no area", path)
            continue
        each = _read_shape(shape, kind, label.strip(), size, what)
        if is_thin(each):
            source.leave_out(THIN, path)
        else:
            grouped.append((group, each))
    return LabeledImage(image, stated, path, join_groups(grouped), data=data)


def _find_image(content: dict, path: Path, files: Files) -> tuple[Path, bytes | None]:
    """Return the path of the image, and its content if it is embedded and has no file.

    The file lies where the JSON says, or beside it. An image of that name in another folder may be
    another one, so that the embedded one goes before.
    """
    name = str(content["imagePath"] or "")
    parts = PurePosixPath(name.replace("\\", "/")).parts
    found = beside(parts, path) or beside(parts[-1:], path)
    found = found or files.of_stem(path)
    if found is None and (files.images is not files.below or not content.get("imageData")):
        found = files.find_image(name, path) or files.find_image(path.stem, path)
    if found is not None:
        return found, None
    if not content.get("imageData"):
        raise missing(name, path)
    try:
        data = base64.b64decode(content["imageData"], validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise InputError(f"{path}: its imageData is not in base64") from None
    with naming(f"the imageData of {path}", "image"), Image.open(io.BytesIO(data)) as image:
        suffix = FORMATS.get(image.format or "", (".png",))[0]
    return path.with_suffix(suffix), data


def _size_of(data: bytes) -> Size:
    """Return (H, W) of an embedded image as it is shown."""
    with Image.open(io.BytesIO(data)) as image:
        is_turned = exif_orientation(image) in EXCHANGES
        return (image.width, image.height) if is_turned else (image.height, image.width)


def _stated_size(content: dict, path: Path) -> Size | None:
    height, width = content.get("imageHeight"), content.get("imageWidth")
    if height is None and width is None:
        return None
    if type(height) is not int or type(width) is not int:
        raise InputError(f"{path}: imageHeight and imageWidth are {height!r} and {width!r}")
    return checked_size(height, width, path)


def _read_shape(shape: dict, kind: str, label: str, size: Size, what: str) -> LabeledObject:
    points = polygon(shape.get("points"), what)
    if kind == "polygon":
        return LabeledObject(label, polygons=[points])
    if kind not in ("rectangle", "circle", "mask"):
        raise InputError(f"{what} is of the type {kind!r}; types with an area are {KINDS}")
    if len(points) != 4:
        raise InputError(f"{what} is a {kind} of {len(points) // 2} points, it must have 2")
    if kind == "rectangle":
        return LabeledObject(label, corners_to_box(*points))
    x, y, rim_x, rim_y = points
    if kind == "circle":
        radius = math.hypot(rim_x - x, rim_y - y)
        return LabeledObject(label, polygons=[ellipse(x, y, radius, radius)] if radius else [[]])
    crop = _read_mask(shape.get("mask"), what)
    left, top = (int(number(value, what)) for value in (x, y))
    height, width = crop.shape
    if (int(rim_x) - left + 1, int(rim_y) - top + 1) != (width, height):
        raise InputError(
            f"{what}: its mask has {width}x{height} pixels, its box from {left}, {top} to "
            f"{int(rim_x)}, {int(rim_y)} another number"
        )
    return LabeledObject(label, rle=place_mask(crop, left, top, size))


def _read_mask(text: Any, what: str) -> np.ndarray:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise InputError(f"{what} is a mask that is not in base64") from None
    return decode_label_map(data, f"{what}, its mask") > 0
