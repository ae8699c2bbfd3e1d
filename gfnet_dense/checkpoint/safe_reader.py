"""Reading checkpoint files as data: nothing in a file can run code or exhaust the memory.

PyTorch's ``weights_only`` reader builds objects of a short list of classes, to which
:mod:`.stand_ins` adds some. Everything that was built is checked afterwards.
"""

import argparse
import errno
import json
import os
import pickle
import re
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from gfnet_dense.utils.errors import InputError

from .stand_ins import Array, History, allowed_globals

# Environment variable, so that child processes inherit it: with "1", checkpoints may run code.
TRUST = "GFNET_DENSE_TRUST_CHECKPOINT"
MAX_DEPTH = 64  # levels of nested containers in a file
# Accepted dtypes of tensors.
DTYPES = {
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.complex128,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
}  # fmt: skip
# Accepted types of single values, which need no copy.
PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)
# Suffixes of the names of weights, which must be finite.
WEIGHTS = (".weight", ".bias", ".gamma", "complex_weight", "pos_embed")
_READING = Lock()  # since the classes that PyTorch's reader accepts are global to all threads


def trust_checkpoints() -> None:
    """Accept checkpoints with any Python object from now on: reading one can then run any code."""
    os.environ[TRUST] = "1"


def is_trusting() -> bool:
    """Tell whether checkpoints may hold any Python object, see :func:`trust_checkpoints`."""
    return os.environ.get(TRUST) == "1"


def read_checkpoint(path: str | Path, map_location: str | None = "cpu") -> dict[str, Any]:
    """Read a checkpoint file as data, without running code in it.

    Code runs only after :func:`trust_checkpoints`. A safetensors file, which holds tensors and text
    alone, is recognized by its content, not its name. A PyTorch file may hold tensors, plain values
    and containers, ``argparse.Namespace`` (the official training script stores its arguments), and
    the objects with which mmengine resumes a training: NumPy arrays and log histories.

    Args:
        path: File to read.
        map_location: Device of the tensors; None for the devices they were saved from.

    Returns:
        A dict with strings as keys. If it has ``meta``, that is a dict; if it has ``state_dict``,
        that is a dict of tensors, or of further dicts, by name.

    Raises:
        InputError: If the file is refused, truncated, or no checkpoint, or holds weights that are
            not finite.
    """
    if not Path(path).is_file():  # reading a device or a pipe might never end
        raise InputError(f"the checkpoint {path} does not exist or is not a file")
    read = _read_safetensors if _is_safetensors(path) else _read_pickle
    content = read(path, map_location)
    if is_trusting():
        _check_all_finite(content, "", path)
    else:
        content = _Cleaner(path).clean(content)
    _check_names(content, f"{path}", "a dict of tensors by name")
    if not isinstance(content.get("meta", {}), dict):
        raise InputError(f"{path} holds a {type(content['meta']).__name__} as meta, not a dict")
    if "state_dict" in content:
        _check_names(content["state_dict"], f"{path}, under state_dict,", "tensors by name")
        for name, value in content["state_dict"].items():
            if not isinstance(value, (Tensor, dict)):  # a dict: weights that are wrapped again
                raise InputError(f"{path} holds a {type(value).__name__} as {name}, not a tensor")
    return content


def _check_names(node: object, owner: str, expected: str) -> None:
    """Raise InputError unless ``node`` is a dict with strings as keys."""
    if not isinstance(node, dict) or not all(isinstance(key, str) for key in node):
        raise InputError(f"{owner} holds a {type(node).__name__}, expected {expected}")


def _is_safetensors(path: str | Path) -> bool:
    """Tell whether a file begins as safetensors files do."""
    try:
        with open(path, "rb") as file:
            start = file.read(9)
    except OSError:
        return False  # the reader reports the error
    return starts_as_safetensors(start)


def starts_as_safetensors(start: bytes) -> bool:
    """Tell whether the first bytes of a file, 9 or more, are those of a safetensors file.

    They are the length of a JSON text, 8 bytes, and the text
    (https://github.com/huggingface/safetensors).
    """
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 2**32


def _read_pickle(path: str | Path, map_location: str | None) -> Any:
    """Read what torch.save wrote; the result may still contain stand-ins."""
    _check_zip(path)
    allowed = torch.serialization.safe_globals(allowed_globals())
    try:
        # Given a name, PyTorch would choose the format by its suffix.
        with _READING, allowed, open(path, "rb") as file:
            return torch.load(file, map_location=map_location, weights_only=not is_trusting())
    except pickle.UnpicklingError as e:
        culprit = re.search(r"(?:GLOBAL|class) '?([\w.]+)", str(e))
        if culprit is None:
            raise InputError(f"{path} is not a PyTorch checkpoint, or a damaged one") from None
        raise InputError(
            f"{path} was refused: it holds the object {culprit[1]}, which is not data and could "
            "run code; a checkpoint with tensors and plain values is accepted, and any from a "
            "source that you trust with --trust-checkpoint"
        ) from None
    except MemoryError:
        raise InputError(
            f"{path} asks for more memory than there is: it is damaged, or too large for here"
        ) from None
    except torch.OutOfMemoryError:
        raise
    except Exception as e:  # a broken archive fails in many ways: RuntimeError, EOFError, KeyError
        # A truncated archive makes PyTorch look for a place before its beginning: EINVAL.
        if isinstance(e, OSError) and e.errno not in (None, errno.EINVAL):
            raise InputError(f"{path} cannot be read: {e.strerror}") from None
        raise InputError(f"{path} is not a PyTorch checkpoint, or is truncated") from None


def _check_zip(path: str | Path) -> None:
    """Refuse an archive whose content is larger than the file, since torch.save never compresses.

    A small file could otherwise unpack to any size and exhaust the memory.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
    except Exception:  # not an archive: PyTorch's old format, or a file that PyTorch refuses
        return
    if unpacked > os.path.getsize(path):
        raise InputError(
            f"{path} was refused: it is compressed, to {unpacked / 2**20:.0f} MiB; PyTorch saves "
            "checkpoints uncompressed"
        )


def _read_safetensors(path: str | Path, map_location: str | None) -> dict[str, Any]:
    """Read a safetensors file, ours or any other, as the dict that a .pth file would hold.

    :func:`.publish.save` stores the key of the weights and ``meta`` in the metadata of the file.
    Format: https://github.com/huggingface/safetensors.
    """
    try:
        with safe_open(path, framework="pt", device=str(map_location or "cpu")) as file:
            state_dict = {name: file.get_tensor(name) for name in file.keys()}
            metadata = file.metadata() or {}
        meta = json.loads(metadata.get("meta", "{}"))
    except OSError as e:
        raise InputError(f"{path} cannot be read: {e.strerror or e}") from None
    except (SafetensorError, ValueError, RecursionError) as e:
        raise InputError(f"{path} is no safetensors file, or a damaged one ({e})") from None
    if not isinstance(meta, dict):
        meta = {}
    return {metadata.get("key", "state_dict"): state_dict, "meta": meta}


class _Cleaner:
    """Copies the content of a file into plain containers, and refuses everything that is not data.

    Args:
        path: File for the messages.
    """

    def __init__(self, path: str | Path):
        self.path = path
        # Node and its copy by the node's id. Keeping the node keeps its id from being reused.
        self.copies: dict[int, tuple[Any, Any]] = {}
        self.ancestors: set[int] = set()  # ids of the nodes around the one that is copied

    def refuse(self, what: str) -> InputError:
        """Return the InputError for a file that holds ``what``."""
        return InputError(f"{self.path} was refused: it holds {what}")

    def clean(self, node: Any, name: str = "") -> Any:
        """Return a copy of a node and of everything in it.

        Args:
            node: Any object of the file.
            name: Path of the node in the file, as keys joined by dots.

        Raises:
            InputError: If the node holds anything that is not data.
        """
        if type(node) in PLAIN:
            return node
        if id(node) in self.copies:  # a shared node is copied once and stays shared
            return self.copies[id(node)][1]
        if id(node) in self.ancestors or len(self.ancestors) > MAX_DEPTH:
            raise self.refuse(f"containers that hold themselves, or too many in each other: {name}")
        self.ancestors.add(id(node))
        cleaned = self._clean(node, name)
        self.ancestors.remove(id(node))
        self.copies[id(node)] = (node, cleaned)
        return cleaned

    def _clean(self, node: Any, name: str) -> Any:
        if isinstance(node, (Tensor, nn.Parameter)):
            self._check_tensor(node, name)
            return node.detach()
        if type(node) in (dict, OrderedDict, Counter):  # Counter: milestones of a scheduler
            copy = type(node)()
            for key, value in dict.items(node):
                copy[self.clean(key)] = self.clean(value, _join(name, key))
            if "_metadata" in getattr(node, "__dict__", {}):  # versions of PyTorch's modules
                copy._metadata = self.clean(vars(node)["_metadata"], _join(name, "_metadata"))
            return copy
        if type(node) in (list, tuple, set, torch.Size):
            items = [self.clean(item, _join(name, i)) for i, item in enumerate(node)]
            return items if type(node) is list else (set if type(node) is set else tuple)(items)
        if isinstance(node, (Array, np.generic)):
            return node.value if isinstance(node, Array) else node.item()
        if type(node) is argparse.Namespace:
            return argparse.Namespace(**self.clean(dict(vars(node)), name))
        if type(node) is History:
            return self._clean_history(node, name)
        raise self.refuse(f"a {type(node).__name__}, which is no data: {name}")

    def _clean_history(self, node: History, name: str) -> HistoryBuffer:
        """Return a new HistoryBuffer with the numbers of the one in the file."""
        state = node.state
        logs, counts = (
            self.clean(state.get(key), name) for key in ("_log_history", "_count_history")
        )
        max_length = state.get("max_length")
        are_arrays = isinstance(logs, np.ndarray) and isinstance(counts, np.ndarray)
        if not are_arrays or logs.shape != counts.shape or type(max_length) is not int:
            raise self.refuse(f"a damaged history: {name}")
        return HistoryBuffer(logs, counts, max_length)

    def _check_tensor(self, tensor: Tensor, name: str) -> None:
        """Refuse a tensor that is not a plain array of numbers in memory, all of them present."""
        if (
            type(tensor) not in (Tensor, nn.Parameter)
            or tensor.layout != torch.strided
            or tensor.device.type == "meta"
            or tensor.is_nested
            or tensor.dtype not in DTYPES
        ):
            kind = f"{tensor.dtype}, {tensor.layout}, on {tensor.device}"
            raise self.refuse(f"a tensor that is no array of numbers ({kind}): {name}")
        if tensor.numel() * tensor.itemsize > tensor.untyped_storage().nbytes():
            raise self.refuse(f"a tensor of {tensor.numel()} numbers that are not there: {name}")
        _check_finite(tensor, name, self.path)


def _check_finite(tensor: Tensor, name: str, path: str | Path) -> None:
    """Refuse weights that are not finite, and NaN in any other tensor."""
    # Buffers may hold infinity, such as attention masks.
    is_bad = ~tensor.isfinite() if name.endswith(WEIGHTS) else tensor.isnan()
    if is_bad.any():
        raise InputError(
            f"{path} holds numbers that are not finite, first in {name}: the training that wrote "
            "it has diverged, take an earlier checkpoint"
        )


def _check_all_finite(node: Any, name: str, path: str | Path) -> None:
    """Apply :func:`_check_finite` to the tensors in the plain containers of a trusted file."""
    if isinstance(node, (dict, list, tuple)):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            _check_all_finite(value, _join(name, key), path)
    elif isinstance(node, Tensor) and node.is_floating_point():
        _check_finite(node, name, path)


def _join(name: str, key: object) -> str:
    return f"{name}.{key}" if name else str(key)
