"""Loading weights into models, with a report of the tensors loaded, resized, new and not used."""

import re
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from torch import Tensor, nn

from gfnet_dense.models.utils.state_dict import Arch, describe_arch
from gfnet_dense.registry import WEIGHT_INITIALIZERS
from gfnet_dense.utils.errors import InputError

from .download import fetch
from .safe_reader import read_checkpoint


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
        module: A :class:`.GFNetBackbone`, whose load hook resizes filters and position embedding.
        checkpoint: A path, an http(s) URL, or ``gfnet://ARCH`` for an official checkpoint.
            Accepted contents are the official ``{'model': ...}``, mmengine's
            ``{'state_dict': ...}`` of a backbone or of a whole segmentor or detector, and a bare
            state dict.
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
    path = fetch(checkpoint)
    state_dict = unwrap(read_checkpoint(path, map_location), prefix)
    if prefix is not None and not state_dict:
        raise InputError(f"{path} holds no tensor whose name begins with {prefix}")
    expected: Any = module.arch_shape
    found = describe_arch(state_dict)
    if found is None:
        raise InputError(
            f"{path} holds no GFNet weights: expected keys like 'patch_embed.0.proj.weight', found "
            f"{', '.join(map(repr, list(state_dict)[:3])) or 'no tensors'}"
        )
    # A backbone of ours without the last stages is saved without their part of the arch.
    if found not in (expected, describe_arch(module.state_dict())):
        raise InputError(
            f"{path} is a checkpoint of another arch: expected {_format_arch(expected)}, found "
            f"{_format_arch(found)}; set the backbone's arch to the one of the file, or take the "
            "file that belongs to the arch"
        )

    check_dtypes(module, state_dict, path)
    shapes = {name: tensor.shape for name, tensor in state_dict.items()}
    try:
        result = module.load_state_dict(state_dict, strict=False)
    except RuntimeError as e:
        raise InputError(f"{path} does not fit: {str(e).splitlines()[-1].strip()}") from None
    # Output norms may be missing: the official release has the norm of the last output alone.
    is_norm = re.compile(r"norm\d*\.(weight|bias)$").match
    lost = [name for name in result.missing_keys if not is_norm(name)]
    if lost:
        raise InputError(
            f"{path} is incomplete: {len(lost)} of {len(module.state_dict())} tensors are missing, "
            f"first {lost[0]!r}"
        )
    parameters = module.state_dict()
    resized = [n for n, s in shapes.items() if n in parameters and parameters[n].shape != s]
    grid = "x".join(map(str, getattr(module, "grids", [()])[0]))
    report = f"{path.name}: loaded {len(parameters) - len(result.missing_keys)} of "
    report += f"{len(parameters)} tensors; resized {len(resized)}"
    report += f" (filters and position embedding, to the grid {grid})" if resized else ""
    for title, names in (("new", result.missing_keys), ("not used", result.unexpected_keys)):
        modules = sorted(set(map(_module_of, names)))
        report += f"; {title}: {', '.join(modules) or 'nothing'}"
    print_log(report, logger="current")
    return report


def _module_of(key: str) -> str:
    """Shorten a key to its module and stage, such as blocks.3, patch_embed.3, norm0 or head."""
    found = re.match(r"[a-z_]+(\.\d+|\d+)?", key)
    return found[0] if found else key


def load_whole(model: nn.Module, state_dict: dict[str, Tensor], name: str | Path) -> None:
    """Load all weights of a model, each of which must be in the state dict.

    Args:
        model: A segmentor or detector.
        state_dict: Weights of the model; filters of another image size are resized.
        name: Name of the weights in error messages.

    Raises:
        InputError: If keys or shapes differ, or a tensor fails :func:`check_dtypes`.
    """
    check_dtypes(model, state_dict, name)
    try:
        model.load_state_dict(state_dict)
    except RuntimeError as e:
        raise mismatch_error(name, e) from None


def mismatch_error(name: str | Path, error: RuntimeError) -> InputError:
    """Return the InputError for the ``error`` of a strict ``load_state_dict``.

    Args:
        name: Name of the weights in the message.
        error: Error raised by ``load_state_dict``; its first problem is quoted.
    """
    problems = [line for line in str(error).splitlines()[1:] if line.strip()] or [str(error)]
    return InputError(
        f"{name} does not fit the model of the config ({problems[0].strip(' .')[:200]}): take the "
        "config that it was trained with"
    )


def check_dtypes(module: nn.Module, state_dict: dict[str, Tensor], path: str | Path) -> None:
    """Check that weights are tensors, and floating-point numbers exactly where the module's are.

    ``load_state_dict`` would silently convert others, such as the integers of a quantized model.

    Args:
        module: Module that the weights are meant for.
        state_dict: Weights; missing ones are not checked.
        path: Name of the weights in the message.

    Raises:
        InputError: For the first weight that fails the check.
    """
    for name, expected in module.state_dict().items():
        found = state_dict.get(name, expected)
        if not isinstance(found, Tensor):
            raise InputError(f"{path} holds a {type(found).__name__} as {name}, not a tensor")
        if found.dtype.is_floating_point != expected.dtype.is_floating_point:
            raise InputError(
                f"{path} holds {name} as {found.dtype}, the model has {expected.dtype}: weights "
                "are floating-point numbers of any precision"
            )


def use_safe_loading() -> None:
    """Make mmengine read every checkpoint (``load_from``, ``resume``) with the safe reader.

    Where PyTorch's weights-only reader refuses a file, mmengine's own loaders unpickle it anyway,
    which can run code.
    """
    # It imports OpenCV, which backbones alone do not need.
    from mmengine.runner import CheckpointLoader

    def load_from_file(filename: str, map_location: str | None = None) -> dict[str, Any]:
        return read_checkpoint(fetch(filename), map_location)

    schemes = [*CheckpointLoader._schemes, "gfnet://"]  # all, so that no unsafe loader remains
    CheckpointLoader.register_scheme(schemes, load_from_file, force=True)


def unwrap(checkpoint: dict[str, Any], prefix: str | None = None) -> dict[str, Tensor]:
    """Return the state dict of a checkpoint's backbone, without wrapping dicts and prefixes.

    Args:
        checkpoint: Content of the file.
        prefix: Prefix of the backbone's names, with or without the dot at its end; if None, it is
            found.
    """
    for key in ("state_dict", "model"):
        if isinstance(checkpoint.get(key), dict):
            checkpoint = checkpoint[key]
    state_dict = {k: v for k, v in checkpoint.items() if isinstance(v, Tensor)}
    if prefix is not None:
        return _below(state_dict, f"{prefix.removesuffix('.')}.")
    for known in ("module.", "backbone."):
        state_dict = _below(state_dict, known) or state_dict
    return state_dict


def _below(state_dict: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state_dict.items() if k.startswith(prefix)}


def _format_arch(arch: Arch) -> str:
    dims, depths = arch
    return f"dims {'/'.join(map(str, dims))} and depths {'/'.join(map(str, depths))}"
