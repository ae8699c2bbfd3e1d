"""Where ImageNet weights come from, key names, and the load report.

This module knows files and key names. Resizing what was stored for another image size is done by
the backbone's own load hook (:mod:`gfnet_dense.models.loading`).
"""

import hashlib
import http.client
import os
import re
import socket
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.dist import barrier
from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from .errors import InputError
from .files import replace
from .safe_loading import read_checkpoint

# https://github.com/raoyongming/GFNet#model-zoo. The addresses carry no file name.
OFFICIAL_FILES = {
    "h-tiny": ("gfnet-h-ti.pth", "https://cloud.tsinghua.edu.cn/f/b22dd45eccbe462cbbfb/?dl=1"),
    "h-small": ("gfnet-h-s.pth", "https://cloud.tsinghua.edu.cn/f/5229cb4d1daf48e69675/?dl=1"),
    "h-base": ("gfnet-h-b.pth", "https://cloud.tsinghua.edu.cn/f/954c5af21e824ba6b40c/?dl=1"),
    "tiny": ("gfnet-ti.pth", "https://cloud.tsinghua.edu.cn/f/3d0c1579aa524a0a99dd/?dl=1"),
    "xsmall": ("gfnet-xs.pth", "https://cloud.tsinghua.edu.cn/f/e0ab5b1583954a1fa9b2/?dl=1"),
    "small": ("gfnet-s.pth", "https://cloud.tsinghua.edu.cn/f/e5561fa070c44d9399bf/?dl=1"),
    "base": ("gfnet-b.pth", "https://cloud.tsinghua.edu.cn/f/2fbf264597af4d72afb3/?dl=1"),
}

DOWNLOAD_TIMEOUT = 30  # seconds without a byte


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
        raise misfit(name, e) from None


def misfit(name: str | Path, error: RuntimeError) -> InputError:
    """Return the sentence for what a strict ``load_state_dict`` raises."""
    problems = [line for line in str(error).splitlines()[1:] if line.strip()] or [str(error)]
    return InputError(
        f"{name} does not fit the model of the config ({problems[0].strip(' .')[:200]}): take the "
        "config that it was trained with"
    )


def fetch(checkpoint: str) -> Path:
    """Return the local file of a checkpoint; an address is downloaded once, whole or not at all.

    Args:
        checkpoint: A path, an http(s) address, or ``gfnet://ARCH``. Downloads are kept in torch
            hub's folder (``TORCH_HOME``).

    Raises:
        InputError: If there is no such file, or it cannot be downloaded.
    """
    if checkpoint.startswith("gfnet://"):
        arch = checkpoint.removeprefix("gfnet://")
        if arch not in OFFICIAL_FILES:
            raise InputError(
                f"{checkpoint} is not an official checkpoint, these are: "
                f"{', '.join('gfnet://' + name for name in OFFICIAL_FILES)}"
            )
        name, url = OFFICIAL_FILES[arch]
    elif checkpoint.startswith(("http://", "https://")):
        url = checkpoint
        digest = hashlib.sha256(url.encode()).hexdigest()[:8]  # others have files of that name
        name = f"{digest}-{url.partition('?')[0].rstrip('/').rpartition('/')[2]}"
    else:
        path = Path(os.path.expanduser(checkpoint))  # "~nobody" stays as it is
        if not path.is_file():
            raise InputError(f"the checkpoint {checkpoint} does not exist or is not a file")
        return path

    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    error = None
    if os.environ.get("LOCAL_RANK", "0") == "0" and not path.exists():
        try:
            _download(url, path)
        except InputError as e:  # told after the barrier, at which the other ranks wait
            error = e
    barrier()
    if error is not None:
        raise error
    if not path.exists():
        raise InputError(f"{path} is missing: its download failed in another process")
    return path


def _download(url: str, path: Path) -> None:
    """Download a checkpoint to ``path``, which appears only once the file was read as one."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    print_log(f"downloading {url} to {path}", logger="current")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _socket_timeout(DOWNLOAD_TIMEOUT):
            torch.hub.download_url_to_file(url, str(part))
        read_checkpoint(part)
        replace(part, path)
    except (OSError, ValueError, http.client.HTTPException) as e:
        reason = "what came is no checkpoint" if isinstance(e, InputError) else e
        raise InputError(
            f"could not download {url} ({reason}); fetch it in another way and save it as {path}"
        ) from None
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _socket_timeout(seconds: float):
    """torch.hub sets no time limit: a stalled connection would hang for ever."""
    previous = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(previous)


def check_dtypes(module: nn.Module, state_dict: dict[str, Tensor], path: str | Path) -> None:
    """Raise InputError for weights of another kind of number than the module's, such as the
    integers of a quantised model, which PyTorch would convert without a word."""
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


def describe_arch(state_dict: dict[str, Tensor]) -> tuple[tuple, tuple] | None:
    """Return (dims, depths) of a GFNet from its keys, one number per stage, None if it is none."""
    dims, blocks = {}, {}
    for name, tensor in state_dict.items():
        match = re.fullmatch(r"patch_embed\.(?:(\d+)\.)?proj\.weight", name)
        if match and tensor.ndim == 4:
            dims[int(match[1] or 0)] = tensor.shape[0]
        elif match := re.fullmatch(r"blocks\.(?:(\d+)\.)?(\d+)\.filter\.complex_weight", name):
            blocks.setdefault(int(match[1] or 0), set()).add(match[2])
    if not dims or not blocks:
        return None
    return (
        tuple(dims[i] for i in sorted(dims)),
        tuple(len(blocks[i]) for i in sorted(blocks)),
    )


def _format_arch(arch: tuple[tuple, tuple]) -> str:
    dims, depths = arch
    return f"dims {'/'.join(map(str, dims))} and depths {'/'.join(map(str, depths))}"
