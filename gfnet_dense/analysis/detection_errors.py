"""The kinds of errors of a detector, and how much average precision each of them costs.

The kinds and their costs are those of TIDE (Bolya et al., https://arxiv.org/abs/2008.08115,
sections 2.2 and 2.3). Where the conditions of several kinds hold, the order is that of its authors'
code (https://github.com/dbolya/tide): Loc, Cls, Dupe, Bkg, Both. Matches are those of pycocotools.
"""

from dataclasses import dataclass

import numpy as np

from .precision_recall import average_precision

FOREGROUND, BACKGROUND = 0.5, 0.1  # IoU from which on a box is right, and below which it is nowhere

# What is wrong, by kind of false positive
KINDS = {
    "Cls": "at an object, but of the wrong class",
    "Loc": "of the right class, but not well placed",
    "Both": "of the wrong class and not well placed",
    "Dupe": "a second detection of an object that is found",
    "Bkg": "where no object is",
}
MISSED = "Missed"
RIGHT = ""  # the kind of a detection that is no error


@dataclass(frozen=True)
class Objects:
    """The objects that count, of all images.

    Attributes:
        image: Index of the image, (G,), int.
        label: Index of the class, (G,), int.
        is_found: Whether a detection is matched with it, (G,), bool.
    """

    image: np.ndarray
    label: np.ndarray
    is_found: np.ndarray


@dataclass(frozen=True)
class Detections:
    """The detections that count, of all images, in the order of the evaluation.

    Attributes:
        image: Index of the image, (N,), int.
        label: Index of the class, (N,), int.
        score: (N,), float.
        kind: RIGHT or a key of KINDS, (N,), str.
        truth: Index of the object that it is matched with, or that explains the error, (N,), int;
            -1 if there is none.
        iou: IoU with that object, (N,), float; 0 if there is none.
    """

    image: np.ndarray
    label: np.ndarray
    score: np.ndarray
    kind: np.ndarray
    truth: np.ndarray
    iou: np.ndarray

    @property
    def is_right(self) -> np.ndarray:
        """Whether each is matched with an object, (N,), bool."""
        return self.kind == RIGHT


def classify(
    ious: np.ndarray, labels: np.ndarray, true_labels: np.ndarray, matches: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the kind of each detection of an image, and the object that explains it.

    Args:
        ious: IoU of each detection with each object, (N, G).
        labels: Classes of the detections, (N,).
        true_labels: Classes of the objects, (G,).
        matches: Index of the object that each detection is matched with, (N,); -1 if with none.

    Returns:
        Kinds, (N,), str, and indices of objects, (N,): of the match, of the object of the same
        class (Loc, Dupe) or of another one (Cls) with the largest IoU, else of any that overlaps;
        -1 if there is none.
    """
    padded = np.pad(ious, ((0, 0), (0, 1)))  # an image without objects has a largest IoU of 0
    is_same = np.append(labels[:, None] == true_labels, np.zeros((len(labels), 1), bool), axis=1)
    same, other = np.where(is_same, padded, 0.0), np.where(is_same, 0.0, padded)
    best_same, best_other = same.max(1), other.max(1)
    conditions = {
        RIGHT: matches >= 0,
        "Loc": (best_same >= BACKGROUND) & (best_same < FOREGROUND),
        "Cls": best_other >= FOREGROUND,
        "Dupe": best_same >= FOREGROUND,
        "Bkg": best_other < BACKGROUND,
    }
    kinds = np.select(list(conditions.values()), list(conditions), "Both")
    truth = np.select(
        [kinds == RIGHT, np.isin(kinds, ("Loc", "Dupe")), kinds == "Cls", padded.max(1) > 0],
        [matches, same.argmax(1), other.argmax(1), padded.argmax(1)],
        -1,
    )
    return kinds, truth


def is_missed(detections: Detections, objects: Objects) -> np.ndarray:
    """Return which objects no detection explains: not found, and no Cls or Loc error, (G,), bool.

    The other objects that are not found would be, if the error were mended.
    """
    missed = ~objects.is_found
    missed[detections.truth[np.isin(detections.kind, ("Cls", "Loc"))]] = False
    return missed


def costs(detections: Detections, objects: Objects, num_classes: int) -> dict[str, float]:
    """Return how much the AP50 would rise if all errors of one kind were mended, for each kind.

    As TIDE mends them: of the Cls and Loc errors at an object that is not found, the one with the
    highest score becomes right; all other false positives of the kind are removed, and missed
    objects do not count any more. The gains do not add up to what is missing, since the error that
    is left limits what the mended one gains.

    Args:
        detections: Detections at IoU 0.5.
        objects: Objects that count.
        num_classes: Number of classes.

    Returns:
        Differences of the mean AP50, -1..1, by kind, with MISSED. As in COCO's evaluation the mean
        is over the classes that have objects; NaN without any.
    """
    counts = np.bincount(objects.label, minlength=num_classes)
    present = np.flatnonzero(counts)
    right, kind = detections.is_right, detections.kind

    def mean_ap(
        kept: np.ndarray, label: np.ndarray, right: np.ndarray, counts: np.ndarray
    ) -> float:
        values = [
            average_precision(detections.score[chosen], right[chosen], int(counts[c]))
            for c in present
            for chosen in [kept & (label == c)]
        ]
        return float(np.mean(values)) if values else float("nan")

    everything = np.ones(len(kind), bool)
    base = mean_ap(everything, detections.label, right, counts)
    mended = _mendable(detections, objects)
    gains = {}
    for name in KINDS:
        moved = mended & (kind == name)
        label = detections.label.copy()
        label[moved] = objects.label[detections.truth[moved]]
        gains[name] = mean_ap((kind != name) | moved, label, right | moved, counts) - base
    missed = is_missed(detections, objects)
    fewer = counts - np.bincount(objects.label[missed], minlength=num_classes)
    return gains | {MISSED: mean_ap(everything, detections.label, right, fewer) - base}


def _mendable(detections: Detections, objects: Objects) -> np.ndarray:
    """Return which Cls and Loc errors find an object if mended: the best at each, (N,), bool."""
    found = np.append(objects.is_found, True)  # the last is for the truth -1
    errors = np.flatnonzero(np.isin(detections.kind, ("Cls", "Loc")) & ~found[detections.truth])
    errors = errors[np.argsort(-detections.score[errors], kind="stable")]
    _, first = np.unique(detections.truth[errors], return_index=True)
    mendable = np.zeros(len(detections.kind), bool)
    mendable[errors[first]] = True
    return mendable


def count_classes(
    detections: Detections, objects: Objects, kept: np.ndarray, num_classes: int
) -> np.ndarray:
    """Count the kept detections by the class of their object, and the objects that none finds.

    Args:
        detections: Detections at IoU 0.5.
        objects: Objects that count.
        kept: Detections to count, such as those above a threshold, (N,), bool.
        num_classes: Number of classes C.

    Returns:
        (C + 1, C + 1), int64: rows are true classes, columns are predicted ones. The diagonal
        counts right detections, other cells of classes Cls errors, the last row all other false
        positives, the last column the objects of a class that are not found.
    """
    matrix = np.zeros((num_classes + 1,) * 2, np.int64)
    has_class = detections.is_right | (detections.kind == "Cls")
    rows = np.full(len(has_class), num_classes)
    rows[has_class] = objects.label[detections.truth[has_class]]
    np.add.at(matrix, (rows[kept], detections.label[kept]), 1)
    found = np.zeros(len(objects.label), bool)
    found[detections.truth[kept & detections.is_right]] = True
    matrix[:-1, -1] = np.bincount(objects.label[~found], minlength=num_classes)
    return matrix
