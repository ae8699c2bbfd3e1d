"""Loading weights into backbones and whole models, each with a report of one line."""

from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from torch import Tensor, nn

from gfnet_dense.models.utils.arch import Arch, compare
from gfnet_dense.models.utils.families import describe_arch
from gfnet_dense.registry import WEIGHT_INITIALIZERS
from gfnet_dense.utils.errors import InputError

from .contents import Weights, find_weights
from .fitting import Fit, load_tensors
from .safe_loading import read

# Share of the tensors of a model's backbone that ``load_from`` has to load
MIN_SHARE = 0.5


@WEIGHT_INITIALIZERS.register_module(name="Pretrained")
class PretrainedInit:
    """Weight initializer ``gfnet_dense.Pretrained``, which calls :func:`load_pretrained`.

    Backbones build it by that name, so that models do not import the code that reads checkpoints.

    Args:
        checkpoint: See :func:`load_pretrained`, as ``prefix`` and ``map_location``.
    """

    def __init__(self, checkpoint: str, prefix: str | None = None, map_location: str = "cpu"):
        self.arguments = (checkpoint, prefix, map_location)

    def __call__(self, module: nn.Module) -> None:
        """Load the checkpoint into a backbone."""
        load_pretrained(module, *self.arguments)


def load_pretrained(
    module: nn.Module,
    checkpoint: str | Path,
    prefix: str | None = None,
    map_location: str = "cpu",
) -> str:
    """Load a checkpoint, official or our own, into a backbone and log one line of report.

    Args:
        module: A :class:`.FilterBackbone`, whose load hook resizes filters and position embedding.
        checkpoint: A path, an http(s) URL, the name of an official checkpoint (``gfnet://ARCH``,
            ``hornet://ARCH``), or an address that mmengine reads. Accepted contents are the
            official ``{'model': ...}``, mmengine's ``{'state_dict': ...}`` of a backbone or of a
            whole segmentor or detector, and all others of :func:`.contents.find_weights`.
        prefix: Part of the model that the weights are taken from, such as ``teacher.backbone``; if
            None, the backbone of the whole model.
        map_location: Device on which the file is read.

    Returns:
        The logged report: how many tensors were loaded and resized, and which modules are new in
        the backbone or not used from the file.

    Raises:
        InputError: If the file cannot be fetched or read as a checkpoint, or does not fit the
            backbone.
    """
    content, path = read(checkpoint, map_location)
    return load_backbone_weights(
        module, find_weights(content, path, module.state_dict(), prefix), path
    )


def load_backbone_weights(module: nn.Module, weights: Weights, path: str | Path) -> str:
    """Load weights into a backbone, log the report and return it, see :func:`load_pretrained`.

    Raises:
        InputError: If the weights do not fit the backbone.
    """
    expected: Any = module.arch_shape
    found = describe_arch(weights.state_dict)
    if found is None:
        raise InputError(
            f"{path} holds no {expected.kind} weights: expected keys like "
            f"{next(iter(module.state_dict()))!r}, found "
            f"{', '.join(map(repr, list(weights.state_dict)[:3]))}"
        )
    if not _is_arch_of(module, found):
        raise InputError(
            f"{path} is a checkpoint of another arch: {compare(expected, found)}; set the "
            "backbone's arch to the one of the file, or take the file that belongs to the arch"
        )
    fit = load_tensors(module, weights.state_dict, path)
    if fit.misfits:
        raise InputError(
            f"{path} does not fit the backbone: {len(fit.misfits)} tensors are of another shape, "
            f"{fit.shapes()}"
        )
    # Output norms may be missing: the official release has the norm of the last output alone.
    lost = [name for name in fit.new if not name.startswith("norm")]
    if lost:
        raise InputError(
            f"{path} is incomplete: {len(lost)} of {len(fit.names)} tensors are missing, first "
            f"{lost[0]!r}"
        )
    return _log(fit, weights, path)


def load_whole(model: nn.Module, weights: Weights, path: str | Path) -> str:
    """Load the weights of a whole model, all of which have to fit, and log the report.

    Args:
        model: A segmentor or detector; filters of another image size are resized.
        weights: Weights found with the names of the model.
        path: The file, for messages.

    Returns:
        The logged report.

    Raises:
        InputError: If a tensor is missing, is not in the model, or is of another shape or kind.
    """
    fit = load_tensors(model, weights.state_dict, path)
    if fit.new or fit.unused or fit.misfits:
        raise InputError(
            f"{path} does not fit the model of the config: {fit.problems()}; "
            f"{_likely_reason(model, weights.state_dict, fit)}"
        )
    return _log(fit, weights, path)


def load_partly(model: nn.Module, weights: Weights, path: str | Path) -> str:
    """Load the weights that fit, to start a new training from them, and log the report.

    Heads may be new or for another number of classes. The backbone has to be of the same arch, and
    at least half of its tensors have to be in the file (``MIN_SHARE``); of a model without a
    ``backbone``, half of all its tensors.

    Args:
        model: A segmentor, a detector or any other model.
        weights: See :func:`load_whole`.
        path: The file, for messages.

    Returns:
        The logged report.

    Raises:
        InputError: If too little fits, or a tensor is of another kind of numbers.
    """
    if archs := _another_arch(model, weights.state_dict):
        raise InputError(f"{path} was trained with another backbone: {archs}")
    fit = load_tensors(model, weights.state_dict, path)
    core = [n for n in fit.names if "backbone" in n.split(".")] or fit.names
    loaded = set(fit.loaded).intersection(core)
    if len(loaded) < MIN_SHARE * len(core):
        part = "its backbone" if len(core) < len(fit.names) else "the model"
        reason = _likely_reason(model, weights.state_dict, fit)
        raise InputError(
            f"{path} has too little of the model of the config to start from (load_from): "
            f"{len(loaded)} of {len(core)} tensors of {part} fit, at least half are needed; "
            f"{fit.problems()}; {reason}"
        )
    return _log(fit, weights, path)


def _log(fit: Fit, weights: Weights, path: str | Path) -> str:
    report = fit.report(Path(path).name, weights)
    print_log(report, logger="current")
    return report


def _another_arch(model: nn.Module, state_dict: dict[str, Tensor]) -> str | None:
    """Return both archs in words if the weights are of another arch than the model's."""
    backbone: Any = getattr(model, "backbone", None)
    expected: Any = getattr(backbone, "arch_shape", None)
    start = "backbone."
    found = describe_arch(
        {k[len(start) :]: v for k, v in state_dict.items() if k.startswith(start)}
    )
    if expected is None or found is None or _is_arch_of(backbone, found):
        return None
    return compare(expected, found)


def _is_arch_of(backbone: Any, found: Arch) -> bool:
    """Return whether weights of an arch are a backbone's, which may lack the last stages."""
    return found in (backbone.arch_shape, describe_arch(backbone.state_dict()))


def _likely_reason(model: nn.Module, state_dict: dict[str, Tensor], fit: Fit) -> str:
    """Say what weights probably are that do not fit a model, and what to do."""
    if not fit.loaded and describe_arch(state_dict) is not None:
        return (
            "it holds a backbone alone, which belongs into the backbone's "
            "init_cfg=dict(type='Pretrained', checkpoint=...)"
        )
    is_head = [
        "backbone" not in name.split(".") and a.split(", ")[1:] == b.split(", ")[1:]
        for name, (a, b) in fit.misfits.items()
    ]
    if archs := _another_arch(model, state_dict):
        reason = f"it has another backbone, {archs}"
    elif not fit.loaded:
        reason = "it is a checkpoint of another model"
    elif not fit.new and not fit.unused and all(is_head):
        reason = "it seems to be for another number of classes"
    else:
        reason = "it is a checkpoint of another config"
    return f"{reason}: take the config that it was trained with"
