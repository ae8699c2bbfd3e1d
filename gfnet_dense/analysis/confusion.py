"""Confusion matrices of label maps, the scores of classes that follow, and bands of boundaries."""

from typing import NamedTuple

import cv2
import numpy as np

BAND = 0.01  # width of the band on each side of a boundary, as a share of the image's diagonal
CHUNK = 2**22  # pixels that are counted at once


class Scores(NamedTuple):
    """Scores of all classes, (C,), float64; NaN where a score is not defined.

    Attributes:
        iou: Intersection over union.
        precision: Share of the pixels predicted as a class that are of the class.
        recall: Share of the pixels of a class that are predicted as the class.
    """

    iou: np.ndarray
    precision: np.ndarray
    recall: np.ndarray


class Confusion(NamedTuple):
    """Pixels of one class that are taken for another.

    Attributes:
        truth, prediction: Indices of both classes.
        pixels: Their number.
        share: Their share of all pixels of the class, 0..1.
    """

    truth: int
    prediction: int
    pixels: int
    share: float


def count_confusions(
    truth: np.ndarray, prediction: np.ndarray, num_classes: int, ignore_index: int
) -> np.ndarray:
    """Count pixels by their true and their predicted class.

    Args:
        truth: Class indices, (H, W), integers.
        prediction: Class indices, (H, W), integers in 0..num_classes - 1.
        num_classes: Number of classes C.
        ignore_index: Index in ``truth`` of the pixels that do not count.

    Returns:
        (C + 1, C), int64: rows are true classes, columns are predictions. The last row counts
        pixels of an index that is neither a class nor ``ignore_index``: mmsegmentation's IoUMetric
        counts them in the union of the class that they are predicted as.
    """
    counts = np.zeros((num_classes + 1) * num_classes, np.int64)
    truth, prediction = truth.ravel(), prediction.ravel()
    for start in range(0, truth.size, CHUNK):  # the int64 copies of huge images fill the memory
        part = truth[start : start + CHUNK].astype(np.int64)
        counted = part != ignore_index
        part = part[counted]
        part[(part < 0) | (part >= num_classes)] = num_classes
        cells = part * num_classes + prediction[start : start + CHUNK][counted]
        counts += np.bincount(cells, minlength=len(counts))
    return counts.reshape(num_classes + 1, num_classes)


def class_scores(matrix: np.ndarray) -> Scores:
    """Return the scores of all classes, as mmsegmentation's IoUMetric defines them.

    Args:
        matrix: As :func:`count_confusions` returns it, (C + 1, C).
    """
    hits = np.diag(matrix[:-1]).astype(np.float64)
    true, predicted = matrix[:-1].sum(1), matrix.sum(0)
    with np.errstate(invalid="ignore"):
        return Scores(hits / (true + predicted - hits), hits / predicted, hits / true)


def mean_of_defined(values: np.ndarray) -> float:
    """Return the mean of the values that are not NaN, NaN if there are none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")


def largest_confusions(matrix: np.ndarray, number: int) -> list[Confusion]:
    """Return the pairs of different classes that are confused in the most pixels, largest first.

    Args:
        matrix: As :func:`count_confusions` returns it, (C + 1, C).
        number: Largest number of pairs.
    """
    wrong = matrix[:-1].copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:number]
    totals = matrix.sum(1)
    pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return [
        Confusion(int(t), int(p), int(wrong[t, p]), float(wrong[t, p] / totals[t]))
        for t, p in pairs
        if wrong[t, p]
    ]


def band_width(height: int, width: int) -> int:
    """Return the width in pixels of the band on each side of a boundary: 1 or more."""
    return max(1, round(BAND * float(np.hypot(height, width))))


def boundary_band(labels: np.ndarray, ignore_index: int) -> np.ndarray:
    """Return which pixels lie near a boundary between two labels.

    These are the pixels that have one of another class within d pixels, d of
    :func:`band_width`: the union of the regions G_d of all classes in Boundary IoU (Cheng et al.,
    https://arxiv.org/abs/2103.16562, section 4), with the square neighborhood of its authors'
    code. It differs in the width, 2 % of the diagonal there (0.5 % for Cityscapes), and in
    the border of the image, which is no boundary here.

    Args:
        labels: Class indices, (H, W), integers in 0..32766.
        ignore_index: Index of pixels that are of no class: they make no boundary.

    Returns:
        (H, W), bool; False for ignored pixels.
    """
    ignored = labels == ignore_index
    kernel = np.ones((2 * band_width(*labels.shape) + 1,) * 2, np.uint8)
    values = labels.astype(np.int16)
    highest = cv2.dilate(np.where(ignored, np.int16(-1), values), kernel)
    lowest = cv2.erode(np.where(ignored, np.iinfo(np.int16).max, values), kernel)
    return (highest != lowest) & ~ignored
