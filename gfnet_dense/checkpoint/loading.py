"""Loading weights into models, with a report of what was loaded, resized, new and not used."""

import re
from pathlib import Path

from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from gfnet_dense.models.utils.state_dict import describe_arch
from gfnet_dense.registry import WEIGHT_INITIALIZERS
from gfnet_dense.utils.errors import InputError

from .download import fetch
from .safe_reader import read_checkpoint


@WEIGHT_INITIALIZERS.register_module(name="Pretrained")
class PretrainedBackbone:
    """Weight initializer ``gfnet_dense.Pretrained``, which calls :func:`load_pretrained`.

    Args:
        checkpoint: See :func:`load_pretrained`.
    """

    def __init__(self, checkpoint: str):
        self.checkpoint = checkpoint

    def __call__(self, module: nn.Module) -> None:
        load_pretrained(module, self.checkpoint)


def load_pretrained(module: nn.Module, checkpoint: str) -> str:
    """Load ImageNet weights, or a backbone of ours, into a backbone and log one line of report.

    Args:
        module: The backbone; its load hook resizes filters and position embedding to its grid.
        checkpoint: A file, an http(s) address, or ``gfnet://ARCH`` for the official release.
            Accepted contents: the official ``{'model': ...}``, mmengine's ``{'state_dict': ...}``
            of a backbone or of a whole segmentor or detector, or a bare state dict.

    Returns:
        The report, which is logged as well: how many tensors were loaded, resized, new, not used.

    Raises:
        InputError: If the file cannot be had, is no checkpoint, or is one of another arch.
    """
    path = fetch(checkpoint)
    state_dict = unwrap(read_checkpoint(path))
    expected, found = module.arch_shape, describe_arch(state_dict)
    if found is None:
        raise InputError(
            f"{path} holds no GFNet weights: expected keys like 'patch_embed.0.proj.weight', found "
            f"{', '.join(map(repr, list(state_dict)[:3])) or 'no tensors'}"
        )
    if found not in (expected, describe_arch(module.state_dict())):  # or saved without last stages
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
    # The final norm of the official model has another name here, see the load hook.
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
        # blocks.3, patch_embed.3, norm0: the stages tell enough
        modules = sorted({re.match(r"[a-z_]+(\.\d+|\d+)?", name)[0] for name in names})
        report += f"; {title}: {', '.join(modules) or 'nothing'}"
    print_log(report, logger="current")
    return report


def load_whole(model: nn.Module, state_dict: dict[str, Tensor], name: str | Path) -> None:
    """Load all weights of a model.

    Args:
        model: A segmentor or detector.
        state_dict: Its weights; filters of another image size are resized.
        name: What error messages call them.

    Raises:
        InputError: If names, shapes or kinds of numbers differ.
    """
    check_dtypes(model, state_dict, name)
    try:
        model.load_state_dict(state_dict)
    except RuntimeError as e:
        raise mismatch_error(name, e) from None


def mismatch_error(name: str | Path, error: RuntimeError) -> InputError:
    """Return the sentence for what a strict ``load_state_dict`` raises."""
    problems = [line for line in str(error).splitlines()[1:] if line.strip()] or [str(error)]
    return InputError(
        f"{name} does not fit the model of the config ({problems[0].strip(' .')[:200]}): take the "
        "config that it was trained with"
    )


def check_dtypes(module: nn.Module, state_dict: dict[str, Tensor], path: str | Path) -> None:
    """Raise InputError for weights of another kind of number than the module's, such as the
    integers of a quantized model, which PyTorch would convert without a word."""
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
    """Make mmengine read every checkpoint (``load_from``, ``resume``) with this module.

    Its own loader falls back to executing the pickle when the safe one refuses it.
    """

    def load_from_file(filename, map_location=None):
        return read_checkpoint(fetch(filename), map_location)

    schemes = [*CheckpointLoader._schemes, "gfnet://"]  # no other one stays as it was
    CheckpointLoader.register_scheme(schemes, load_from_file, force=True)


def unwrap(checkpoint: dict) -> dict[str, Tensor]:
    """Return the backbone's state dict of a checkpoint: wrappers and prefixes taken off."""
    for key in ("state_dict", "model"):
        if isinstance(checkpoint.get(key), dict):
            checkpoint = checkpoint[key]
    state_dict = {k: v for k, v in checkpoint.items() if isinstance(v, Tensor)}
    for prefix in ("module.", "backbone."):
        inside = {k.removeprefix(prefix): v for k, v in state_dict.items() if k.startswith(prefix)}
        state_dict = inside or state_dict
    return state_dict


def _format_arch(arch: tuple[tuple, tuple]) -> str:
    dims, depths = arch
    return f"dims {'/'.join(map(str, dims))} and depths {'/'.join(map(str, depths))}"
