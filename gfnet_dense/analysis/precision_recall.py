"""Average precision and score thresholds from detections that are known to be right or wrong."""

from typing import NamedTuple

import numpy as np

RECALLS = np.linspace(0, 1, 101)  # at which COCO's evaluation samples the precision


class Threshold(NamedTuple):
    """A score from which on detections are kept, and what is then right.

    Attributes:
        score: The threshold; NaN where no detection is right.
        precision: Share of the kept detections that are right.
        recall: Share of the objects that are found.
        f1: Harmonic mean of both.
    """

    score: float
    precision: float
    recall: float
    f1: float


def average_precision(scores: np.ndarray, is_right: np.ndarray, num_objects: int) -> float:
    """Return the average precision of one class at one IoU, as pycocotools' COCOeval defines it.

    The precision is made to fall with the recall, and averaged over 101 recalls.

    Args:
        scores: Scores of the detections, (N,); equal ones are in the order of the evaluation.
        is_right: Whether each is matched with an object, (N,), bool.
        num_objects: Number of objects of the class. Without any, the precision is 0, or 1 if there
            are no detections either, so that nothing is left that could be wrong.

    Returns:
        0..1.
    """
    if num_objects == 0:
        return float(len(scores) == 0)
    right = np.cumsum(is_right[np.argsort(-scores, kind="stable")])
    precision = right / np.arange(1, len(right) + 1)
    falling = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return float(falling[np.searchsorted(right / num_objects, RECALLS)].mean())


def best_threshold(scores: np.ndarray, is_right: np.ndarray, num_objects: int) -> Threshold:
    """Return the threshold with the largest F1, the highest of equally good ones.

    Args:
        scores: Scores of the detections, (N,).
        is_right: Whether each is matched with an object, (N,), bool.
        num_objects: Number of objects.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, right = scores[order], np.cumsum(is_right[order])
    if not len(right) or right[-1] == 0:
        return Threshold(float("nan"), float("nan"), 0.0, 0.0)
    kept = np.arange(1, len(right) + 1)
    f1 = 2 * right / (kept + num_objects)
    f1[:-1][ranked[:-1] == ranked[1:]] = 0  # a threshold keeps all detections of a score
    best = int(np.argmax(f1))
    return Threshold(
        float(ranked[best]),
        float(right[best] / kept[best]),
        float(right[best] / num_objects),
        float(f1[best]),
    )
