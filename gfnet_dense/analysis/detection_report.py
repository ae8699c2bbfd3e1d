"""The report on the errors of a detector: figures, kinds of errors, and thresholds."""

from typing import Any

import numpy as np

from .coco_evaluation import AP_NAMES, MAX_DETECTIONS, SIZES, Evaluation
from .crops import AT_A_MISS, Crops
from .detection import DetectionErrors
from .detection_errors import (
    BACKGROUND,
    FOREGROUND,
    KINDS,
    MISSED,
    costs,
    count_classes,
    is_missed,
)
from .page import Section, paragraph, percent, picture, table
from .pictures import (
    describe_confusions,
    draw_bars,
    draw_confusions,
    draw_precision_recall,
    some_of,
)
from .precision_recall import Threshold, best_threshold
from .report import Report
from .results import Results

WORDS = {"bbox": "Boxes", "segm": "Masks"}
DIFFERENCE = 0.0015  # of CocoMetric's figures, which are rounded to 0.001
REPORTED = dict(zip(("mAP", "mAP_50", "mAP_75", "mAP_s", "mAP_m", "mAP_l"), AP_NAMES, strict=True))
MISSES = (
    "Missed objects, in turn the largest of each class, with the detections at them that have the "
    f"highest scores, {AT_A_MISS} at most."
)


def report_detection(errors: DetectionErrors, results: Results, num_worst: int) -> Report:
    """Write the files of the analysis of a detector, and return what its page shows.

    Args:
        errors: The errors of a whole test.
        results: Where tables and pictures are written.
        num_worst: Number of crops of each kind of error.

    Raises:
        InputError: If the test data have no objects.
    """
    findings: list[str] = []
    sections: list[Section] = []
    figures: dict[str, Any] = dict(images=len(errors.paths), reported=errors.reported)
    num_classes = 0
    for evaluation in errors.evaluations():
        part = _Part(evaluation, errors, results)
        findings += part.findings()
        sections += [*part.sections(), *part.sheets(Crops(evaluation, errors.read, num_worst))]
        figures[evaluation.kind] = part.figures()
        num_classes = part.count
    if untested := errors.num_untested():
        findings.append(
            f"{untested} images of the annotation file were not tested: their objects count as "
            "missed, as in CocoMetric, and are on no sheet."
        )
    title = f"Errors in {len(errors.paths)} images of {num_classes} classes"
    return Report(title, findings, sections, figures)


class _Part:
    """The part of the report on an evaluation of boxes or of masks.

    Args:
        evaluation: The evaluation.
        errors: The errors of the test.
        results: Where tables and pictures are written.
    """

    def __init__(self, evaluation: Evaluation, errors: DetectionErrors, results: Results) -> None:
        self.evaluation, self.errors, self.results = evaluation, errors, results
        self.words = WORDS[evaluation.kind]
        detections, objects = evaluation.detections, evaluation.objects
        self.count = len(evaluation.classes)
        self.totals = np.bincount(objects.label, minlength=self.count)
        self.missed = is_missed(detections, objects)
        self.costs = costs(detections, objects, self.count)
        self.thresholds = [
            best_threshold(detections.score[own], detections.is_right[own], int(total))
            for c, total in enumerate(self.totals)
            for own in [detections.label == c]
        ]
        self.common = best_threshold(detections.score, detections.is_right, len(objects.label))
        limits = np.array([each.score for each in self.thresholds] or [np.nan])
        self.kept = detections.score >= limits[detections.label]  # False where it is NaN
        self.numbers = {kind: int((detections.kind == kind).sum()) for kind in KINDS}

    def findings(self) -> list[str]:
        """Return sentences on the main results, and where CocoMetric's figures are others."""
        stats, words = self.evaluation.stats, self.words
        found = int(self.evaluation.objects.is_found.sum())
        total = len(self.evaluation.objects.label)
        sentences = [
            f"{words}: AP {percent(stats['AP'])} %, AP50 {percent(stats['AP50'])} %, AP75 "
            f"{percent(stats['AP75'])} %. At an IoU of 0.5, {found:,} of {total:,} objects are "
            "found by a detection of any score."
        ]
        order = sorted(self.costs, key=lambda kind: -self.costs[kind])
        gains = [kind for kind in order[:2] if self.costs[kind] > 0]
        if gains:
            each = ", and ".join(
                f"{percent(self.costs[kind])} points without the {kind} errors "
                f"({KINDS.get(kind, 'objects that no detection is at')})"
                for kind in gains
            )
            sentences.append(f"{words}: AP50 would gain {each}.")
        ap = self.evaluation.class_figures()["AP"]
        ranked = [i for i in np.argsort(ap, kind="stable") if ap[i] == ap[i]]
        if len(ranked) > 1:
            low, high = ranked[0], ranked[-1]
            sentences.append(
                f"{words}: the lowest AP is that of {self._name(low)} ({percent(ap[low])} %), the "
                f"highest that of {self._name(high)} ({percent(ap[high])} %)."
            )
        if not len(self.evaluation.detections.label):
            sentences.append(f"{words}: nothing was detected.")
        elif self.common.score == self.common.score:
            sentences.append(
                f"{words}: one threshold for all classes is best at a score of "
                f"{_floor(self.common.score)}: {percent(self.common.precision)} % of the "
                f"detections are right then, and {percent(self.common.recall)} % of the objects "
                "are found."
            )
        if absent := [self._name(i) for i in np.flatnonzero(self.totals == 0)]:
            sentences.append(
                f"{words}: {len(absent)} of {self.count} classes have no objects "
                f"({some_of(absent)}), and no figures; detections of them are errors in the counts."
            )
        for theirs, ours in REPORTED.items():
            value = self.errors.reported.get(f"coco/{self.evaluation.kind}_{theirs}", -1)
            if value >= 0 and not abs(value - stats[ours]) < DIFFERENCE:
                sentences.append(
                    f"{words}: the evaluator of the config says {ours} {percent(value)} %, by "
                    "settings of its own: here the IoU thresholds are those of COCO."
                )
        return sentences

    def sections(self) -> list[Section]:
        """Write tables and figures, and return their sections of the page."""
        sections = [
            self._figures_of_classes(),
            self._sizes(),
            self._curves(),
            self._kinds(),
            self._confusions(),
            self._best_thresholds(),
        ]
        return self._named(sections)

    def sheets(self, crops: Crops) -> list[Section]:
        """Write the sheets of the worst errors, and return their sections of the page."""
        wrong, missed = Section("worst false positives"), Section("missed objects")
        for kind, meaning in KINDS.items():
            if sheet := crops.false_positives(kind):
                path = self.results.path(self._file(f"false_positives_{kind.lower()}.png"))
                sheet.write(path)
                caption = f"{kind}, {meaning}: the highest scores."
                wrong.blocks.append(picture(path, caption, is_photo=True))
        if sheet := crops.misses(self.missed):
            path = self.results.path(self._file("missed.png"))
            sheet.write(path)
            missed.blocks.append(picture(path, MISSES, is_photo=True))
        return self._named([wrong, missed])

    def _named(self, sections: list[Section]) -> list[Section]:
        for section in sections:
            section.title = f"{self.words}: {section.title}"
        return [section for section in sections if section.blocks]

    def figures(self) -> dict[str, Any]:
        """Return all figures, for errors.json."""
        evaluation = self.evaluation
        per_class = evaluation.class_figures()
        return dict(
            stats=evaluation.stats,
            classes=[
                dict(
                    name=name,
                    objects=int(self.totals[c]),
                    **{key: values[c] for key, values in per_class.items()},
                    threshold=self.thresholds[c]._asdict(),
                )
                for c, name in enumerate(evaluation.classes)
            ],
            sizes={
                size: dict(objects=int(evaluation.num_objects[:, i].sum()))
                for i, size in enumerate(SIZES)
            },
            errors={
                kind: dict(count=count, gain_of_AP50=self.costs[kind])
                for kind, count in {**self.numbers, MISSED: int(self.missed.sum())}.items()
            },
            false_positives=sum(self.numbers.values()),
            objects_not_found=int((~evaluation.objects.is_found).sum()),
            threshold_of_all_classes=self.common._asdict(),
            confusion=self._matrix(),
        )

    def _file(self, name: str) -> str:
        return f"{self.evaluation.kind}_{name}"

    def _name(self, label: int) -> str:
        return self.evaluation.classes[label]

    def _path(self, image: int) -> str:
        return self.errors.path_of(self.evaluation.image_ids[image])

    def _figures_of_classes(self) -> Section:
        columns = self.evaluation.class_figures()
        order = np.argsort(columns["AP"], kind="stable")  # NaN last
        heading = ["class", "objects", *columns]
        rows = [
            [self._name(c), int(self.totals[c]), *(values[c] for values in columns.values())]
            for c in range(self.count)
        ]
        self.results.write_table(self._file("classes.csv"), heading, rows)
        meaning = {
            "class": "lowest AP first",
            "objects": "annotated objects that count; crowd regions do not",
            "AP": "average precision, the mean over IoU thresholds 0.5 to 0.95, in %; a dash where "
            "there are no objects",
            "AP50": "at an IoU of 0.5",
            "AP75": "at an IoU of 0.75",
            "AP small": "of objects below 32x32 pixels",
            "AP medium": "up to 96x96",
            "AP large": "above",
            "AR": "average recall: objects found at best, the mean over the same thresholds",
        }
        cells = [[rows[c][0], f"{rows[c][1]:,}", *map(percent, rows[c][2:])] for c in order]
        return Section("average precision", [table(meaning, cells)])

    def _sizes(self) -> Section:
        stats, counts = self.evaluation.stats, self.evaluation.num_objects.sum(0)
        last = [name for name in stats if name.startswith("AR at")][-1]
        rows = [
            [size, f"{counts[i]:,}", percent(counts[i] / counts[0]), percent(ap), percent(ar)]
            for i, size in enumerate(SIZES)
            for ap, ar in [
                (stats["AP"], stats[last]) if i == 0 else (stats[f"AP {size}"], stats[f"AR {size}"])
            ]
        ]
        meaning = {
            "size": "by the annotated area: small below 32x32 pixels, large above 96x96",
            "objects": "",
            "share": "of all objects, in %",
            "AP": "average precision over all classes, in %",
            "AR": f"average recall, in %, with up to {last.split()[-1]} detections in an image",
        }
        return Section("sizes of objects", [table(meaning, rows)])

    def _curves(self) -> Section:
        precision = self.evaluation.precision[:, :, :, 0, -1]  # (T, R, C)
        has = np.flatnonzero(precision[0, 0] > -1)
        if not has.size:
            return Section("precision and recall")
        picked = {
            "IoU 0.5": precision[:1],
            "IoU 0.75": precision[5:6],
            "IoU 0.5 to 0.95": precision,
        }
        means = {name: values[:, :, has].mean((0, 2)) for name, values in picked.items()}
        by_number = has[np.argsort(-self.totals[has], kind="stable")]
        classes = {self._name(c): precision[0, :, c] for c in by_number}
        columns = {**means, **classes}
        rows = [
            [f"{i / 100:.2f}", *(float(curve[i]) for curve in columns.values())] for i in range(101)
        ]
        self.results.write_table(self._file("precision_recall.csv"), ["recall", *columns], rows)
        path = self.results.path(self._file("precision_recall.png"))
        draw_precision_recall(means, classes, path)
        caption = (
            "Going down the detections by their score, the share of right ones (precision) over "
            "the share of objects found (recall). A curve that ends early: the rest of the objects "
            "is not found at any score."
        )
        return Section("precision and recall", [picture(path, caption)])

    def _kinds(self) -> Section:
        detections, objects = self.evaluation.detections, self.evaluation.objects
        self._write_errors()
        wrong, lost = sum(self.numbers.values()), int((~objects.is_found).sum())
        kept = {kind: int((self.kept & (detections.kind == kind)).sum()) for kind in KINDS}
        found = np.zeros(len(objects.label), bool)
        found[detections.truth[self.kept & detections.is_right]] = True
        rows = [
            [kind, meaning, f"{self.numbers[kind]:,}", f"{kept[kind]:,}"]
            for kind, meaning in KINDS.items()
        ]
        missed = int(self.missed.sum())
        rows += [
            [MISSED, "an object at which no Cls or Loc error is", f"{missed:,}", ""],
            ["all false positives", "Cls to Bkg", f"{wrong:,}", f"{sum(kept.values()):,}"],
            ["objects not found", "Missed, and those at a Cls or Loc error", f"{lost:,}",
             f"{int((~found).sum()):,}"],
        ]  # fmt: skip
        gains = [percent(self.costs.get(row[0], float("nan"))) for row in rows]
        columns = {
            "kind": "",
            "what is wrong": "",
            "number": f"of all detections, up to {MAX_DETECTIONS} of an image and class",
            "above threshold": "of those at or above the thresholds in the section on thresholds",
            "gain of AP50": "points that the AP50 over all classes would gain if all errors of the "
            "kind were mended; they do not add up, and errors at low scores cost little",
        }
        path = self.results.path(self._file("errors.png"))
        names = list(self.costs)
        notes = [f"{n:,} errors" for n in [*self.numbers.values(), missed]]
        draw_bars([100 * self.costs[k] for k in names], names, notes, "gain of AP50, points", path)
        explained = paragraph(
            "The kinds are those of TIDE (Bolya et al., arXiv 2008.08115). A detection is at an "
            f"object from an IoU of {FOREGROUND} on, and nowhere below {BACKGROUND}. "
            f"{self._file('errors.csv')} lists all errors, {self._file('missed.csv')} all objects "
            "that are not found."
        )
        cells = [[*row, gain] for row, gain in zip(rows, gains, strict=True)]
        caption = "How much the AP50 would gain without the errors of a kind."
        return Section(
            "kinds of errors", [explained, table(columns, cells, 2), picture(path, caption)]
        )

    def _write_errors(self) -> None:
        detections, objects = self.evaluation.detections, self.evaluation.objects
        places = ["x", "y", "width", "height"]
        true_places = [f"true_{each}" for each in places]
        heading = ["image", "kind", "class", "score", "above_threshold", *places, "iou"]
        rows = (
            [
                self._path(detections.image[i]),
                detections.kind[i],
                self._name(detections.label[i]),
                detections.score[i],
                int(self.kept[i]),
                *self.evaluation.found[i]["bbox"],
                detections.iou[i],
                *self._truth_cells(detections.truth[i]),
            ]
            for i in np.flatnonzero(~detections.is_right)
        )
        heading += ["true_id", "true_class", *true_places]
        self.results.write_table(self._file("errors.csv"), heading, rows)
        at = {
            int(t): kind
            for t, kind in zip(detections.truth, detections.kind, strict=True)
            if kind in ("Cls", "Loc")
        }
        lost = (
            [self._path(objects.image[g]), *self._truth_cells(g), at.get(g, MISSED)]
            for g in np.flatnonzero(~objects.is_found).tolist()
        )
        heading = ["image", "id", "class", *places, "why"]
        self.results.write_table(self._file("missed.csv"), heading, lost)

    def _truth_cells(self, g: int) -> list[Any]:
        if g < 0:
            return [""] * 6
        truth = self.evaluation.truths[g]
        return [truth["id"], self._name(self.evaluation.objects.label[g]), *truth["bbox"]]

    def _matrix(self) -> np.ndarray:
        evaluation = self.evaluation
        return count_classes(evaluation.detections, evaluation.objects, self.kept, self.count)

    def _confusions(self) -> Section:
        matrix, classes = self._matrix(), self.evaluation.classes
        rows, columns = [*classes, "(no object)"], [*classes, "(not found)"]
        lines = [[name, *row] for name, row in zip(rows, matrix.tolist(), strict=True)]
        heading = ["truth \\ prediction", *columns]
        self.results.write_table(self._file("confusion.csv"), heading, lines)
        path = self.results.path(self._file("confusion.png"))
        unit = "detections and objects"
        draw_confusions(matrix, rows, columns, unit, path)
        explained = paragraph(
            "Detections at or above the thresholds of the next section: right ones on the "
            "diagonal, Cls errors beside it. The last column are objects that no detection of "
            "their class finds, the last row all other false positives."
        )
        caption = (
            f"{describe_confusions(matrix, unit)} {self._file('confusion.csv')} has the counts."
        )
        return Section("confusions", [explained, picture(path, caption)])

    def _best_thresholds(self) -> Section:
        names = [*self.evaluation.classes, "all classes together"]
        thresholds: list[Threshold] = [*self.thresholds, self.common]
        heading = ["class", "score_threshold", "precision", "recall", "f1"]
        rows = [[name, *each] for name, each in zip(names, thresholds, strict=True)]
        self.results.write_table(self._file("thresholds.csv"), heading, rows)
        meaning = {
            "class": "",
            "threshold": "score from which on a detection is kept, with the largest F1; rounded "
            f"down, {self._file('thresholds.csv')} has all digits; a dash where none is right",
            "precision": "of the detections kept, those that are right, in %",
            "recall": "of the objects, those that are found, in %",
            "F1": "harmonic mean of both, in %",
        }
        cells = [
            [
                name,
                _floor(each.score),
                percent(each.precision),
                percent(each.recall),
                percent(each.f1),
            ]
            for name, each in zip(names, thresholds, strict=True)
        ]
        explained = paragraph(
            "Detections count as right from an IoU of 0.5 on. The thresholds are chosen on these "
            "test data, for which the figures are therefore somewhat too good."
        )
        return Section("thresholds to deploy", [explained, table(meaning, cells)])


def _floor(score: float) -> str:
    """Return a score, rounded down so that no detection is lost; a dash for NaN."""
    return "–" if np.isnan(score) else f"{np.floor(1000 * score) / 1000:.3f}"
