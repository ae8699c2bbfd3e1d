"""Checks of COCO files at the moment in which mmdetection has read them.

A file of COCO's size takes ten seconds to parse, so it is not parsed for a check alone: within
:func:`checked_coco`, pycocotools' class COCO, which mmdetection's datasets and evaluators build,
completes and checks the content that it has parsed before it is used.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from mmengine.config import ConfigDict
from mmengine.logging import print_log

from gfnet_dense.utils.errors import InputError

from .completion import Filled, complete
from .file import CocoReport, describe, inspect, read_coco
from .pictures import check_sample
from .uses import CocoUse, faults_of_evaluators, find_uses


@contextmanager
def checked_coco(cfg: ConfigDict, split: str) -> Iterator[None]:
    """Check the COCO files that datasets and evaluators of a split read in the ``with`` block.

    - What has one meaning and is absent is filled in, see :func:`.completion.complete`.
    - Class names, ids, boxes and masks are checked, see :func:`.file.inspect`.
    - 16 pictures are compared with their sizes in the file, see :mod:`.pictures`.
    - The images of an evaluator's file are compared with those of the dataset's. CocoMetric has a
      file, the one of all datasets.
    - One line about each use of a file is logged, and warnings.

    Args:
        cfg: A whole config; nothing happens unless it is for mmdetection.
        split: 'train', 'val' or 'test'.

    Raises:
        InputError: If the evaluator cannot work, and in the block, if a file cannot be used.
    """
    uses = find_uses(cfg, split)
    for fault in faults_of_evaluators(cfg, split, uses):
        raise InputError(fault)
    if not uses:
        yield
        return
    from pycocotools.coco import COCO  # comes with mmdetection

    checks = _Checks(uses)
    original = COCO.__init__

    def read(self: Any, annotation_file: str | None = None) -> None:
        original(self)
        if annotation_file is not None:
            self.dataset = read_coco(annotation_file)
            checks.run(self.dataset, annotation_file)
            self.createIndex()

    COCO.__init__ = read
    try:
        yield
    finally:
        COCO.__init__ = original


class _Checks:
    """The checks of the files of one split.

    Args:
        uses: What the files are used for.
    """

    def __init__(self, uses: list[CocoUse]) -> None:
        self.uses: dict[str, list[CocoUse]] = {}
        for use in uses:
            self.uses.setdefault(os.path.realpath(use.path), []).append(use)
        self.names: dict[int, str] = {}  # file names of the dataset's images, by id
        self.by_dataset = {os.path.realpath(use.path) for use in uses if use.folder is not None}

    def run(self, content: dict, path: str) -> None:
        """Complete the content of a file; check it, if it is read for the first time."""
        filled = complete(content)
        for use in self.uses.pop(os.path.realpath(path), []):
            report = inspect(
                content, use.path, use.classes, use.with_masks, use.purpose, use.only_polygons
            )
            if report.errors:
                more = f" (and {len(report.errors) - 1} more)" if report.errors[1:] else ""
                raise InputError(report.errors[0] + more)
            self._check_images(content, use, report)
            print_log(summarize(content, report, filled, use), logger="current")
            for warning in report.warnings:
                print_log(warning, logger="current", level=logging.WARNING)

    def _check_images(self, content: dict, use: CocoUse, report: CocoReport) -> None:
        images = content["images"]
        if use.folder is None:
            self._compare_with_dataset(images, use)
            return
        if self.uses:  # an evaluator's file may follow
            self.names.update((image["id"], image["file_name"]) for image in images)
        kept, reasons = filter_images(images, report, use.filter_cfg)
        lost = f"{len(images) - len(kept)} of {len(images)} pictures in {use.path}"
        if not kept:
            raise InputError(f"no picture in {use.path} is used: {'; '.join(reasons)}")
        if use.purpose == "evaluation" and reasons:
            report.warnings.append(
                f"{lost} are left out of the evaluation: {'; '.join(reasons)}; set test_mode=True "
                f"in the dataset of {use.by}"
            )
        if use.is_part and use.purpose == "evaluation":
            report.warnings.append(
                f"indices of the dataset of {use.by} takes a part of {use.path}, but the evaluator "
                "counts the objects of all pictures: the AP is too low"
            )
        doubt = check_sample(kept, use.folder, use.path, use.is_turned)
        if doubt:
            report.warnings.append(doubt)

    def _compare_with_dataset(self, images: list[dict], use: CocoUse) -> None:
        """Raise InputError if a dataset's image is not in the file of its evaluator."""
        if os.path.realpath(use.path) in self.by_dataset:
            return
        names = {image["id"]: image["file_name"] for image in images}
        for number, name in self.names.items():
            if names.get(number) != name:
                other = names.get(number)
                raise InputError(
                    f"image {number} of the dataset is {name}, "
                    + (f"but {other} in" if other else "and there is none in")
                    + f" {use.path}, ann_file of the {use.by}: give both the same file"
                )


def filter_images(
    images: list[dict], report: CocoReport, filter_cfg: dict
) -> tuple[list[dict], list[str]]:
    """Return the images that a dataset keeps, and why it leaves out others.

    Args:
        images: Images of a file.
        report: Report about the file.
        filter_cfg: mmdetection's rules: ``filter_empty_gt`` and ``min_size`` in pixels.
    """
    out = np.zeros(len(images), bool)
    reasons = []
    if filter_cfg.get("filter_empty_gt"):
        out[report.empty_images] = True
        if out.any():
            reasons.append(f"{out.sum()} pictures without objects (filter_empty_gt)")
    min_size = filter_cfg.get("min_size", 0)
    small = np.array([min(each["width"], each["height"]) < min_size for each in images])
    if small.any():
        reasons.append(f"{small.sum()} pictures with a side below min_size={min_size}")
    return [images[i] for i in np.flatnonzero(~(out | small))], reasons


def summarize(content: dict, report: CocoReport, filled: dict[str, Filled], use: CocoUse) -> str:
    """Return one line about what is used of a file, what is not, and what was filled in."""
    num_used = report.used.total()
    _, reasons = filter_images(content["images"], report, use.filter_cfg)
    parts = [
        f"{use.path} ({use.purpose}): {num_used} of {report.num_annotations} annotations, "
        f"{report.num_images} pictures"
    ]
    if report.crowds:
        parts.append(f"{report.crowds} crowd regions")
    left_out = [
        f"{len(indices)} {reason} (first {report.first_left_out[reason]})"
        for reason, indices in report.left_out.items()
    ]
    if left_out or reasons:
        parts.append(f"left out: {', '.join(left_out + reasons)}")
    for words, found in filled.items():
        first = "" if "images" in words else f" (first {describe(content, found.index)})"
        parts.append(f"filled in: {found.count} {words}{first}")
    return "; ".join(parts)
