"""Survey of a detection data set: the annotation files, and the headers of all pictures.

COCO files are examined by the functions that examine them before a training. The annotations of
other data sets of mmdetection are counted as the library reads them, and not examined.
"""

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import ConfigDict
from mmengine.registry import DATASETS

from gfnet_dense.datasets.checks.detection_classes import check_detector_classes
from gfnet_dense.datasets.coco.annotations import AnnotationArrays
from gfnet_dense.datasets.coco.completion import Filled, complete, encode_mask
from gfnet_dense.datasets.coco.file import OTHER_CLASSES, CocoReport, describe, inspect, read_coco
from gfnet_dense.datasets.coco.loading import filter_images
from gfnet_dense.datasets.coco.pictures import EXCHANGES, check_size
from gfnet_dense.datasets.coco.uses import CocoUse, faults_of_evaluators, find_uses
from gfnet_dense.utils.channels import Channels, channels_of, read_shown
from gfnet_dense.utils.decoding import Range, check_image_range
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.images import IMAGE_SUFFIXES, visible_files
from gfnet_dense.utils.users_code import places_in_users_code

from .contents import EXAMPLES, AnnotatedImage, Example, Problem, Report, in_parallel
from .pictures import Picture, dark_pictures, read_picture

# COCO's classes of sizes: areas in pixels from which on an object is medium, and large
# (https://cocodataset.org/#detection-eval).
MEDIUM, LARGE = 32**2, 96**2


def survey_split(cfg: ConfigDict, split: str, datasets: list[ConfigDict]) -> Report:
    """Examine the datasets of a split.

    Args:
        cfg: A whole config of mmdetection.
        split: 'train', or names of splits with the same datasets, 'val, test'.
        datasets: Their configs, without wrappers.
    """
    report = Report(split, "objects")
    names = tuple(split.split(", "))
    try:
        check_detector_classes(cfg, names)
    except InputError as e:
        report.errors.append(Problem("", str(e)))
    try:
        of_split = {name: find_uses(cfg, name) for name in names}
        uses = [use for each in of_split.values() for use in each]
        ranges = {path_of(each): range_of(each) for each in datasets}
    except InputError as e:
        report.errors.append(Problem("", str(e)))
        return report
    for name, each in of_split.items():
        report.errors += [Problem("", text) for text in faults_of_evaluators(cfg, name, each)]
    # Splits that share their datasets share their files, too.
    for use in {(use.path, use.purpose, use.folder): use for use in uses}.values():
        _survey_file(report, use, ranges.get(use.path), channels_of(cfg.model))
    examined = {use.path for use in uses if use.folder is not None}
    for dataset in datasets:
        if path_of(dataset) not in examined:
            _survey_other(report, dataset)
    report.errors = list(dict.fromkeys(report.errors))
    return report


def path_of(dataset: ConfigDict) -> Path:
    """Return the path of the annotation file in the config of a data set."""
    return Path(dataset.get("data_root") or "", dataset.get("ann_file") or "")


def range_of(dataset: ConfigDict) -> Range | None:
    """Return the ``image_range`` in the config of a data set.

    Raises:
        InputError: If it is not two numbers.
    """
    return check_image_range((dataset.get("metainfo") or {}).get("image_range"))


def _survey_file(
    report: Report, use: CocoUse, image_range: Range | None, channels: Channels | None
) -> None:
    """Examine a COCO file and its pictures, and add its contents and problems to a report."""
    path = str(use.path)
    try:
        content = read_coco(use.path)
        filled = complete(content)
        found = inspect(
            content, use.path, use.classes, use.with_masks, use.purpose, use.only_polygons
        )
    except InputError as e:
        report.errors.append(Problem("", str(e)))
        return
    report.errors += [Problem("", sentence) for sentence in found.errors]
    report.warnings += [Problem("", sentence) for sentence in found.warnings]
    if use.folder is None:  # the file of an evaluator
        return
    report.notes += _describe(content, found, filled, use)
    report.warnings += _left_out(path, found)
    report.add_classes(use.classes)
    images = [each for each in content.get("images") or [] if _has_name(each)]
    report.num_images += len(images)
    pictures = _survey_pictures(report, images, use, image_range, channels)
    if found.errors or not content.get("annotations"):
        return
    arrays = AnnotationArrays(content, use.classes)
    used = ~arrays.crowd
    for indices in found.left_out.values():
        used[indices] = False
    report.counts.update(found.used)
    pairs = np.unique(np.stack([arrays.image_index, arrays.label])[:, used], axis=1)
    numbers = np.bincount(pairs[1], minlength=len(use.classes)).tolist()
    report.images.update(dict(zip(use.classes, numbers, strict=True)))
    report.notes += _describe_objects(content, arrays, used)
    for image_index, label in pairs.T.tolist():
        path, name = pictures[image_index].path, use.classes[label]
        if len(report.examples.get(name, ())) < EXAMPLES and not pictures[image_index].error:
            indices = np.flatnonzero((arrays.image_index == image_index) & used)
            show = partial(read_shown, path, dict(image_range=image_range), channels)
            load = partial(_load, show, content, indices, arrays)
            report.add_example(name, Example(path, load))


def _describe(
    content: dict, found: CocoReport, filled: dict[str, Filled], use: CocoUse
) -> list[str]:
    """Return lines about what is used of a COCO file, what is filled in, and what is not used."""
    lines = [
        f"{use.path}: {found.num_annotations} annotations, {found.used.total()} objects are used"
        + (f", {found.crowds} crowd regions" if found.crowds else "")
    ]
    for words, values in filled.items():
        first = "" if "images" in words else f" (first {describe(content, values.index)})"
        lines.append(f"filled in when it is read: {values.count} {words}{first}")
    if found.errors:
        return lines
    if OTHER_CLASSES in found.left_out:
        lines.append(f"{len(found.left_out[OTHER_CLASSES])} annotations {OTHER_CLASSES}")
    _, reasons = filter_images(content["images"], found, use.filter_cfg)
    return lines + [f"left out: {reason}" for reason in reasons]


def _left_out(path: str, found: CocoReport) -> list[Problem]:
    return [
        Problem(
            "",
            f"{len(indices)} annotations of {path} {words} are not used, first "
            f"{found.first_left_out[words]}",
        )
        for words, indices in found.left_out.items()
        if words != OTHER_CLASSES
    ]


def _describe_objects(content: dict, arrays: AnnotationArrays, used: np.ndarray) -> list[str]:
    """Return lines about the sizes of the used objects and their numbers in an image."""
    areas = np.array([content["annotations"][i].get("area") or 0 for i in np.flatnonzero(used)])
    small, large = int((areas < MEDIUM).sum()), int((areas >= LARGE).sum())
    numbers = np.bincount(arrays.image_index[used], minlength=len(content["images"]))
    return [
        f"areas of objects: {small} small (below 32x32 pixels), {len(areas) - small - large} "
        f"medium, {large} large (from 96x96 pixels on)",
        f"objects in a picture: median {np.median(numbers):g}, at most {numbers.max()}; "
        f"{int((numbers == 0).sum())} pictures without",
    ]


def _has_name(image: Any) -> bool:
    return isinstance(image, dict) and isinstance(image.get("file_name"), str)


def _survey_pictures(
    report: Report,
    images: list[dict],
    use: CocoUse,
    image_range: Range | None,
    channels: Channels | None,
) -> list[Picture]:
    """Read the headers of all pictures of a file, and compare them with the sizes in it."""
    assert use.folder is not None
    paths = [str(use.folder / image["file_name"]) for image in images]
    read = partial(read_picture, image_range=image_range, channels=channels)
    pictures = list(in_parallel(read, paths, report.split))
    for image, picture in zip(images, pictures, strict=True):
        if picture.error:
            report.errors.append(Problem(picture.path, picture.error))
            continue
        orientation = picture.orientation if use.is_turned else 1
        width, height = picture.size[::-1] if orientation in EXCHANGES else picture.size
        labeled: Any = image.get("height"), image.get("width")
        if not all(type(n) is int for n in labeled):  # an error of the file
            continue
        try:
            check_size(picture.path, (height, width), labeled, use.path, orientation)
        except InputError as e:
            report.errors.append(Problem(picture.path, str(e)))
            continue
        if orientation in (2, 3, 4) or (orientation != 1 and width == height):
            sentence = (
                f"the picture {picture.path} is turned when it is read (EXIF orientation "
                f"{orientation}), and nothing tells whether its boxes are: compare them in the "
                "contact sheet"
            )
            report.warnings.append(Problem(picture.path, sentence))
    if image_range is None:
        errors, warnings = dark_pictures(pictures)
        report.errors += errors
        report.warnings += warnings
    report.files += paths
    return pictures


def unused_pictures(reports: list[Report]) -> list[Problem]:
    """Return a warning for each picture beside those of the annotation files that none names.

    Args:
        reports: Reports of all splits: a file may name pictures in the folder of another one.
    """
    named = {Path(path) for report in reports for path in report.files}
    folders = {path.parent for path in named}
    return [
        Problem(str(path), f"the picture {path} is in no annotation file")
        for folder in sorted(folders)
        for path in visible_files(folder)
        if path.suffix.lower() in IMAGE_SUFFIXES and path not in named
    ]


def _survey_other(report: Report, cfg: ConfigDict) -> None:
    """Count the objects of a data set that has no COCO file, as mmdetection reads them."""
    kind = cfg["type"] if isinstance(cfg["type"], str) else cfg["type"].__name__
    try:
        dataset = DATASETS.build(dict(cfg, pipeline=[], serialize_data=False, _scope_="mmdet"))
    except Exception as e:  # the parsers of mmdetection may raise anything at broken files
        if places_in_users_code(e):  # a dataset of the user's own
            raise
        reason = " ".join(str(e).split())
        report.errors.append(
            Problem("", f"the dataset {kind} cannot be built: {type(e).__name__}: {reason}")
        )
        return
    report.notes.append(
        f"{kind} is no COCO data set: its objects are counted and its pictures read, but boxes, "
        "masks and names are not examined"
    )
    classes = list(dataset.metainfo.get("classes") or ())
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    report.num_images += len(infos)
    report.add_classes(classes)
    for info in infos:
        labels = Counter(each["bbox_label"] for each in info.get("instances", ()))
        for label, count in labels.items():
            report.counts[classes[label]] += count
            report.images[classes[label]] += 1
    if not report.counts.total():
        report.warnings.append(Problem("", f"the data of {report.split} have no objects"))
    paths = [info["img_path"] for info in infos]
    read = partial(read_picture, image_range=range_of(cfg))
    for picture in in_parallel(read, paths, report.split):
        if picture.error:
            report.errors.append(Problem(picture.path, picture.error))
    report.files += paths


def _load(
    show: Callable[[], np.ndarray],
    content: dict,
    indices: np.ndarray,
    arrays: AnnotationArrays,
) -> AnnotatedImage:
    """Load a picture with its boxes, and masks if all its objects have one."""
    boxes = arrays.boxes[indices].copy()
    boxes[:, 2:] += boxes[:, :2]
    sizes = {each["id"]: (each["height"], each["width"]) for each in content["images"]}
    codes = [encode_mask(content["annotations"][i], sizes) for i in indices]
    masks = None
    if all(code is not None for code in codes):
        from pycocotools import mask as coco_mask  # comes with mmdetection

        masks = np.stack([coco_mask.decode(code) for code in codes]).astype(bool)
    return AnnotatedImage(show(), None, boxes, arrays.label[indices], masks)
