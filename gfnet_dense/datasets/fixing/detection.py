"""The mended copy of a detection data set: a COCO file and its pictures."""

import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from mmengine.config import ConfigDict

from gfnet_dense.datasets.coco.annotations import read_boxes
from gfnet_dense.datasets.coco.completion import complete
from gfnet_dense.datasets.coco.file import describe, read_coco
from gfnet_dense.datasets.coco.pictures import EXCHANGES
from gfnet_dense.datasets.coco.structure import faults_of_lists
from gfnet_dense.datasets.coco.uses import CocoUse, find_uses
from gfnet_dense.datasets.survey.contents import Problem, in_parallel
from gfnet_dense.datasets.survey.detection import path_of, range_of
from gfnet_dense.datasets.survey.pictures import Picture, read_picture, why_broken
from gfnet_dense.utils.decoding import Range
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.types import Size

from .annotations import mend_annotations, mend_categories
from .copy import NamedDataset, Plan
from .orientation_tag import without_orientation
from .segmentation import untagged


def plan_dataset(plan: Plan, cfg: ConfigDict, dataset: NamedDataset, name: str) -> dict[str, Any]:
    """Add a data set to the plan of a copy.

    Args:
        plan: The plan, changed in place.
        cfg: The whole config.
        dataset: The data set.
        name: Its folder and the name of its file in the copy.

    Returns:
        Settings of the data set for the copy.

    Raises:
        InputError: If the data set has no COCO file, or a broken one.
    """
    uses = find_uses(cfg, dataset.split)
    path = path_of(dataset.cfg)
    use = next((use for use in uses if use.folder is not None and use.path == path), None)
    if use is None:
        raise InputError(
            f"--fix mends COCO files, which {dataset.key} of the type {dataset.cfg['type']} has not"
        )
    content = read_coco(use.path)
    _mend_ids(plan, content, use)
    faults = faults_of_lists(content, use.path, use.purpose)
    if faults:
        raise InputError(f"{faults[0]}; --fix cannot mend that")
    doubtful = _mend_pictures(plan, content, use, name, range_of(dataset.cfg))
    for words, filled in complete(content).items():
        first = f" (first {describe(content, filled.index)})" if "sizes" not in words else ""
        plan.say(f"{use.path}: {filled.count} {words}{first}")
    mend_categories(plan, content, use)
    mend_annotations(plan, content, use, doubtful)
    ann_file = f"annotations/{name}.json"
    plan.files[ann_file] = partial(_dump, content)
    for key in _evaluators_of(cfg, use.path):
        plan.options[key] = str(plan.out / ann_file)
    return {"ann_file": ann_file, "data_prefix": dict(img=f"images/{name}")}


def _dump(content: dict) -> bytes:
    return json.dumps(content).encode()


def _evaluators_of(cfg: ConfigDict, path: Path) -> Iterator[str]:
    """Yield the dotted keys of the evaluators' files that are the file of a dataset."""
    for split in ("val", "test"):
        evaluators = cfg.get(f"{split}_evaluator") or []
        is_list = isinstance(evaluators, (list, tuple))
        for i, each in enumerate(evaluators if is_list else [evaluators]):
            if each.get("ann_file") and os.path.realpath(each["ann_file"]) == os.path.realpath(
                path
            ):
                yield f"{split}_evaluator.{f'{i}.' if is_list else ''}ann_file"


def _mend_ids(plan: Plan, content: dict, use: CocoUse) -> None:
    """Turn ids that are text of digits into numbers."""
    count = 0
    for key in ("images", "categories", "annotations"):
        entries = content.get(key)
        for each in entries if isinstance(entries, list) else []:
            for name in ("id", "image_id", "category_id"):
                value = each.get(name) if isinstance(each, dict) else None
                if isinstance(value, str) and value.isascii() and value.isdecimal():
                    each[name] = int(value)
                    count += 1
    if count:
        plan.say(f"{use.path}: {count} ids that were text are numbers")


def _mend_pictures(
    plan: Plan, content: dict, use: CocoUse, name: str, image_range: Range | None
) -> set[int]:
    """Add the pictures of a file to the copy, and leave out entries without a whole picture.

    Returns:
        Ids of the images of which nobody knows for what size their boxes are.
    """
    assert use.folder is not None
    annotations = defaultdict(list)
    for each in content.get("annotations", []):
        annotations[each.get("image_id")].append(each)
    images = content["images"]
    paths = [_find(use.folder, image) for image in images]
    kept, doubtful = [], set()
    examine = partial(_examine, image_range=image_range)
    examined = in_parallel(examine, paths, use.by.partition("_")[0])
    for image, path, (picture, broken) in zip(images, paths, examined, strict=True):
        if broken:
            count = len(annotations[image["id"]])
            sentence = f"{broken}: the picture is left out with its {count} annotations"
            plan.mended.append(Problem(path, sentence))
            continue
        kept.append(image)
        target = _target(image["file_name"])
        if target != image["file_name"]:
            renamed = f"file_name {image['file_name']!r} in {use.path} is written as {target!r}"
            plan.say(renamed)
            image["file_name"] = target
        key = f"images/{name}/{target}"
        if key in plan.files:
            raise InputError(f"several images in {use.path} have the file_name {target}")
        in_doubt = len(plan.left)
        plan.files[key] = _mend_size(plan, image, picture, annotations[image["id"]], use)
        if len(plan.left) > in_doubt:
            doubtful.add(image["id"])
    content["images"] = kept
    return doubtful


def _find(folder: Path, image: dict) -> str:
    """Return the path of a picture, also if folders in its name are written with backslashes."""
    file_name = str(image.get("file_name") or "(no file_name)")
    path = folder / file_name
    other = folder / file_name.replace("\\", "/")
    return str(other if not path.exists() and other.exists() else path)


def _target(file_name: str) -> str:
    """Return the name of a picture in the copy, which stays inside of its folder."""
    path = PurePosixPath(file_name.replace("\\", "/"))
    return path.name if path.is_absolute() or ".." in path.parts else str(path)


def _examine(path: str, image_range: Range | None) -> tuple[Picture, str]:
    return read_picture(path, image_range), why_broken(path)


def _mend_size(
    plan: Plan, image: dict, picture: Picture, annotations: list[dict], use: CocoUse
) -> Path | Callable[[], bytes]:
    """Bring a picture and its size in the file together, in place; return what is copied."""
    path = Path(picture.path)
    if picture.error:  # it is whole, and of a kind that is not read
        plan.left.append(Problem(picture.path, picture.error))
        return path
    orientation = picture.orientation if use.is_turned else 1
    shown = picture.size[::-1] if orientation in EXCHANGES else picture.size
    labeled = image.get("width"), image.get("height")
    if orientation in (2, 3, 4) or (orientation != 1 and shown[0] == shown[1]):
        sentence = (
            f"the picture {path} is turned when it is read (EXIF orientation {orientation}), and "
            "nothing tells whether its boxes are"
        )
        plan.left.append(Problem(picture.path, sentence))
        return path
    if labeled == shown:
        return path
    if labeled == picture.size and without_orientation(path.read_bytes()) is not None:
        sentence = (
            f"{path} is written without its EXIF orientation {orientation}, since {use.path} has "
            "the size of the stored picture"
        )
        plan.mended.append(Problem(picture.path, sentence))
        return partial(untagged, path)
    is_absent = labeled == (None, None) and orientation == 1
    if is_absent or _are_proven(shown, labeled, annotations):
        why = (
            "were missing" if is_absent else f"were {labeled[0]} and {labeled[1]}, which boxes pass"
        )
        sentence = (
            f"width and height of {path} in {use.path} are set to {shown[0]} and {shown[1]}, those "
            f"of the picture; they {why}"
        )
        plan.mended.append(Problem(picture.path, sentence))
        image["width"], image["height"] = shown
        return path
    sentence = (
        f"{path} has {shown[0]}x{shown[1]} pixels, but {labeled[0]}x{labeled[1]} in {use.path}, "
        "and its boxes do not prove that they are for this picture"
    )
    plan.left.append(Problem(picture.path, sentence))
    return path


def _are_proven(shown: Size, labeled: tuple[Any, Any], annotations: list[dict]) -> bool:
    """Return whether boxes prove that they are for a picture, and not for the size in the file.

    All lie in the picture, and one reaches out of the size in the file by a pixel and more. Masks
    in run lengths have the size of their picture, and prove nothing if they have another one.

    Args:
        shown, labeled: (width, height) of the picture and in the file.
        annotations: Annotations of the picture.
    """
    boxes = read_boxes([each.get("bbox") for each in annotations])
    if not all(type(n) in (int, float) for n in labeled) or not np.isfinite(boxes).all():
        return False
    if any(isinstance(each.get("segmentation"), dict) for each in annotations):
        return False
    reach = boxes[:, :2] + boxes[:, 2:]
    inside = (boxes[:, :2] >= 0).all() and (reach <= shown).all()
    return bool(inside and (reach >= np.add(labeled, 1)).any())
