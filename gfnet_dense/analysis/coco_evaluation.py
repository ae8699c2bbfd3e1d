"""COCO's evaluation of detections (pycocotools), and the matches that it makes.

Names of pycocotools are used here as seen in version 2.0.
"""

import contextlib
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import track

from .detection_errors import Detections, Objects, classify

MAX_DETECTIONS = 100  # of an image and a class, those with the highest scores
SIZES = ("all", "small", "medium", "large")  # pycocotools' areaRngLbl
AP_NAMES = ("AP", "AP50", "AP75", "AP small", "AP medium", "AP large")


class Evaluation(NamedTuple):
    """A COCO evaluation of boxes or masks.

    Attributes:
        kind: 'bbox' or 'segm'.
        classes: Names of the classes, in the order of their indices.
        precision: (T, R, C, A, M), as in COCOeval's ``eval``: IoU thresholds, 101 recalls, classes,
            sizes, maximum numbers of detections; -1 where a class has no objects.
        recall: (T, C, A, M), likewise.
        stats: The overall figures by name; NaN where there are no objects.
        num_objects: Number of objects that count, by class and size, (C, A), int.
        detections: The detections that count at an IoU of 0.5.
        objects: The objects that count.
        image_ids: By index of image, its COCO id.
        found: The detections in COCO's format; ``segmentation`` are run lengths for masks.
        truths: The objects, likewise.
    """

    kind: str
    classes: list[str]
    precision: np.ndarray
    recall: np.ndarray
    stats: dict[str, float]
    num_objects: np.ndarray
    detections: Detections
    objects: Objects
    image_ids: list[int]
    found: list[dict]
    truths: list[dict]

    def class_figures(self) -> dict[str, np.ndarray]:
        """Return the figures of each class by name, (C,), NaN where a class has no objects.

        They are those of mmdetection's ``classwise``: at the largest number of detections.
        """
        table = {
            name: _mean(self.precision[thresholds, :, :, size, -1], (0, 1))
            for name, thresholds, size in zip(
                AP_NAMES,
                [slice(None), slice(0, 1), slice(5, 6), *3 * [slice(None)]],
                [0, 0, 0, 1, 2, 3],
                strict=True,
            )
        }
        return table | {"AR": _mean(self.recall[:, :, 0, -1], (0,))}


def _mean(values: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Return means over axes of the values that are not -1, NaN where all are."""
    defined = values > -1
    count = defined.sum(axes)
    return np.where(
        count > 0, np.where(defined, values, 0).sum(axes) / np.maximum(count, 1), np.nan
    )


def evaluate(
    truth: Any,
    results: list[dict],
    kind: str,
    category_ids: Sequence[int],
    image_ids: Sequence[int],
    max_detections: Sequence[int],
) -> Evaluation:
    """Evaluate detections as mmdetection's CocoMetric does, with its default IoU thresholds.

    Args:
        truth: pycocotools' COCO object of the annotation file.
        results: Detections in COCO's format of results, as CocoMetric writes them.
        kind: 'bbox' or 'segm'.
        category_ids: Ids of the classes.
        image_ids: Ids of the images.
        max_detections: Maximum numbers of detections, CocoMetric's ``proposal_nums``.
    """
    from pycocotools.cocoeval import COCOeval  # comes with mmdetection

    with contextlib.redirect_stdout(io.StringIO()):
        coco_eval = COCOeval(truth, _load(truth, results, kind), kind)
        params = coco_eval.params
        params.catIds, params.imgIds = list(category_ids), list(image_ids)
        params.maxDets = list(max_detections)
        coco_eval.evaluate()
        coco_eval.accumulate()
        coco_eval.summarize()
    names = [*AP_NAMES, *(f"AR at {n}" for n in params.maxDets), *(f"AR {s}" for s in SIZES[1:])]
    stats = {
        name: float("nan") if value < 0 else float(value)
        for name, value in zip(names, coco_eval.stats, strict=True)
    }
    return Evaluation(
        kind,
        [truth.cats[i]["name"] for i in params.catIds],
        coco_eval.eval["precision"],
        coco_eval.eval["recall"],
        stats,
        _count_objects(coco_eval),
        *_read_matches(coco_eval),
    )


def _load(truth: Any, results: list[dict], kind: str) -> Any:
    """Return the COCO object of detections; pycocotools' ``loadRes`` fails without any."""
    if results:
        if kind == "segm":  # the areas are those of masks, as in CocoMetric
            results = [{k: v for k, v in each.items() if k != "bbox"} for each in results]
        return truth.loadRes(results)
    empty = type(truth)()
    empty.dataset = dict(truth.dataset, annotations=[])
    empty.createIndex()
    return empty


def _cells(coco_eval: Any, label: int, size: int) -> list[dict | None]:
    """Return the evaluation of each image for a class and a size."""
    params = coco_eval.params
    num_images = len(params.imgIds)
    start = (label * len(params.areaRng) + size) * num_images
    return coco_eval.evalImgs[start : start + num_images]


def _count_objects(coco_eval: Any) -> np.ndarray:
    """Return the number of objects that count, by class and size."""

    def number(label: int, size: int) -> int:
        cells = _cells(coco_eval, label, size)
        return sum(int((cell["gtIgnore"] == 0).sum()) for cell in cells if cell)

    labels = range(len(coco_eval.params.catIds))
    return np.array([[number(c, size) for size in range(len(SIZES))] for c in labels])


def _read_matches(coco_eval: Any) -> tuple[Detections, Objects, list[int], list, list]:
    """Return what :class:`Evaluation` holds from ``detections`` on.

    Matches are those at the first of COCOeval's IoU thresholds, 0.5.
    """
    params = coco_eval.params
    label_of = {category: c for c, category in enumerate(params.catIds)}
    by_class = [_cells(coco_eval, c, 0) for c in range(len(params.catIds))]
    rows: list[tuple] = []  # of detections
    objects: list[tuple] = []
    found: list[dict] = []
    truths: list[dict] = []
    numbers = range(len(params.imgIds))
    for image in track(numbers, "errors", console=Console(stderr=True)):
        cells = [cell for each in by_class if (cell := each[image])]
        own, matches, own_truths = _read_image(coco_eval, cells)
        labels, true_labels = (
            np.array([label_of[each["category_id"]] for each in group], int)
            for group in (own, own_truths)
        )
        ious = _ious(own, own_truths, params.iouType)
        kinds, truth = classify(ious, labels, true_labels, matches)
        best = np.pad(ious, ((0, 0), (0, 1)))[range(len(own)), truth]  # of truth -1, the last: 0
        truth = np.where(truth < 0, -1, truth + len(truths))
        scores = [each["score"] for each in own]
        rows += zip([image] * len(own), labels, scores, kinds, truth, best, strict=True)
        is_found = np.isin(np.arange(len(own_truths)), matches)
        objects += zip([image] * len(own_truths), true_labels, is_found, strict=True)
        found += own
        truths += own_truths
    return (
        Detections(*_arrays(rows, (int, int, float, "<U4", int, float))),
        Objects(*_arrays(objects, (int, int, bool))),
        list(params.imgIds),
        found,
        truths,
    )


def _arrays(rows: list[tuple], types: Sequence[Any]) -> list[np.ndarray]:
    """Return the columns of rows, of which there may be none."""
    columns = zip(*rows, strict=True) if rows else [()] * len(types)
    return [np.array(column, each) for column, each in zip(columns, types, strict=True)]


def _read_image(coco_eval: Any, cells: list[dict]) -> tuple[list[dict], np.ndarray, list[dict]]:
    """Return the detections and objects of an image that count at the first IoU threshold.

    Args:
        coco_eval: A COCOeval after ``evaluate``.
        cells: Its evaluations of the image, of all classes at all sizes.

    Returns:
        Detections; for each the index of the object that it is matched with, -1 if with none;
        objects.
    """
    found: list[dict] = []
    matched: list[float] = []
    truths: list[dict] = []
    for cell in cells:
        kept = np.flatnonzero(~cell["dtIgnore"][0][:MAX_DETECTIONS].astype(bool))
        found += [coco_eval.cocoDt.anns[cell["dtIds"][i]] for i in kept]
        matched += cell["dtMatches"][0][kept].tolist()
        counted = np.flatnonzero(np.equal(cell["gtIgnore"], 0))
        truths += [coco_eval.cocoGt.anns[cell["gtIds"][i]] for i in counted]
    place = {each["id"]: i for i, each in enumerate(truths)}
    return found, np.array([place[i] if i else -1 for i in matched], int), truths


def _ious(found: list[dict], truths: list[dict], kind: str) -> np.ndarray:
    """Return the IoU of each detection with each object, (N, G)."""
    from pycocotools import mask as coco_mask

    if not found or not truths:
        return np.zeros((len(found), len(truths)))
    key = "bbox" if kind == "bbox" else "segmentation"
    shapes = ([each[key] for each in group] for group in (found, truths))
    return coco_mask.iou(*shapes, [0] * len(truths))
