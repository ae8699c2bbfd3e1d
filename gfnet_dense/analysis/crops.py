"""Sheets of crops: the worst false positives, and missed objects."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gfnet_dense.visualization.overlays import Color
from gfnet_dense.visualization.sheets import draw_sheet

from .coco_evaluation import Evaluation
from .pictures import TRUE, WRONG, Outline, draw_crop, end_of, shorten

PER_ROW = 4  # crops in a row of a sheet
AT_A_MISS = 3  # largest number of detections drawn at a missed object


@dataclass(frozen=True)
class Sheet:
    """Crops with captions.

    Attributes:
        rows: Rows of crops, (H, W, 3), uint8, RGB.
        captions: Rows of texts.
        legend: RGB colors, 0..255, by name.
    """

    rows: list[list[np.ndarray]]
    captions: list[list[str]]
    legend: dict[str, Color]

    def write(self, path: Path) -> None:
        """Write it as a PNG file."""
        draw_sheet(self.rows, [""] * PER_ROW, self.legend, path, captions=self.captions)


class Crops:
    """Crops of the images of an evaluation.

    Args:
        evaluation: The evaluation.
        read: Returns the path of an image and a picture of it, (H, W, 3), uint8, RGB, by its COCO
            id; None if it was not tested.
        num_worst: Number of crops of each kind of error.
    """

    def __init__(
        self,
        evaluation: Evaluation,
        read: Callable[[int], tuple[str, np.ndarray] | None],
        num_worst: int,
    ) -> None:
        self.evaluation, self.read, self.num_worst = evaluation, read, num_worst

    def false_positives(self, kind: str) -> Sheet | None:
        """Return the false positives of a kind with the highest scores, None if there are none."""
        detections = self.evaluation.detections
        order = np.argsort(-detections.score, kind="stable")
        worst = order[detections.kind[order] == kind][: self.num_worst]
        cells = [self._false_positive(int(i)) for i in worst]
        return _sheet(cells, {"detection": WRONG, "truth": TRUE})

    def misses(self, is_missed: np.ndarray) -> Sheet | None:
        """Return missed objects, in turn the largest of each class, None if there are none.

        Args:
            is_missed: Which objects are, (G,), bool.
        """
        labels = self.evaluation.objects.label
        areas = np.array([each["bbox"][2] * each["bbox"][3] for each in self.evaluation.truths])
        missed = np.flatnonzero(is_missed)
        missed = missed[np.argsort(-areas[missed], kind="stable")]
        turn = [int((labels[missed[:i]] == labels[g]).sum()) for i, g in enumerate(missed)]
        chosen = missed[np.argsort(turn, kind="stable")][: self.num_worst]
        return _sheet([self._miss(int(g)) for g in chosen], {"detection": WRONG, "missed": TRUE})

    def _false_positive(self, i: int) -> tuple[np.ndarray, str] | None:
        detections, evaluation = self.evaluation.detections, self.evaluation
        shown = self.read(evaluation.image_ids[detections.image[i]])
        if shown is None:
            return None
        path, image = shown
        g, detected = int(detections.truth[i]), self._detection(i)
        outlines, truth = [detected], "no object there"
        if g >= 0:
            outlines.insert(0, self._object(g))
            truth = f"{self._name(evaluation.objects.label[g])}, IoU {detections.iou[i]:.2f}"
        name = f"{self._name(detections.label[i])} {detections.score[i]:.2f}"
        text = f"{detections.kind[i]}: {name}\ntruth: {truth}\n{end_of(path, 40)}"
        return draw_crop(image, detected.box, outlines), text

    def _miss(self, g: int) -> tuple[np.ndarray, str] | None:
        evaluation, objects = self.evaluation, self.evaluation.objects
        detections, missed = evaluation.detections, self._object(g)
        shown = self.read(evaluation.image_ids[objects.image[g]])
        if shown is None:
            return None
        path, image = shown
        near = np.flatnonzero(detections.image == objects.image[g])
        near = near[np.argsort(-detections.score[near], kind="stable")]
        at_it = [i for i in near if _overlap(evaluation.found[i]["bbox"], missed.box)][:AT_A_MISS]
        outlines = [
            self._detection(i, f"{self._name(detections.label[i])} {detections.score[i]:.2f}")
            for i in at_it[::-1]
        ]
        size = f"{missed.box[2]:.0f}x{missed.box[3]:.0f} pixels"
        text = f"missed: {self._name(objects.label[g])}, {size}\n{end_of(path, 40)}"
        return draw_crop(image, missed.box, [*outlines, missed]), text

    def _name(self, label: int) -> str:
        return shorten(self.evaluation.classes[label])

    def _object(self, g: int) -> Outline:
        return self._outline(self.evaluation.truths[g], TRUE)

    def _detection(self, i: int, text: str = "") -> Outline:
        return self._outline(self.evaluation.found[i], WRONG, text)

    def _outline(self, entry: dict, color: Color, text: str = "") -> Outline:
        mask = None
        if self.evaluation.kind == "segm":
            from pycocotools import mask as coco_mask  # comes with mmdetection

            mask = coco_mask.decode(entry["segmentation"]).astype(bool)
        return Outline(np.array(entry["bbox"], float), color, text, mask)


def _sheet(
    cells: Sequence[tuple[np.ndarray, str] | None], legend: dict[str, Color]
) -> Sheet | None:
    """Return the crops in rows of PER_ROW, with their texts; None without any."""
    present = [cell for cell in cells if cell is not None]
    if not present:
        return None
    rows = [present[i : i + PER_ROW] for i in range(0, len(present), PER_ROW)]
    return Sheet(
        [[crop for crop, _ in row] for row in rows], [[text for _, text in row] for row in rows],
        legend,
    )  # fmt: skip


def _overlap(box: Sequence[float], other: np.ndarray) -> bool:
    """Return whether two boxes overlap, both as x, y, width, height."""
    (x, y, w, h), (left, top, width, height) = box, other
    return bool(x < left + width and x + w > left and y < top + height and y + h > top)
