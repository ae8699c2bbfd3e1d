"""Whole models as modules that take images alone: their prediction, and their loss in training."""

import time
from collections import defaultdict
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from mmengine.model import revert_sync_batchnorm
from mmengine.structures import BaseDataElement, PixelData
from torch import Tensor, nn

from gfnet_dense.models.label_prediction import predict_labels

PARTS = ("backbone", "neck", "heads", "other")


class Inference(nn.Module):
    """A segmentor or detector that predicts from images alone and measures the time of its parts.

    Every segmentor predicts class indices as this project's commands let it, whoever made it: by
    :func:`.predict_labels`, without logits at the size of the image. The way of its library takes
    longer, and more memory.

    Each child module other than ``backbone`` and ``neck`` counts as a head. On a GPU the times are
    those of its stream: to wait for the GPU at the end of each part would slow down the whole.

    Attributes:
        calls: For each call, the marks of begin and end of each run of ``backbone``, ``neck`` and
            ``heads``, and of ``all``.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        test_cfg: Any = model.test_cfg
        if "mode" in (test_cfg or ()):  # segmentors have a mode, detectors do not
            test_cfg.mode = "whole"
        self.model = model
        self.calls: list[dict[str, list[tuple[Any, Any]]]] = []
        self._within = False  # whether a part is running
        for name, child in model.named_children():
            part = name if name in PARTS else "heads"
            # Models call predict of most heads, which calls forward; of other modules, forward.
            for method in ("forward", "predict"):
                if hasattr(child, method):
                    setattr(child, method, self._clocked(getattr(child, method), part))

    @torch.compiler.disable(recursive=False)
    def forward(self, x: Tensor) -> list[BaseDataElement]:
        """Return the predictions for images (B, bands, H, W)."""
        samples = samples_of(x)
        self._device = x.device
        self.calls.append(defaultdict(list))
        start = self._mark()
        if hasattr(self.model, "decode_head"):
            results = predict_labels(self.model, x, samples)
        else:
            results = self.model(x, samples, mode="predict")
        self.calls[-1]["all"].append((start, self._mark()))
        return results

    def _clocked(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        """Return ``function`` with its time added to ``part``, unless a part that runs calls it."""

        @wraps(function)  # predict_labels asks whether a head's predict is its library's
        @torch.compiler.disable(recursive=False)
        def clocked(*args: Any, **kwargs: Any) -> Any:
            if self._within:
                return function(*args, **kwargs)
            self._within, start = True, self._mark()
            try:
                return function(*args, **kwargs)
            finally:
                self._within = False
                self.calls[-1][part].append((start, self._mark()))

        return clocked

    def _mark(self) -> Any:
        """Return the time in seconds, or on a GPU an event that its stream passes now."""
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def shares(self) -> dict[str, float]:
        """Return the fraction of the time in each of :data:`PARTS`, the first call left out."""
        spent = {
            part: sum(_seconds(*marks) for call in self.calls[1:] for marks in call[part])
            for part in ("all", "backbone", "neck", "heads")
        }
        spent["other"] = spent["all"] - spent["backbone"] - spent["neck"] - spent["heads"]
        return {part: spent[part] / spent["all"] for part in PARTS}


class Training(nn.Module):
    """A segmentor that returns its loss for images and label maps, as in a training step."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        # On a CPU there is no SyncBN in training. With one process it is BN.
        self.model = revert_sync_batchnorm(model)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Return the sum of the losses, a scalar.

        Args:
            x: Images, (B, bands, H, W).
            labels: Class indices, (B, H, W), int64.
        """
        samples = samples_of(x)
        for sample, each in zip(samples, labels, strict=True):
            sample.gt_sem_seg = PixelData(data=each[None])
        losses = self.model(x, samples, mode="loss")
        return self.model.parse_losses(losses)[0]


def samples_of(x: Tensor) -> list[BaseDataElement]:
    """Return a sample for each image of a batch (B, bands, H, W), with the metainfo of a whole one.

    ``border`` tells CenterNet that its image was not padded.
    """
    shape = tuple(x.shape[2:])
    info = dict(img_shape=shape, ori_shape=shape, pad_shape=shape, batch_input_shape=shape)
    border = (0, shape[0], 0, shape[1])  # top, bottom, left, right
    sample = BaseDataElement(metainfo=dict(info, scale_factor=(1.0, 1.0), border=border))
    return [sample.clone() for _ in x]


def _seconds(start: Any, end: Any) -> float:
    """Return the seconds between two marks of :class:`Inference`."""
    if isinstance(start, float):
        return end - start
    end.synchronize()
    return start.elapsed_time(end) / 1e3  # of milliseconds
