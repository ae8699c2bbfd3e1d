"""Reading of VGG Image Annotator 2 (https://www.robots.ox.ac.uk/~vgg/software/via/): a project, or
its exported annotations."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gfnet_dense.utils.errors import InputError

from .files import Files, leave_out_unlabeled, missing, read_json
from .model import LabeledImage, LabeledObject, Source
from .shapes import ellipse, number

METADATA = "_via_img_metadata"
WITHOUT_AREA = {"polyline", "point"}


def is_via(content: Any) -> bool:
    """Return whether the content of a JSON file is of VIA 1 or 2."""
    if not isinstance(content, dict):
        return False
    if METADATA in content:
        return True
    return bool(content) and all(
        isinstance(each, dict) and {"filename", "regions"} <= set(each) for each in content.values()
    )


def read_via(files: Files, classes: Sequence[str] | None = None) -> Source:
    """Read all JSON files of VIA in a source.

    The class of a region is the value of the attribute that all regions have.

    Args:
        files: The files of the source.
        classes: Class names that decide if all regions have several attributes; one is enough if
            regions have no attribute.

    Raises:
        InputError: If it is not clear which attribute names the class.
    """
    source = Source()
    found: list[tuple[dict, Path]] = []
    for path in files.with_suffix(".json"):
        with source.collecting(path):
            content = read_json(path)
            if is_via(content):
                images = content.get(METADATA, content)
                if not isinstance(images, dict):
                    raise InputError(f"{path}: its {METADATA} is no object of JSON")
                found += [(image, path) for image in images.values()]
            else:
                source.leave_out("JSON files of something else than VIA", path)
    for image, path in found:
        if not isinstance(image, dict) or not isinstance(image.get("filename"), str):
            raise InputError(f"{path}: an image has no filename")
    attribute = _attribute(found, classes)
    for image, path in found:
        with source.collecting(path):
            source.images.append(_read_image(image, path, attribute, classes, files, source))
    leave_out_unlabeled(source, files, "images that no JSON file names")
    return source


def _regions(image: dict) -> Iterator[dict]:
    """Yield the regions of an image, in a list or, in VIA 1, in a dict."""
    regions = image.get("regions") or []
    regions = list(regions.values()) if isinstance(regions, dict) else regions
    for region in regions if isinstance(regions, list) else [regions]:
        attributes = region.get("region_attributes") if isinstance(region, dict) else None
        if not isinstance(attributes, dict):
            raise InputError(f"a region of {image['filename']} has no region_attributes")
        yield region


def _attribute(found: list[tuple[dict, Path]], classes: Sequence[str] | None) -> str | None:
    """Return the name of the attribute that is the class; None if regions have no attribute."""
    regions = [(region, image, path) for image, path in found for region in _regions(image)]
    values: dict[str, list[Any]] = {}
    for region, _, _ in regions:
        for key, value in region["region_attributes"].items():
            values.setdefault(key, []).append(value)
    whole = [key for key in values if len(values[key]) == len(regions) and all(values[key])]
    if len(whole) > 1 and classes:
        whole = [key for key in whole if set(classes) <= {_value(each) for each in values[key]}]
    if len(whole) == 1:
        return whole[0]
    if not values and (not regions or (classes and len(classes) == 1)):
        return None
    if not values:
        raise InputError(
            f"{regions[0][2]}: regions have no attribute that names a class; if all are of one "
            "class, name it with --classes NAME"
        )
    if whole:
        raise InputError(
            f"{regions[0][2]}: all regions have the attributes {', '.join(whole)}; name the "
            "classes with --classes, and the attribute with these values is taken"
        )
    key = max(values, key=lambda key: len([each for each in values[key] if each]))
    _, image, path = next(each for each in regions if not each[0]["region_attributes"].get(key))
    raise InputError(
        f"{path}: no attribute names the class of all regions; a region of {image['filename']} has "
        f"no {key!r}"
    )


def _value(value: Any) -> str:
    """Return the value of an attribute; that of a checkbox is a dict of names."""
    if isinstance(value, dict):
        chosen = [name for name, is_chosen in value.items() if is_chosen]
        return chosen[0] if len(chosen) == 1 else ""
    return str(value).strip()


def _read_image(
    image: dict,
    path: Path,
    attribute: str | None,
    classes: Sequence[str] | None,
    files: Files,
    source: Source,
) -> LabeledImage:
    name = image["filename"]
    found = files.find_image(name, path)
    if found is None:
        raise missing(name, path)
    objects = []
    for i, region in enumerate(_regions(image), start=1):
        what = f"{path}, image {name}, region {i}"
        shape = region.get("shape_attributes")
        if not isinstance(shape, dict):
            raise InputError(f"{what} has no shape_attributes")
        kind = str(shape.get("name"))
        if kind in WITHOUT_AREA:
            source.leave_out(f"regions of the type {kind}, which have no area", path)
            continue
        value = region["region_attributes"][attribute] if attribute else (classes or [""])[0]
        label = _value(value)
        if not label:
            raise InputError(f"{what}: its {attribute!r} names not one class")
        objects.append(_read_region(shape, kind, label, what))
    return LabeledImage(found, None, path, objects)


def _read_region(shape: dict, kind: Any, label: str, what: str) -> LabeledObject:
    def values(*names: str) -> list[float]:
        return [number(shape.get(name), what) for name in names]

    if kind == "rect":
        x, y, w, h = values("x", "y", "width", "height")
        return LabeledObject(label, (x, y, w, h))
    if kind == "polygon":
        xs, ys = shape.get("all_points_x"), shape.get("all_points_y")
        if not isinstance(xs, list) or not isinstance(ys, list) or len(xs) != len(ys):
            raise InputError(f"{what}: all_points_x and all_points_y are no lists of one length")
        pairs = zip(xs, ys, strict=True)
        return LabeledObject(label, polygons=[[number(v, what) for pair in pairs for v in pair]])
    if kind == "circle":
        cx, cy, radius = values("cx", "cy", "r")
        return LabeledObject(label, polygons=[ellipse(cx, cy, radius, radius)] if radius else [[]])
    if kind == "ellipse":
        cx, cy, rx, ry = values("cx", "cy", "rx", "ry")
        angle = number(shape.get("theta") or 0, what)
        return LabeledObject(label, polygons=[ellipse(cx, cy, rx, ry, angle)])
    raise InputError(f"{what} is of no known type: rect, polygon, circle or ellipse")
