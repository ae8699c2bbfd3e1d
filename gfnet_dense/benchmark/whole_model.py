"""Measure time and memory of a whole segmentor or detector, and the time of each of its parts."""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from gfnet_dense.demo import shrink
from gfnet_dense.utils.channels import image_channels
from gfnet_dense.utils.config import read_config
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.scope import default_scope

from .backbones import images
from .measure import Settings, measure
from .sweep import Case

PARTS = ("backbone", "neck", "heads", "other")


def cases(config: str, sizes: Sequence[int], settings: Settings, demo: bool) -> list[Case]:
    """Return a case for each image size.

    Args:
        config: Path of a config of mmsegmentation or mmdetection.
        sizes: Sides of the square images in pixels.
        settings: How the model is run; not with ``train``, which would need labels.
        demo: Measure the config's demo, a shrunken model.

    Raises:
        InputError: If the config cannot be read or shrunken, or for ``settings.train``.
    """
    if settings.train:
        raise InputError("a whole model is measured in inference alone: leave out --train")
    _read(config, demo)
    options = dict(config=config, settings=asdict(settings), demo=demo)
    return [Case(Path(config).stem, size, run, options) for size in sizes]


def _read(config: str, demo: bool) -> Config:
    cfg = read_config(config)
    if demo:
        shrink(cfg)
    return cfg


def build_model(cfg: Config, device: str) -> nn.Module:
    """Return the untrained model of a config, built on a device of PyTorch such as ``meta``."""
    with default_scope(cfg.default_scope), torch.device(device):
        return MODELS.build(deepcopy(cfg.model))  # mmdet's detectors modify their config


def run(size: int, config: str, settings: dict[str, Any], demo: bool) -> dict[str, Any]:
    """Measure the inference of an untrained model on whole images, post-processing included.

    The number of boxes that an untrained detector finds is arbitrary, and so is the cost of their
    masks.

    Args:
        size: Side of the square images in pixels.
        config: See :func:`cases`.
        settings: Fields of :class:`.measure.Settings`.
        demo: See :func:`cases`.

    Returns:
        The record of :func:`.measure.measure`; ``params``, the number of parameters; ``shares``,
        see :meth:`Inference.shares`.
    """
    run_settings = Settings(**settings)
    model = build_model(_read(config, demo), "cpu")
    inference = Inference(model)
    inputs = images(size, run_settings.batch_size, image_channels(model))
    record = measure(inference, (inputs,), run_settings)
    params = sum(p.numel() for p in model.parameters())
    return record | {"params": params, "shares": inference.shares()}


class Inference(nn.Module):
    """A segmentor or detector that predicts from images alone and measures the time of its parts.

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
        shape = tuple(x.shape[2:])
        info = dict(img_shape=shape, ori_shape=shape, pad_shape=shape, batch_input_shape=shape)
        sample = BaseDataElement(metainfo=dict(info, scale_factor=(1.0, 1.0)))
        samples = [sample.clone() for _ in x]
        self._device = x.device
        self.calls.append(defaultdict(list))
        start = self._mark()
        results = self.model(x, samples, mode="predict")
        self.calls[-1]["all"].append((start, self._mark()))
        return results

    def _clocked(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        """Return ``function`` with its time added to ``part``, unless a part that runs calls it."""

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


def _seconds(start: Any, end: Any) -> float:
    """Return the seconds between two marks of :class:`Inference`."""
    if isinstance(start, float):
        return end - start
    end.synchronize()
    return start.elapsed_time(end) / 1e3  # of milliseconds
