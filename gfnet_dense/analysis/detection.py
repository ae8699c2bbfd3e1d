"""Collecting the detections of a test, and evaluating them."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement

from gfnet_dense.utils.channels import channels_of, read_shown
from gfnet_dense.utils.errors import InputError

from .coco_evaluation import Evaluation, evaluate
from .report import numbers_of

KINDS = ("bbox", "segm")
NEEDED = (
    "with which errors are found: set ann_file of test_dataloader and of test_evaluator to a file "
    "that has them"
)


class DetectionErrors(Hook):
    """Hook that collects the errors of a detector while it is tested.

    mmdetection's CocoMetric writes the detections that it evaluates; they are evaluated once more,
    by the same functions of pycocotools, whose matches it does not hand on. Names of mmdetection
    are used here as seen in onedl-mmdetection 3.5.1.

    Attributes:
        paths: Paths of the images by their COCO ids.
        reported: The figures of CocoMetric.
    """

    def __init__(self) -> None:
        self.paths: dict[int, str] = {}
        self.reported: dict[str, float] = {}
        self._metainfo: dict[str, Any] = {}
        self._channels: Any = None
        self._metric: Any = None
        self._folder = tempfile.TemporaryDirectory()
        self._results: dict[str, list[dict]] = {}

    def before_test(self, runner: Runner) -> None:
        """Let CocoMetric write its detections.

        Raises:
            InputError: If the config evaluates by another metric, or its file has no objects.
        """
        metrics = runner.test_loop.evaluator.metrics
        found = [metric for metric in metrics if type(metric).__name__ == "CocoMetric"]
        if not found or not set(KINDS) & set(found[0].metrics) or found[0].format_only:
            names = ", ".join(type(metric).__name__ for metric in metrics)
            raise InputError(
                "detections are analyzed with CocoMetric of metric='bbox' or 'segm' and without "
                f"format_only, got {names}: set test_evaluator=dict(type='CocoMetric', "
                "ann_file=..., metric='bbox')"
            )
        self._metric = found[0]
        if self._metric._coco_api is not None and not self._metric._coco_api.anns:
            raise InputError(f"the annotation file of test_evaluator has no objects, {NEEDED}")
        if self._metric.outfile_prefix is None:
            self._metric.outfile_prefix = str(Path(self._folder.name, "results"))
        self._metainfo = runner.test_loop.dataloader.dataset.metainfo
        self._channels = channels_of(runner.model)

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[BaseDataElement] | None = None,
    ) -> None:
        """Keep the paths of the images."""
        self.paths.update((sample.img_id, sample.img_path) for sample in outputs or ())

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Read the detections, and keep the figures of the library."""
        self.reported = numbers_of(metrics)
        for kind in KINDS:
            path = Path(f"{self._metric.outfile_prefix}.{kind}.json")
            if kind in self._metric.metrics and path.exists():
                self._results[kind] = json.loads(path.read_text())
        self._folder.cleanup()

    def evaluations(self) -> Iterator[Evaluation]:
        """Yield the evaluation of boxes, and that of masks, as far as CocoMetric makes them.

        Raises:
            InputError: If the test data have no objects.
        """
        metric = self._metric
        for kind, results in self._results.items():
            evaluation = evaluate(
                metric._coco_api,
                results,
                kind,
                metric.cat_ids,
                metric.img_ids,
                metric.proposal_nums,
            )
            if not evaluation.truths:
                raise InputError(f"the test data have no objects, {NEEDED}")
            yield evaluation

    def num_untested(self) -> int:
        """Return the number of images of the annotation file that were not tested."""
        return len(set(self._metric.img_ids) - set(self.paths))

    def path_of(self, image_id: int) -> str:
        """Return the path of an image; its name in the annotation file if it was not tested."""
        return self.paths.get(image_id) or self._metric._coco_api.imgs[image_id]["file_name"]

    def read(self, image_id: int) -> tuple[str, np.ndarray] | None:
        """Return path and picture, (H, W, 3), uint8, RGB, of an image; None if not tested."""
        if image_id not in self.paths:
            return None
        path = self.paths[image_id]
        return path, read_shown(path, self._metainfo, self._channels)
