"""Reading checkpoints from wherever mmengine finds them, as data.

mmengine unpickles a file anyway if PyTorch's weights-only reader refuses it, which can run code.
Private names of mmengine's ``runner/checkpoint.py`` are used here, as seen in onedl-mmengine
0.10.12. The original mmengine 0.10.7 has no ``_safe_torch_load``; it calls ``torch.load``, which
refuses what is not data from PyTorch 2.6 on.
"""

import functools
import io
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

from gfnet_dense.utils.errors import InputError

from .download import REMOTE, fetch
from .safe_reader import read_checkpoint

OURS = ("", *REMOTE)  # prefixes of what :func:`.download.fetch` takes
OTHER = re.compile(rf"(?!{'|'.join(REMOTE)})\w[\w.:-]*://")  # an address of another scheme
# Errors of mmengine's loaders for unknown names, missing packages and missing files
LOADER_ERRORS = (AssertionError, ImportError, LookupError, OSError, ValueError)

_lock = Lock()
_open_blocks = 0  # in all threads
_restore: list[Callable[[], None]] = []  # undoes what the first of them did


def read(checkpoint: str | Path, map_location: Any = "cpu") -> tuple[dict[str, Any], str | Path]:
    """Return the content of a checkpoint, and the name of the file for messages.

    Args:
        checkpoint: What :func:`.download.fetch` takes, or an address that mmengine reads, such as
            ``open-mmlab://NAME``.
        map_location: Device of the tensors, see :func:`.read_checkpoint`.

    Raises:
        InputError: If it cannot be fetched or read.
    """
    if OTHER.match(str(checkpoint)):
        from mmengine.runner import CheckpointLoader

        with safe_loading():
            return CheckpointLoader.load_checkpoint(checkpoint, map_location), str(checkpoint)
    path = fetch(checkpoint)
    return read_checkpoint(path, map_location), path


@contextmanager
def safe_loading() -> Iterator[None]:
    """Make mmengine read every checkpoint as data within the ``with`` block.

    It concerns all threads, since mmengine's table of loaders is global. Blocks may be nested and
    may overlap in several threads; after the last of them everything is as it was before the first.
    Loaders that a program has registered itself stay in use.
    """
    global _open_blocks
    with _lock:
        if not _open_blocks:
            _restore.append(_install())
        _open_blocks += 1
    try:
        yield
    finally:
        with _lock:
            _open_blocks -= 1
            if not _open_blocks:
                _restore.pop()()


def _install() -> Callable[[], None]:
    """Replace mmengine's loaders, and return a function that puts them back."""
    # It imports OpenCV, which backbones alone do not need.
    from mmengine.runner import CheckpointLoader, checkpoint

    before = dict(CheckpointLoader._schemes)
    ours = {
        scheme: _with_sentences(loader)
        for scheme, loader in before.items() if loader.__module__ == checkpoint.__name__
    } | dict.fromkeys(OURS, load_from_file)  # fmt: skip
    CheckpointLoader.register_scheme([*OURS], load_from_file, force=True)
    CheckpointLoader._schemes.update(ours)
    # mmengine's loaders of torchvision://, open-mmlab://, mmcls:// and s3:// call these functions.
    functions = {"load_from_http": load_from_file, "_safe_torch_load": _load_buffer}
    originals = {name: getattr(checkpoint, name) for name in functions if hasattr(checkpoint, name)}
    for name in originals:
        setattr(checkpoint, name, functions[name])

    def restore() -> None:
        for scheme, loader in list(CheckpointLoader._schemes.items()):
            if loader is ours.get(scheme):  # not registered anew in the meantime
                CheckpointLoader._schemes.pop(scheme)
                if scheme in before:
                    CheckpointLoader.register_scheme(scheme, before[scheme])
        for name, function in originals.items():
            setattr(checkpoint, name, function)

    return restore


def load_from_file(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Replace mmengine's loaders of files and http(s) addresses."""
    return read_checkpoint(fetch(filename), map_location)


def _load_buffer(
    file: str | io.BytesIO, map_location: Any = None, weights_only: bool | None = None
) -> dict[str, Any]:
    """Replace mmengine's ``_safe_torch_load``, which takes a path or a file in memory."""
    if isinstance(file, (str, Path)):
        return read_checkpoint(file, map_location)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "checkpoint")
        path.write_bytes(file.getbuffer())
        return read_checkpoint(path, map_location)


def _with_sentences(loader: Callable[..., Any]) -> Callable[..., Any]:
    """Return a loader of mmengine that raises its errors as InputError."""

    @functools.wraps(loader)  # mmengine logs its name
    def load(filename: str, map_location: Any = None) -> Any:
        try:
            return loader(filename, map_location)
        except LOADER_ERRORS as e:
            reason = f"there is no {e}" if isinstance(e, KeyError) else " ".join(str(e).split())
            raise InputError(
                f"the checkpoint {filename} cannot be read ({reason}); the path of a file and an "
                "https address are accepted as well"
            ) from e

    return load
