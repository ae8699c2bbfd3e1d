"""Reading checkpoint files as data: nothing in them can run code, nor fill the memory.

PyTorch's ``weights_only`` reader builds a short list of classes. To it come stand-ins for those of
NumPy and mmengine, which would let a file make arrays of pointers, or change a class, and a check
of everything that was built.
"""

import argparse
import json
import os
import pickle
import re
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Iterable
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from gfnet_dense.utils.errors import InputError

TRUST = "GFNET_DENSE_TRUST_CHECKPOINT"  # "1": files may run code; other processes inherit it
MAX_DEPTH = 64  # of containers in containers
DTYPES = {
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.complex128,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
}  # fmt: skip
PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)
WEIGHTS = (".weight", ".bias", ".gamma", "complex_weight", "pos_embed")
_READING = Lock()  # what PyTorch allows in a file is one list for all threads


def trust_checkpoints() -> None:
    """Let checkpoints hold any object of Python from now on: reading one can then run any code."""
    os.environ[TRUST] = "1"


def is_trusting() -> bool:
    """Tell whether checkpoints may hold any object."""
    return os.environ.get(TRUST) == "1"


def read_checkpoint(path: str | Path, map_location: str | None = "cpu") -> dict:
    """Read a checkpoint file as data: nothing in it can run code, but for
    :func:`trust_checkpoints`.

    A safetensors file is taken by its content, whatever its name; it holds tensors and text alone.
    Another may hold, beside tensors and plain containers, ``argparse.Namespace`` (the official
    training script stores its arguments) and what mmengine keeps to resume (numbers, NumPy arrays,
    log histories).

    Returns:
        A dict by strings, whose ``meta``, if it has one, is a dict, and whose ``state_dict`` is one
        of tensors by name.

    Raises:
        InputError: If the file is refused, truncated, or no checkpoint, or holds weights that are
            not finite.
    """
    if not Path(path).is_file():  # a device or a pipe would never end
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
            if not isinstance(value, Tensor):
                raise InputError(f"{path} holds a {type(value).__name__} as {name}, not a tensor")
    return content


def _check_names(node, owner: str, expected: str) -> None:
    if not isinstance(node, dict) or not all(isinstance(key, str) for key in node):
        raise InputError(f"{owner} holds a {type(node).__name__}, expected {expected}")


def _is_safetensors(path: str | Path) -> bool:
    """Tell whether a file begins as safetensors do, with the length of a JSON text and the text."""
    try:
        with open(path, "rb") as file:
            start = file.read(9)
    except OSError:
        return False  # said by who reads it
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") < 2**32


def _read_pickle(path: str | Path, map_location: str | None):
    _check_zip(path)
    allowed = torch.serialization.safe_globals(_safe_globals())
    try:
        with _READING, allowed:
            return torch.load(path, map_location=map_location, weights_only=not is_trusting())
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
        if isinstance(e, OSError) and e.errno is not None:
            raise InputError(f"{path} cannot be read: {e.strerror}") from None
        raise InputError(f"{path} is not a PyTorch checkpoint, or is truncated") from None


def _check_zip(path: str | Path) -> None:
    """Refuse an archive that holds more than its size: torch.save never compresses."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
    except Exception:  # no archive: of the old format, or for PyTorch to refuse
        return
    if unpacked > os.path.getsize(path):
        raise InputError(
            f"{path} was refused: it is compressed, to {unpacked / 2**20:.0f} MiB; PyTorch saves "
            "checkpoints uncompressed"
        )


def _read_safetensors(path: str | Path, map_location: str | None) -> dict:
    """Read the format of https://github.com/huggingface/safetensors, of anybody's, as the dict
    that a .pth file would hold; what else we know is in its metadata, see :mod:`.publish`."""
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
    """Copies what a file holds into plain containers, and refuses what is no data."""

    def __init__(self, path: str | Path):
        self.path = path
        self.done = {}  # by id, with the object, whose id nobody else gets so
        self.open = set()

    def refuse(self, what: str) -> InputError:
        return InputError(f"{self.path} was refused: it holds {what}")

    def clean(self, node, name: str = ""):
        """Return a copy of a node.

        Args:
            node: Anything.
            name: Where it is, in dots.
        """
        if type(node) in PLAIN:
            return node
        if id(node) in self.done:  # shared ones once
            return self.done[id(node)][1]
        if id(node) in self.open or len(self.open) > MAX_DEPTH:
            raise self.refuse(f"containers that hold themselves, or too many in each other: {name}")
        self.open.add(id(node))
        cleaned = self._clean(node, name)
        self.open.remove(id(node))
        self.done[id(node)] = (node, cleaned)
        return cleaned

    def _clean(self, node, name: str):
        if isinstance(node, (Tensor, nn.Parameter)):
            self._check_tensor(node, name)
            return node.detach()
        if type(node) in (dict, OrderedDict, Counter):  # of milestones
            copied = type(node)()
            for key, value in dict.items(node):
                copied[self.clean(key)] = self.clean(value, _join(name, key))
            if "_metadata" in getattr(node, "__dict__", {}):  # versions of PyTorch's modules
                copied._metadata = self.clean(vars(node)["_metadata"], _join(name, "_metadata"))
            return copied
        if type(node) in (list, tuple, set, torch.Size):
            copied = [self.clean(each, _join(name, i)) for i, each in enumerate(node)]
            return copied if type(node) is list else (set if type(node) is set else tuple)(copied)
        if isinstance(node, (_Array, np.generic)):
            return node.value if isinstance(node, _Array) else node.item()
        if type(node) is argparse.Namespace:
            return argparse.Namespace(**self.clean(dict(vars(node)), name))
        if type(node) is _History:
            return self._clean_history(node, name)
        raise self.refuse(f"a {type(node).__name__}, which is no data: {name}")

    def _clean_history(self, node: "_History", name: str) -> HistoryBuffer:
        """Return a new one, made of its numbers."""
        state = node.state
        logs, counts = (
            self.clean(state.get(key), name) for key in ("_log_history", "_count_history")
        )
        longest = state.get("max_length")
        is_whole = isinstance(logs, np.ndarray) and isinstance(counts, np.ndarray)
        if not is_whole or logs.shape != counts.shape or type(longest) is not int:
            raise self.refuse(f"a damaged history: {name}")
        return HistoryBuffer(logs, counts, longest)

    def _check_tensor(self, tensor: Tensor, name: str) -> None:
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
    # Buffers may hold infinity, such as masks of attention.
    is_bad = ~tensor.isfinite() if name.endswith(WEIGHTS) else tensor.isnan()
    if is_bad.any():
        raise InputError(
            f"{path} holds numbers that are not finite, first in {name}: the training that wrote "
            "it has diverged, take an earlier checkpoint"
        )


def _check_all_finite(node, name: str, path: str | Path) -> None:
    """Look at the tensors in plain containers, whatever else a trusted file holds."""
    if isinstance(node, (dict, list, tuple)):
        for key, each in node.items() if isinstance(node, dict) else enumerate(node):
            _check_all_finite(each, _join(name, key), path)
    elif isinstance(node, Tensor) and node.is_floating_point():
        _check_finite(node, name, path)


def _join(name: str, key) -> str:
    return f"{name}.{key}" if name else str(key)


class _History:
    """Stands in for mmengine's HistoryBuffer, whose state changes the class itself."""

    state = {}  # until it is filled

    def __setstate__(self, state: dict) -> None:
        self.state = state


class _Dtype:
    """Stands in for numpy.dtype: numbers alone, whatever state a file gives it."""

    def __init__(self, code: str, align: bool = False, copy: bool = False):
        if not re.fullmatch(r"b1|[iu][1248]|f[248]", str(code)):
            raise pickle.UnpicklingError("GLOBAL numpy.dtype of no numbers")
        self.value = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        if state[1] == ">":
            self.value = self.value.newbyteorder(">")


class _Array:
    """Stands in for numpy.ndarray."""

    value = None  # until it is filled

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, is_fortran, data = state
        numbers = np.frombuffer(_bytes(data), dtype.value)
        self.value = numbers.reshape(shape, order="F" if is_fortran else "C").copy()


def _reconstruct(kind: type, shape: tuple, code: bytes) -> _Array:
    """Stand in for NumPy's, which gives an empty array to be filled."""
    return _Array()


def _scalar(dtype: _Dtype, data: bytes) -> np.generic:
    """Stand in for NumPy's."""
    (value,) = np.frombuffer(_bytes(data), dtype.value)
    return value


def _bytes(data) -> bytes:
    return data.encode("latin1") if isinstance(data, str) else data


def _no_bytes() -> bytes:
    """Stand in for ``bytes``, with which an empty array stores its content."""
    return b""


def _statistic_of_history(owner: type, name: str) -> str:
    """Stand in for ``getattr``, with which a HistoryBuffer stores its methods."""
    if owner is _History and name in ("min", "max", "mean", "current"):
        return name
    raise pickle.UnpicklingError(f"GLOBAL builtins.getattr of {name!r}")


def _safe_globals() -> Iterable:
    multiarray = ("numpy.core.multiarray", "numpy._core.multiarray")  # renamed by NumPy 2
    return [
        argparse.Namespace,
        (_History, "mmengine.logging.history_buffer.HistoryBuffer"),
        (_Array, "numpy.ndarray"),
        (_Dtype, "numpy.dtype"),
        *((_reconstruct, f"{module}._reconstruct") for module in multiarray),
        *((_scalar, f"{module}.scalar") for module in multiarray),
        (_statistic_of_history, "builtins.getattr"),
        *((_no_bytes, f"{module}.bytes") for module in ("builtins", "__builtin__")),
    ]
