"""Faults of the lists of a COCO file, and of its images."""

from collections import Counter
from pathlib import Path
from typing import Any, Literal

from .annotations import is_id

# For "prediction", images and categories are enough: COCO's image_info_test-dev2017.json has no
# annotations.
Purpose = Literal["training", "evaluation", "prediction"]


def faults_of_lists(content: dict, path: Path, purpose: Purpose) -> list[str]:
    """Return what is wrong with the lists of a file and with their ids, at most one sentence."""
    for key in ("images", "categories", "annotations"):
        if not isinstance(content.get(key, []), list):
            return [f"{path} is no COCO file: its {key} are no list"]
        if not content.get(key):
            if key != "annotations":
                return [
                    f"{path} is no COCO file, of images, annotations and categories: it has no "
                    f"{key}"
                ]
            if purpose == "training":
                return [f"{path} has no annotations: there is nothing to learn from it"]
            if purpose == "evaluation":
                return [
                    f"{path} has no annotations to evaluate with: to write predictions alone, set "
                    "format_only=True and outfile_prefix in the evaluator"
                ]
            continue
        odd = next((each for each in content[key] if type(each) is not dict), None)
        if odd is not None or None in content[key]:
            return [f"{path} is no COCO file: its {key} hold {shorten(odd)}"]
        if key == "annotations" and all("segments_info" in each for each in content[key]):
            return [
                f"{path} is a file of panoptic segments, whose objects are in segments_info: take "
                "the file of instances, instances_....json"
            ]
        if key != "annotations":
            ids = [each.get("id") for each in content[key]]
            for i, each in enumerate(ids):
                if not is_id(each):
                    what = "no id" if each is None else f"the id {shorten(each)}"
                    return [
                        f"no. {i} of the {key} in {path} has {what}: ids are whole numbers, "
                        "without quotes"
                    ]
            if len(set(ids)) < len(ids):
                double = next(each for each, n in Counter(ids).items() if n > 1)
                return [f"several {key} in {path} have the id {double}: give each its own"]
    return []


def faults_of_images(images: list[dict], path: Path) -> list[str]:
    """Return what is wrong with names and sizes of the images, at most one sentence."""
    for image in images:
        name, size = image.get("file_name"), (image.get("width"), image.get("height"))
        if not isinstance(name, str) or not name:
            return [f"image {image['id']} in {path} has no file_name, but {shorten(name)}"]
        if not all(type(n) is int and n > 0 for n in size):
            return [
                f"{name} has the width {shorten(size[0])} and the height {shorten(size[1])} in "
                f"{path}: both must be numbers of pixels"
            ]
    return []


def doubts_of_images(images: list[dict], path: Path) -> list[str]:
    """Return that pictures are listed more than once, at most one sentence."""
    names = Counter(str(image.get("file_name")) for image in images)
    double = [name for name, count in names.items() if count > 1]
    if not double:
        return []
    return [
        f"{len(double)} pictures in {path} are listed more than once, first {double[0]}: what is "
        "labeled in one entry is background in the other"
    ]


def shorten(value: Any) -> str:
    """Return a value as text of at most 40 characters, for messages."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
