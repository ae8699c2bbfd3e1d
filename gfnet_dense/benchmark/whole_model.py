"""Benchmark cases of a whole segmentor or detector, and of those that people would pick instead."""

import sys
import traceback
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS
from torch import Tensor, nn

from gfnet_dense.demo import shrink
from gfnet_dense.utils.channels import image_channels
from gfnet_dense.utils.config import read_config
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.scope import default_scope
from gfnet_dense.utils.third_party import errors_alone

from .backbones import images, largest_difference
from .complexity import count_flops
from .measure import Settings, measure, tf32
from .model_calls import Inference, Training
from .peers import STOCK_HEADS, is_segmentor, rival_config, rivals
from .processes import Case


def cases(
    config: str,
    sizes: Sequence[int],
    settings: Settings,
    demo: bool,
    against: Sequence[str] | None = None,
) -> list[Case]:
    """Return a case for each model and image size.

    Args:
        config: Path of a config of mmsegmentation or mmdetection.
        sizes: Sides of the square images in pixels.
        settings: How the models are run; ``train`` is for segmentors.
        demo: Measure the config's demo, a shrunken model; the others stay whole.
        against: Names of other models that are measured as well, see :func:`.peers.rivals`. None
            for the config alone.

    Raises:
        InputError: If the config cannot be read or shrunken, for ``settings.train`` with a
            detector, and for models that cannot be had, see :func:`.peers.rivals`.
    """
    cfg = _read(config, demo)
    if settings.train and not is_segmentor(cfg):
        raise InputError(
            f"a training step is measured of segmentors, and {config} is a detector, whose boxes "
            "would be arbitrary: leave out --train"
        )
    others = [] if against is None else rivals(against, cfg)
    options = dict(config=config, settings=asdict(settings), demo=demo)
    series = {Path(config).stem: options} | {name: dict(options, rival=name) for name in others}
    return [Case(name, size, run, each) for name, each in series.items() for size in sizes]


def _read(config: str, demo: bool) -> Config:
    cfg = read_config(config)
    if demo:
        shrink(cfg)
    return cfg


def build_model(cfg: Config, device: str) -> nn.Module:
    """Return the untrained model of a config, built on a device of PyTorch such as ``meta``."""
    with default_scope(cfg.default_scope), torch.device(device):
        return MODELS.build(deepcopy(cfg.model))  # mmdet's detectors modify their config


def build_random(cfg: Config) -> Any:
    """Return the model of a config on the CPU, with the same random weights in each call.

    They are those with which a training starts that has no pretrained weights.
    """
    cfg = deepcopy(cfg)
    forget_weights(cfg.model)
    with torch.random.fork_rng(devices=[]), default_scope(cfg.default_scope):
        torch.manual_seed(0)
        model: Any = build_model(cfg, "cpu")
        with errors_alone(MMLogger.get_current_instance()):  # it logs each parameter
            model.init_weights()
    return model


def forget_weights(node: Any) -> None:
    """Take the addresses of pretrained weights out of nested parts of a config, in place."""
    if isinstance(node, (list, tuple)):
        for each in node:
            forget_weights(each)
    elif isinstance(node, dict):
        if isinstance(node.get("init_cfg"), list):
            node["init_cfg"] = [each for each in node["init_cfg"] if not _loads(each)]
        elif _loads(node.get("init_cfg")):
            del node["init_cfg"]
        if "pretrained" in node:
            node["pretrained"] = None
        for each in node.values():
            forget_weights(each)


def _loads(init_cfg: Any) -> bool:
    # With or without the type Pretrained, which mmdetection's PVT does not need
    return isinstance(init_cfg, dict) and "checkpoint" in init_cfg


def run(
    size: int, config: str, settings: dict[str, Any], demo: bool, rival: str | None = None
) -> dict[str, Any]:
    """Measure a model with random weights on whole images: its prediction, or a training step.

    A training step is forward, loss and backward, for random labels. The number of boxes that an
    untrained detector finds is arbitrary, and so is the cost of their masks.

    Args:
        size: Side of the square images in pixels.
        config: See :func:`cases`.
        settings: Fields of :class:`.measure.Settings`.
        demo: See :func:`cases`.
        rival: Name of the model that is measured, see :func:`.peers.rivals`; None for the config's.

    Returns:
        The record of :func:`.measure.measure`; ``params``, the number of parameters; ``flops``, the
        multiply-adds of a forward of one image, left out if they cannot be counted; of a prediction
        ``shares``, see :meth:`.Inference.shares`; for ``stock-heads`` the record of :func:`compare`
        as well.
    """
    run_settings = Settings(**settings)
    own = _read(config, demo)
    cfg = own if rival is None else rival_config(rival, own)
    record = _measure(cfg, size, run_settings) | _flops(cfg, size)
    if rival == STOCK_HEADS:
        record |= compare(own, cfg, size, run_settings)
    return record


def _measure(cfg: Config, size: int, settings: Settings) -> dict[str, Any]:
    model = build_random(cfg)
    params = {"params": sum(p.numel() for p in model.parameters())}
    inputs = _inputs(model, size, settings)
    if settings.train:
        return measure(Training(model), inputs, settings) | params
    inference = Inference(model)
    record = measure(inference, inputs, settings)
    return record | params | {"shares": inference.shares()}


def _inputs(model: Any, size: int, settings: Settings) -> tuple[Tensor, ...]:
    """Return images, and for a training step random labels, the same in every call."""
    x = images(size, settings.batch_size, image_channels(model))
    if not settings.train:
        return (x,)
    generator = torch.Generator().manual_seed(0)
    shape = settings.batch_size, size, size
    return x, torch.randint(model.num_classes, shape, generator=generator)


def _flops(cfg: Config, size: int) -> dict[str, int]:
    try:
        # Not built there: some backbones read numbers from tensors while they are built.
        model = build_model(cfg, "cpu").to("meta")
        return {"flops": count_flops(model, (size, size)).total}
    except Exception:  # some models have operators that exist for some devices alone
        print("the FLOPs cannot be counted:", file=sys.stderr)
        traceback.print_exc()
        return {}


def compare(own: Config, stock: Config, size: int, settings: Settings) -> dict[str, float]:
    """Return relative differences between a config's model and the one with its library's heads.

    Both have the same weights, and run in evaluation in float32, not TF32: in training, norms over
    the few values of pooled maps magnify rounding.

    Args:
        own: The config.
        stock: The same with the heads and necks of its library.
        size: Side of the square images in pixels.
        settings: ``device``, ``batch_size`` and ``train`` are used.

    Returns:
        ``difference``, the largest ``|ours - stock| / |stock|`` (Euclidean norms) over the outputs:
        maps of logits of a segmentor, features of a detector; with ``settings.train`` also
        ``gradient_difference``, that of the gradients of all parameters together.
    """
    theirs = build_random(stock)
    ours = build_random(own)
    ours.load_state_dict(theirs.state_dict())
    inputs = tuple(each.to(settings.device) for each in _inputs(ours, size, settings))
    outputs, gradients = [], []
    for model in (ours, theirs):
        model.to(settings.device).eval()
        with tf32(False):
            with torch.inference_mode():
                outputs.append([each.cpu() for each in _outputs(model, inputs[0])])
            if settings.train:
                Training(model)(*inputs).backward()
                found = [p.grad.flatten().cpu() for p in model.parameters() if p.grad is not None]
                gradients.append([torch.cat(found)])
    result = {"difference": largest_difference(*outputs)}
    if settings.train:
        result["gradient_difference"] = largest_difference(*gradients)
    return result


def _outputs(model: Any, x: Tensor) -> list[Tensor]:
    """Return the maps that a segmentor's head or a detector's neck gives for images."""
    maps = model.extract_feat(x)
    if hasattr(model, "decode_head"):
        maps = model.decode_head(maps)
    return [maps] if isinstance(maps, Tensor) else list(maps)
