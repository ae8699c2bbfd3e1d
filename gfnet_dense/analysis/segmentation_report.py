"""The report on the errors of a segmentor: what is taken for what, and where the errors lie."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from gfnet_dense.utils.channels import read_shown
from gfnet_dense.utils.errors import InputError
from gfnet_dense.visualization.overlays import NOT_LABELED, class_colors, overlay_labels
from gfnet_dense.visualization.sheets import draw_sheet

from .confusion import BAND, class_scores, largest_confusions, mean_of_defined
from .page import Section, bullets, paragraph, percent, picture, table
from .pictures import describe_confusions, draw_confusions, draw_error_map, end_of, some_of
from .report import Report
from .results import Results
from .segmentation import SegmentationErrors, Worst, ratio

SENTENCES = 10  # largest number of confusions that are told
TOLERANCE = 0.02  # of IoUMetric's percents: it rounds to 0.01, and sums float32
NO_CLASS = "(no class)"  # of pixels whose index is neither a class nor ignored


def report_segmentation(errors: SegmentationErrors, results: Results) -> Report:
    """Write the files of the analysis of a segmentor, and return what its page shows.

    Args:
        errors: The errors of a whole test.
        results: Where tables and pictures are written.

    Raises:
        InputError: If no pixel of the test data counts.
    """
    return _SegmentationReport(errors, results).report()


class _SegmentationReport:
    def __init__(self, errors: SegmentationErrors, results: Results) -> None:
        self.errors, self.results = errors, results
        self.matrix, self.images = errors.matrix, errors.images
        self.classes = list(errors.metainfo["classes"])
        self.scores = class_scores(self.matrix)
        self.mean_iou = mean_of_defined(self.scores.iou)
        self.pixels, self.right = int(self.matrix.sum()), int(np.trace(self.matrix))
        if not self.pixels:
            raise InputError(
                f"no pixel of the {len(self.images)} test images is labeled: there is nothing to "
                "compare predictions with"
            )
        self.rows = self.classes + [NO_CLASS] * bool(self.matrix[-1].any())
        self.band = self._band()
        # Classes by IoU, lowest first, the more frequent of equals first, undefined ones last
        self.order = np.lexsort((-self.matrix[:-1].sum(1), self.scores.iou))

    def report(self) -> Report:
        sections = [self._classes(), self._confusions(), self._boundaries(), self._worst()]
        return Report(
            f"Errors in {len(self.images)} images of {len(self.classes)} classes",
            [*self._findings(), *self._left_out(), *self._differences()],
            [section for section in sections if section.blocks],
            self._figures(),
        )

    def _findings(self) -> list[str]:
        iou, band = self.scores.iou, self.band
        sentences = [
            f"The mean IoU is {percent(self.mean_iou, 2)} %; "
            f"{percent(self.right / self.pixels)} % of {self.pixels:,} labeled pixels are right."
        ]
        order = [i for i in self.order if not np.isnan(iou[i])]
        if len(order) > 1:
            named = [f"{self.classes[i]} ({percent(iou[i])} %)" for i in order]
            sentences.append(
                f"The lowest IoU: {', '.join(named[:3][: len(named) - 1])}; the highest: "
                f"{named[-1]}."
            )
        sentences += self._sentences(3)
        if band["errors"]:
            sentences.append(
                f"{percent(band['share_of_errors'])} % of the wrong pixels lie near a boundary of "
                f"the truth, as do {percent(band['share_of_pixels'])} % of all pixels: "
                f"{percent(band['error_rate_inside'])} % of the pixels are wrong there, "
                f"{percent(band['error_rate_outside'])} % elsewhere."
            )
        return sentences + ["No pixel is wrong."] * (self.right == self.pixels)

    def _left_out(self) -> list[str]:
        """Return sentences on what the figures leave out."""
        sentences = []
        absent = np.flatnonzero(self.matrix[:-1].sum(1) == 0)
        predicted = self.matrix[:, absent].any(0).sum()
        if absent.size:
            sentences.append(
                f"{absent.size} of {len(self.classes)} classes are in no label map "
                f"({some_of([self.classes[i] for i in absent])}): {predicted} of them are "
                f"predicted somewhere and count in the mean with an IoU of 0, as in "
                f"mmsegmentation, and {absent.size - predicted} do not count."
            )
        if stray := int(self.matrix[-1].sum()):
            sentences.append(
                f"{stray:,} pixels have a label that is neither a class nor the ignore_index of "
                f"the evaluator, {self.errors.ignore_index}: they count as wrong."
            )
        if unlabeled := sum(not each.pixels for each in self.images):
            sentences.append(f"{unlabeled} images have no labeled pixel, and no figures.")
        return sentences

    def _differences(self) -> list[str]:
        """Return sentences on figures of the evaluator that are others than those here."""
        own = dict(mIoU=self.mean_iou, aAcc=ratio(self.right, int(self.matrix[:-1].sum())))
        reported = self.errors.reported
        return [
            f"The evaluator of the config says {name} {reported[name]:.2f}, the pixels counted "
            f"here say {percent(value, 2)}: its settings count other pixels."
            for name, value in own.items()
            if name in reported and abs(100 * value - reported[name]) > TOLERANCE
        ]

    def _sentences(self, number: int) -> list[str]:
        return [
            f"{percent(each.share)} % of the pixels of {self.classes[each.truth]} are taken for "
            f"{self.classes[each.prediction]} ({each.pixels:,} pixels)."
            for each in largest_confusions(self.matrix, number)
        ]

    def _classes(self) -> Section:
        totals = self.matrix[:-1].sum(1)
        columns = [*self.scores, totals.tolist(), totals / self.pixels]
        rows = list(zip(self.classes, *columns, strict=True))
        heading = ["class", "IoU", "precision", "recall", "pixels", "share"]
        self.results.write_table("classes.csv", heading, rows)
        meaning = {
            "class": "lowest IoU first",
            "IoU": "pixels that are of the class and predicted as it, over those that are either, "
            "in %; a dash where the class is nowhere",
            "precision": "of the pixels predicted as the class, those that are of it, in %",
            "recall": "of the pixels of the class, those predicted as it, in %; Acc in "
            "mmsegmentation",
            "pixels": "labeled pixels of the class",
            "share": "their share of all labeled pixels, in %",
        }
        cells = [
            [name, *(percent(v, 2) for v in scores), f"{count:,}", percent(share, 2)]
            for name, *scores, count, share in (
                rows[i]
                for i in np.argsort(self.scores.iou, kind="stable")  # NaN last
            )
        ]
        return Section("Classes", [table(meaning, cells)])

    def _confusions(self) -> Section:
        matrix = self.matrix[: len(self.rows)]
        rows = [[name, *row] for name, row in zip(self.rows, matrix.tolist(), strict=True)]
        self.results.write_table("confusion.csv", ["truth \\ prediction", *self.classes], rows)
        path = self.results.path("confusion.png")
        draw_confusions(matrix, self.rows, self.classes, "pixels", path)
        caption = describe_confusions(matrix, "pixels") + " confusion.csv has all numbers."
        sentences = self._sentences(SENTENCES)
        heading = "Those of the most pixels:" if sentences else "No class is taken for another."
        blocks = [paragraph(heading), bullets(sentences), picture(path, caption)]
        return Section("Confusions", blocks)

    def _band(self) -> dict[str, float]:
        pixels, wrong, band, wrong_in_band = (
            sum(getattr(image, name) for image in self.images)
            for name in ("pixels", "errors", "band", "band_errors")
        )
        return dict(
            share_of_diagonal=BAND,
            smallest_width=min(image.width for image in self.images),
            largest_width=max(image.width for image in self.images),
            pixels=band,
            errors=wrong_in_band,
            share_of_pixels=ratio(band, pixels),
            share_of_errors=ratio(wrong_in_band, wrong),
            error_rate_inside=ratio(wrong_in_band, band),
            error_rate_outside=ratio(wrong - wrong_in_band, pixels - band),
        )

    def _boundaries(self) -> Section:
        band = self.band
        low, high = band["smallest_width"], band["largest_width"]
        width = f"{low}" if low == high else f"{low} to {high}"
        explained = paragraph(
            f"Near a boundary is a pixel that has one of another class within {100 * BAND:g} % of "
            f"the diagonal of its image, {width} pixels here. This is the region of Boundary IoU "
            "(Cheng et al., arXiv 2103.16562), which takes 2 % for COCO and 0.5 % for Cityscapes. "
            "Ignored pixels and the border of the image make no boundary. If errors were "
            "anywhere alike, both shares would be equal."
        )
        meaning = {
            "where": "",
            "pixels": "share of all labeled pixels, in %",
            "wrong pixels": "share of all wrong pixels, in %",
            "error rate": "of the pixels there, those that are wrong, in %",
        }
        shares = np.array([band["share_of_pixels"], band["share_of_errors"]])
        cells = [
            [where, *map(percent, values), percent(rate, 2)]
            for where, values, rate in (
                ("near a boundary", shares, band["error_rate_inside"]),
                ("elsewhere", 1 - shares, band["error_rate_outside"]),
            )
        ]
        return Section("Where errors lie", [explained, table(meaning, cells)])

    def _worst(self) -> Section:
        heading = ["image", "pixels", "errors", "error_rate", "mIoU", "band_pixels", "band_errors"]
        rows = [
            [
                *(i.path, i.pixels, i.errors, i.rate, i.miou, i.band, i.band_errors),
                ratio(i.band_errors, i.errors),
            ]
            for i in self.images
        ]
        self.results.write_table("images.csv", [*heading, "share_of_errors_near_boundary"], rows)
        worst = self.errors.worst()
        if not worst:
            return Section("Worst images")
        path = self.results.path("worst.png")
        self._draw(worst, path)
        explained = paragraph(
            "The images with the largest shares of wrong pixels among the labeled ones, which is "
            "what the last column shows; the mean IoU of an image falls with a few pixels of a "
            "class that is not there. images.csv has all images."
        )
        caption = "Errors: red is wrong, black is not labeled and does not count."
        return Section("Worst images", [explained, picture(path, caption, is_photo=True)])

    def _draw(self, worst: list[Worst], path: Path) -> None:
        metainfo, ignore_index = self.errors.metainfo, self.errors.ignore_index
        cells, captions = [], []
        present: set[int] = set()
        for each in worst:
            image = self.images[-each.place]
            size = each.truth.shape[::-1]
            shown = read_shown(image.path, metainfo, self.errors.channels)
            shown = cv2.resize(shown, size, interpolation=cv2.INTER_AREA)
            ignored = each.truth == ignore_index
            overlays = [
                overlay_labels(shown, labels, metainfo) for labels in (each.truth, each.prediction)
            ]
            error_map = draw_error_map(shown, (each.truth != each.prediction) & ~ignored, ignored)
            cells.append((shown, *overlays, error_map))
            near = percent(ratio(image.band_errors, image.errors))
            figures = f"{percent(image.rate)} % wrong, {near} % of that near a boundary"
            text = f"{end_of(image.path, 100)}\n{figures}; mIoU {percent(image.miou)} %"
            captions.append((text,))
            present |= {*np.unique(each.truth[~ignored]).tolist(), *np.unique(each.prediction)}
        legend = class_colors(metainfo, present)
        if any((each.truth == ignore_index).any() for each in worst):
            legend["not labeled"] = NOT_LABELED
        titles = ("image", "truth", "prediction", "errors")
        draw_sheet(cells, titles, legend, path, captions=captions)

    def _figures(self) -> dict[str, Any]:
        totals = self.matrix[:-1].sum(1)
        return dict(
            images=len(self.images),
            pixels=self.pixels,
            ignore_index=self.errors.ignore_index,
            mIoU=self.mean_iou,
            accuracy=self.right / self.pixels,
            reported=self.errors.reported,
            classes=[
                dict(name=name, IoU=iou, precision=precision, recall=recall, pixels=int(pixels))
                for name, iou, precision, recall, pixels in zip(
                    self.classes, *self.scores, totals, strict=True
                )
            ],
            confusion=dict(rows=self.rows, counts=self.matrix[: len(self.rows)]),
            boundary=self.band,
        )
