"""Time and memory of a whole segmentor or detector, and where the time goes."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from gfnet_dense.demo import shrink
from gfnet_dense.utils.config import read_config
from gfnet_dense.utils.errors import InputError

from .backbones import images
from .measure import Settings, measure, synchronize
from .sweep import Case

PARTS = ("backbone", "neck", "heads", "other")


def cases(config: str, sizes: Sequence[int], settings: Settings, demo: bool) -> list[Case]:
    """Return a case for each image size.

    Args:
        config: Path of a config of mmsegmentation or mmdetection.
        sizes: Sides of the square images in pixels.
        settings: Without ``train``, which would need labels.
        demo: Take the config as ``--demo`` shrinks it.

    Raises:
        InputError: If the config cannot be read or shrunken, or training is asked for.
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
    """Return the untrained model of a config; on the meta device it has shapes alone."""
    init_default_scope(cfg.default_scope)
    with torch.device(device):
        return MODELS.build(deepcopy(cfg.model))  # mmdet's detectors change theirs


def run(size: int, config: str, settings: dict, demo: bool) -> dict:
    """Measure the inference of an untrained model on whole images, its post-processing included.

    How many boxes an untrained detector finds is chance, and so is what their masks cost.

    Returns:
        What :func:`.measure` returns; ``params``, their number; ``shares``, the fraction of the
        time in each of :data:`PARTS`, the heads being all that is neither backbone nor neck.
    """
    settings = Settings(**settings)
    model = build_model(_read(config, demo), "cpu")
    inference = Inference(model)
    record = measure(inference, (images(size, settings.batch_size),), settings)
    params = sum(p.numel() for p in model.parameters())
    return record | {"params": params, "shares": inference.shares()}


class Inference(nn.Module):
    """A segmentor or detector that predicts from images alone, and clocks its parts.

    Attributes:
        calls: Of each call the seconds in backbone, neck and heads, and ``all``.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        if "mode" in (model.test_cfg or ()):  # a segmentor's
            model.test_cfg.mode = "whole"
        self.model, self.calls, self._within = model, [], False
        for name, child in model.named_children():
            part = name if name in PARTS else "heads"
            # Most heads are entered by predict, which calls forward; the other modules by forward.
            for method in ("forward", "predict"):
                if hasattr(child, method):
                    setattr(child, method, self._clocked(getattr(child, method), part))

    @torch.compiler.disable(recursive=False)
    def forward(self, x: Tensor) -> list:
        shape = tuple(x.shape[2:])
        info = dict(img_shape=shape, ori_shape=shape, pad_shape=shape, batch_input_shape=shape)
        sample = BaseDataElement(metainfo=dict(info, scale_factor=(1.0, 1.0)))
        samples = [sample.clone() for _ in x]
        self._device = x.device
        self.calls.append(Counter())
        start = self._now()
        results = self.model(x, samples, mode="predict")
        self.calls[-1]["all"] = self._now() - start
        return results

    def _clocked(self, function: Callable, part: str) -> Callable:
        """Return ``function`` with its time going to ``part``, if no other part has called it."""

        @torch.compiler.disable(recursive=False)
        def clocked(*args, **kwargs):
            if self._within:
                return function(*args, **kwargs)
            self._within, start = True, self._now()
            try:
                return function(*args, **kwargs)
            finally:
                self._within = False
                self.calls[-1][part] += self._now() - start

        return clocked

    def _now(self) -> float:
        synchronize(self._device)
        return time.perf_counter()

    def shares(self) -> dict[str, float]:
        """Return the fraction of the time in each of :data:`PARTS`, without the first call's."""
        spent = sum(self.calls[1:], Counter())
        spent["other"] = spent["all"] - spent["backbone"] - spent["neck"] - spent["heads"]
        return {part: spent[part] / spent["all"] for part in PARTS}
