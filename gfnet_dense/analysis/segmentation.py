"""Collecting the errors of a segmentor while it is tested."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
from mmengine.hooks import Hook
from mmengine.registry import METRICS
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement

from gfnet_dense.utils.channels import Channels, channels_of
from gfnet_dense.utils.errors import InputError

from .confusion import band_width, boundary_band, class_scores, count_confusions, mean_of_defined
from .report import numbers_of

MAX_SIDE = 480  # of the label maps that are kept, in pixels


def ratio(part: int, whole: int) -> float:
    """Return part over whole, NaN if the whole is 0."""
    return part / whole if whole else float("nan")


class Worst(NamedTuple):
    """An image with many errors; the larger, the worse.

    Attributes:
        rate: Share of wrong pixels, 0..1.
        place: Minus the index of the image in the order of the test: the first of equals is worst.
        truth: Class indices, (h, w), int16, at a reduced size.
        prediction: Likewise.
    """

    rate: float
    place: int
    truth: np.ndarray
    prediction: np.ndarray


@dataclass(frozen=True)
class ImageErrors:
    """Errors in one image.

    Attributes:
        path: The image file.
        pixels: Number of pixels that count.
        errors: Number of wrong ones.
        miou: Mean IoU over the classes of truth and prediction, 0..1.
        band: Number of pixels near a boundary of the truth.
        band_errors: Number of wrong ones among them.
        width: Width of the band on each side of a boundary, in pixels.
    """

    path: str
    pixels: int
    errors: int
    miou: float
    band: int
    band_errors: int
    width: int

    @property
    def rate(self) -> float:
        """Share of wrong pixels, 0..1, NaN if no pixel counts."""
        return ratio(self.errors, self.pixels)


class SegmentationErrors(Hook):
    """Hook that collects the errors of a segmentor while it is tested.

    It keeps counts, a line for each image, and truth and prediction of the worst images at a
    reduced size. Where the config evaluates no IoU, mmsegmentation's IoUMetric is added to its
    evaluator, whose figures the report compares with those of the confusion matrix.

    Args:
        num_worst: Number of images to keep, those with the largest shares of wrong pixels: it is
            what an error map shows. The mean IoU of an image falls with a few pixels of a class
            that is not there.

    Attributes:
        images: Errors in each image.
        matrix: Pixels by true and predicted class, see :func:`.count_confusions`.
        metainfo: Metainfo of the test data.
        reported: The figures of the evaluator.
        channels: The bands of the images.
        ignore_index: Index of the pixels that do not count.
    """

    def __init__(self, num_worst: int) -> None:
        self.num_worst = num_worst
        self.images: list[ImageErrors] = []
        self.matrix = np.zeros((0, 0), np.int64)
        self.metainfo: dict[str, Any] = {}
        self.reported: dict[str, float] = {}
        self.channels: Channels | None = None
        self.ignore_index = 255
        self._worst: list[Worst] = []  # a heap

    def before_test(self, runner: Runner) -> None:
        """Read classes and ignored index of the run, and add IoUMetric if there is none."""
        evaluator = runner.test_loop.evaluator
        self.metainfo = runner.test_loop.dataloader.dataset.metainfo
        self.channels = channels_of(runner.model)
        num_classes = len(self.metainfo["classes"])
        self.matrix = np.zeros((num_classes + 1, num_classes), np.int64)
        indices = [m.ignore_index for m in evaluator.metrics if hasattr(m, "ignore_index")]
        self.ignore_index = indices[0] if indices else 255
        if not any(type(metric).__name__ == "IoUMetric" for metric in evaluator.metrics):
            metric = METRICS.build(dict(type="mmseg.IoUMetric", ignore_index=self.ignore_index))
            metric.dataset_meta = self.metainfo
            evaluator.metrics.append(metric)

    def before_test_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Check that the truth of a batch can be compared with predictions.

        Raises:
            InputError: If there is none, or if it has not the size of the image.
        """
        for sample in data_batch["data_samples"]:
            if "gt_sem_seg" not in sample:
                raise InputError(
                    "the test data of the config have no label maps, with which errors are found: "
                    "give them seg_map_path in data_prefix, and LoadAnnotations in the pipeline"
                )
            size, original = tuple(sample.gt_sem_seg.shape[-2:]), tuple(sample.ori_shape[:2])
            if size != original:
                raise InputError(
                    f"the label map of {sample.img_path} comes at {size[1]}x{size[0]} pixels, and "
                    f"is compared at {original[1]}x{original[0]}: put LoadAnnotations behind "
                    "Resize in the pipeline of test_dataloader"
                )

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[BaseDataElement] | None = None,
    ) -> None:
        """Count the errors of a batch."""
        for sample in outputs or ():
            truth, prediction = (
                sample.get(name).data.squeeze(0).cpu().numpy()
                for name in ("gt_sem_seg", "pred_sem_seg")
            )
            self.add(sample.img_path, truth, prediction)

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Keep the figures of the library."""
        self.reported = numbers_of(metrics)

    def add(self, path: str, truth: np.ndarray, prediction: np.ndarray) -> None:
        """Count the errors of one image.

        Args:
            path: The image file.
            truth: Class indices, (H, W), integers.
            prediction: Class indices, (H, W), integers.
        """
        matrix = count_confusions(truth, prediction, self.matrix.shape[1], self.ignore_index)
        self.matrix += matrix
        band = boundary_band(truth, self.ignore_index)
        self.images.append(
            ImageErrors(
                path,
                pixels := int(matrix.sum()),
                pixels - int(np.trace(matrix)),
                mean_of_defined(class_scores(matrix).iou),
                int(band.sum()),
                int((truth[band] != prediction[band]).sum()),
                band_width(*truth.shape),
            )
        )
        rate, place = self.images[-1].rate, 1 - len(self.images)
        if rate > 0:  # False for NaN
            heapq.heappush(self._worst, Worst(rate, place, _reduce(truth), _reduce(prediction)))
            if len(self._worst) > self.num_worst:
                heapq.heappop(self._worst)

    def worst(self) -> list[Worst]:
        """Return the images with the largest shares of wrong pixels, largest first."""
        return sorted(self._worst, reverse=True)


def _reduce(labels: np.ndarray) -> np.ndarray:
    """Return a label map at a size at which it is drawn."""
    factor = min(1, MAX_SIDE / max(labels.shape))
    size = [max(1, round(factor * side)) for side in reversed(labels.shape)]
    return cv2.resize(labels.astype(np.int16), size, interpolation=cv2.INTER_NEAREST)
