"""Reading of COCO files with the images that they name."""

import copy
from pathlib import Path
from typing import Any

from gfnet_dense.datasets.coco.completion import complete, encode_mask
from gfnet_dense.datasets.coco.file import describe, inspect, read_coco
from gfnet_dense.datasets.coco.masks import is_polygon
from gfnet_dense.datasets.coco.names import check_names
from gfnet_dense.datasets.coco.structure import faults_of_images, faults_of_lists

from .files import Files, leave_out_unlabeled, missing, split_of_words
from .model import LabeledImage, LabeledObject, Source
from .shapes import THIN

INSTANCES = "instances"  # begin of the names of files of objects, beside captions and keypoints


def is_coco(content: Any) -> bool:
    """Return whether the content of a JSON file is of COCO."""
    return isinstance(content, dict) and {"images", "categories"} <= set(content)


def read_coco_files(files: Files) -> Source:
    """Read all COCO files in a source; a word in the name of a file or its folder is the split.

    Categories are the classes in the order of their ids. Absent values, such as areas, are filled
    in as for a training, and crowds stay crowds.
    """
    source = Source(classes=[])
    contents: dict[Path, dict] = {}
    for path in files.with_suffix(".json"):
        with source.collecting(path):
            content = read_coco(path)
            if is_coco(content):
                contents[path] = content
            else:
                source.leave_out("JSON files of something else than COCO", path)
    if any(path.name.startswith(INSTANCES) for path in contents):
        for path in [path for path in contents if not path.name.startswith(INSTANCES)]:
            source.leave_out(f"COCO files beside those of {INSTANCES}", path)
            del contents[path]
    for path, content in contents.items():
        with source.collecting(path):
            _read_file(content, path, files, source)
    leave_out_unlabeled(source, files, "images that no COCO file names")
    return source


def split_of(path: Path) -> str:
    """Return the split that the name of a COCO file or its folder tells, '' if none does.

    >>> split_of(Path("annotations/instances_val2017.json"))
    'val'
    """
    words = path.stem.lower().replace("-", "_").replace(".", "_").split("_")
    return split_of_words(words) or split_of_words([path.parent.name])


def _read_file(content: dict, path: Path, files: Files, source: Source) -> None:
    assert source.classes is not None
    before = _num_polygons(content)
    complete(content)
    if num_thin := before - _num_polygons(content):
        source.leave_out(f"{THIN} in objects of several", path, num_thin)
    errors = (
        faults_of_lists(content, path, "prediction")
        or check_names(content["categories"], [], path)
        or inspect(content, path, None, purpose="prediction").errors
        or faults_of_images(content["images"], path)
    )
    for sentence in errors:
        source.refuse(path, sentence)
    if errors:
        return
    categories = sorted(content["categories"], key=lambda each: each["id"])
    names = {each["id"]: each["name"] for each in categories}
    source.classes += [name for name in names.values() if name not in source.classes]
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    objects: dict[int, list[LabeledObject]] = {image["id"]: [] for image in content["images"]}
    for i, annotation in enumerate(content.get("annotations") or []):
        if annotation.get("image_id") not in objects:
            source.leave_out("annotations of images that are not in their file", path)
            continue
        mask, rle = annotation.get("segmentation"), encode_mask(annotation, sizes)
        is_thin = isinstance(mask, list) and all(
            isinstance(points, list) and not is_polygon(points) for points in mask
        )
        if mask and rle is None and not is_thin:
            source.refuse(path, f"{path}: the mask of {describe(content, i)} cannot be read")
            continue
        objects[annotation["image_id"]].append(_read_object(annotation, names, rle, path, source))
    split = split_of(path)
    hints = [part for part in (split, path.stem.rpartition("_")[2], path.stem) if part]
    for image in content["images"]:
        with source.collecting(path):
            found = files.find_image(image["file_name"], path, hints, split)
            if found is None:
                raise missing(image["file_name"], path)
            size = sizes[image["id"]]
            source.images.append(LabeledImage(found, size, path, objects[image["id"]], split=split))


def _num_polygons(content: dict) -> int:
    annotations = content.get("annotations")
    masks = [
        each.get("segmentation")
        for each in (annotations if isinstance(annotations, list) else [])
        if isinstance(each, dict)
    ]
    return sum(len(mask) for mask in masks if isinstance(mask, list))


def _read_object(
    annotation: dict, names: dict[int, str], rle: dict | None, path: Path, source: Source
) -> LabeledObject:
    box = annotation.get("bbox")
    each = LabeledObject(names[annotation["category_id"]], tuple(box) if box else None)
    each.crowd = bool(annotation["iscrowd"])
    if annotation.get("ignore") and not each.crowd:
        each.crowd = True
        source.note("objects that are marked with ignore have iscrowd 1", path)
    mask = annotation.get("segmentation")
    if isinstance(mask, list):
        each.polygons = copy.deepcopy(mask)
    elif rle is not None:
        counts = rle["counts"]
        text = counts.decode() if isinstance(counts, bytes) else counts
        each.rle = dict(size=list(rle["size"]), counts=text)
    return each
