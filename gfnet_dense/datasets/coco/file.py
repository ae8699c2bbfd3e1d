"""Reading a COCO file, and a report of what training or evaluation will use of it.

The functions are pure, apart from reading: they take the parsed content of a file
(https://cocodataset.org/#format-data). :mod:`.completion` fills what is absent.
"""

import gc
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gfnet_dense.utils.errors import InputError

from .annotations import (
    OTHER_CLASSES,
    AnnotationArrays,
    Fault,
    id_faults,
    mask_faults,
    unused,
    value_faults,
)
from .names import check_names, list_names
from .readings import LARGE_SHARE, doubts_of_boxes
from .structure import (
    Purpose,
    doubts_of_images,
    faults_of_images,
    faults_of_lists,
    shorten,
)


@dataclass
class CocoReport:
    """What one purpose uses of a COCO file.

    Attributes:
        path: The file.
        num_images: Number of images in the file.
        num_annotations: Number of annotations in the file.
        errors: Faults at which training or evaluation has to stop, a sentence each.
        warnings: Other doubtful things, a sentence each.
        used: Number of annotations that are used, by class, with zeros.
        crowds: Number of crowd regions, which count neither as objects nor as background.
        left_out: By reason: the indices in ``content["annotations"]`` of annotations that are not
            used. Each annotation has one reason.
        first_left_out: By reason: a description of the first one.
        empty_images: Indices in ``content["images"]`` of images without any annotation of the
            classes.
    """

    path: Path
    num_images: int = 0
    num_annotations: int = 0
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    used: Counter = field(default_factory=Counter)
    crowds: int = 0
    left_out: dict[str, np.ndarray] = field(default_factory=dict)
    first_left_out: dict[str, str] = field(default_factory=dict)
    empty_images: np.ndarray = field(default_factory=lambda: np.zeros(0, int))


def read_coco(path: str | Path) -> dict:
    """Return the parsed content of a JSON file.

    Any Unicode encoding is read, also with the byte order mark that programs on Windows write.

    Raises:
        InputError: If the file cannot be read, or holds no JSON object.
    """
    try:
        with _no_garbage_collection():
            content = json.loads(Path(path).read_bytes())
    except OSError as e:
        raise InputError(f"the annotation file {path} cannot be read: {e.strerror}") from None
    except (RecursionError, ValueError) as e:
        raise InputError(f"{path} is no COCO file, it holds no JSON: {e}") from None
    if not isinstance(content, dict):
        raise InputError(
            f"{path} is no COCO file, of images, annotations and categories: it holds a "
            f"{type(content).__name__}"
        )
    return content


def read_category_names(path: str | Path) -> list[str]:
    """Return the names of all categories of a COCO file, in their order, for ``classes``.

    Raises:
        InputError: If the file cannot be read, or has no categories with names.
    """
    categories = read_coco(path).get("categories") or []
    try:
        names = [category["name"] for category in categories]
    except (KeyError, TypeError):
        names = []
    if not names or not all(isinstance(name, str) for name in names):
        raise InputError(f"{path} has no categories with names: set classes in the config")
    return names


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Halve the time of parsing: Python would search millions of new dicts for cycles."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def inspect(
    content: dict,
    path: Path,
    classes: Sequence[str] | None,
    with_masks: bool = False,
    purpose: Purpose = "training",
    only_polygons: bool = False,
) -> CocoReport:
    """Report what is used of a COCO file and what is not.

    Args:
        content: Content of the file, after :func:`.completion.complete`.
        path: The file, for the messages.
        classes: Class names of the config in their order, None to take those of the file.
        with_masks: Whether masks are trained or evaluated, too.
        purpose: What the file is for.
        only_polygons: Whether masks in run lengths are left out (``poly2mask=False``).

    Returns:
        The report. If it has errors, its numbers may be incomplete.
    """
    report = CocoReport(path)
    report.errors = faults_of_lists(content, path, purpose)
    if report.errors:
        return report
    images, categories = content["images"], content["categories"]
    annotations = content.get("annotations", [])
    report.num_images, report.num_annotations = len(images), len(annotations)
    if classes is None:
        classes = [str(category.get("name", "")) for category in categories]
    report.errors = check_names(categories, classes, path) + faults_of_images(images, path)
    report.warnings = doubts_of_images(images, path)
    if report.errors or not annotations:
        report.used.update(dict.fromkeys(classes, 0))
        report.empty_images = np.arange(len(images))
        return report
    arrays = AnnotationArrays(content, classes)
    stops = id_faults(arrays, categories)
    if not any(fault.flags.any() for fault in stops):
        stops = value_faults(arrays)
        left_out = unused(arrays, purpose == "training")
        if with_masks:
            relevant = ~np.any([fault.flags for fault in left_out], axis=0)
            broken, thin = mask_faults(arrays, relevant, only_polygons)
            stops += broken
            if purpose == "training":
                left_out += thin
            else:  # pycocotools stops at masks that training leaves out
                stops += [fault._replace(words=f"come {fault.words}") for fault in thin[:1]]
        _count(report, content, arrays, left_out, classes)
        _judge(report, arrays, purpose)
    sentences = [_sentence(fault, content, path) for fault in stops if fault.flags.any()]
    report.errors = sentences + report.errors
    return report


def describe(content: dict, index: int) -> str:
    """Return a short name of an annotation for messages: 'annotation 7 of a.png'."""
    annotation = content["annotations"][index]
    name = f"annotation {annotation['id']}" if "id" in annotation else f"annotation no. {index}"
    for image in content["images"]:  # seldom called
        if image["id"] == annotation.get("image_id"):
            return f"{name} of {image.get('file_name') or 'image ' + str(image['id'])}"
    return name


def _sentence(fault: Fault, content: dict, path: Path) -> str:
    first = int(np.argmax(fault.flags))
    value = content["annotations"][first].get(fault.key)
    return (
        f"{fault.flags.sum()} of {len(fault.flags)} annotations in {path} {fault.words}, first "
        f"{describe(content, first)}: {fault.key} is {shorten(value)}"
        + (f"; {fault.cure}" if fault.cure else "")
    )


def _count(
    report: CocoReport,
    content: dict,
    arrays: AnnotationArrays,
    left_out: list[Fault],
    classes: Sequence[str],
) -> None:
    """Fill in the numbers of a report; each annotation counts for its first reason alone."""
    left = np.zeros(len(arrays), bool)
    for fault in left_out:
        indices = np.flatnonzero(fault.flags & ~left)
        left |= fault.flags
        if indices.size:
            value = content["annotations"][indices[0]].get(fault.key)
            report.left_out[fault.words] = indices
            report.first_left_out[fault.words] = (
                f"{describe(content, indices[0])}, {fault.key} {shorten(value)}"
            )
    used = ~left & ~arrays.crowd
    report.crowds = int((~left & arrays.crowd).sum())
    counts = np.bincount(arrays.label[used], minlength=len(classes)).tolist()
    report.used = Counter(dict(zip(classes, counts, strict=True)))
    of_image = arrays.image_index[(arrays.image_index >= 0) & (arrays.label >= 0)]
    num = np.bincount(of_image, minlength=report.num_images)
    report.empty_images = np.flatnonzero(num == 0)


def _judge(report: CocoReport, arrays: AnnotationArrays, purpose: Purpose) -> None:
    """Add errors and warnings about all annotations of a file together to its report."""
    path, total = report.path, report.num_annotations
    doubts = doubts_of_boxes(arrays, path)
    report.warnings += doubts.warnings
    if doubts.errors:
        report.errors += doubts.errors
        return
    num_used = report.used.total()
    reasons = [
        f"{len(indices)} {reason} (first {report.first_left_out[reason]})"
        for reason, indices in report.left_out.items()
    ]
    if not num_used and purpose != "prediction":
        crowds = [f"{report.crowds} crowd regions (iscrowd is 1)"] if report.crowds else []
        report.errors.append(
            f"none of the {total} annotations in {path} is used: {'; '.join(crowds + reasons)}"
        )
        return
    repeated = total - arrays.num_different()
    if repeated > LARGE_SHARE * total:
        report.warnings.append(
            f"{repeated} of {total} annotations in {path} repeat the box and the class of another "
            "one of their picture"
        )
    lost = sum(len(v) for k, v in report.left_out.items() if k != OTHER_CLASSES)
    if lost > LARGE_SHARE * total:
        report.warnings.append(
            f"{lost} of {total} annotations in {path} are not used: {'; '.join(reasons)}"
        )
    without = [name for name, count in report.used.items() if not count]
    if without:
        report.warnings.append(f"{path} has no usable object of {list_names(without)}")
    ignored = arrays.ignore & (arrays.label >= 0) & (arrays.image_index >= 0)
    if purpose == "evaluation" and ignored.any():
        report.warnings.append(
            f"{ignored.sum()} annotations in {path} are marked with ignore, which "
            "the evaluation counts as objects all the same: set iscrowd to 1 instead"
        )
