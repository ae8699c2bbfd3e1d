"""Stand-ins for the classes of NumPy and mmengine that checkpoints contain.

The real classes would let a file make arrays of pointers or modify a class while it is unpickled.
"""

import argparse
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np


class History:
    """Stand-in for mmengine's HistoryBuffer, which modifies its own class when it is unpickled."""

    state: dict[str, Any] = {}  # until __setstate__

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state


class _Dtype:
    """Stand-in for numpy.dtype: accepts only types of numbers, and from a state the byte order."""

    def __init__(self, code: str, align: bool = False, copy: bool = False):
        if not re.fullmatch(r"b1|[iu][1248]|f[248]", str(code)):
            raise pickle.UnpicklingError("GLOBAL numpy.dtype of no numbers")
        self.value = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] == ">":
            self.value = self.value.newbyteorder(">")


class Array:
    """Stand-in for numpy.ndarray, which copies its numbers from the bytes in the file."""

    value: np.ndarray | None = None  # until __setstate__

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, is_fortran, data = state
        numbers = np.frombuffer(_bytes(data), dtype.value)
        self.value = numbers.reshape(shape, order="F" if is_fortran else "C").copy()


def _reconstruct(kind: type, shape: tuple, code: bytes) -> Array:
    """Replace NumPy's ``_reconstruct``, which returns an array for ``__setstate__`` to fill."""
    return Array()


def _scalar(dtype: _Dtype, data: bytes) -> np.generic:
    """Replace NumPy's ``scalar``, which returns one number."""
    (value,) = np.frombuffer(_bytes(data), dtype.value)
    return value


def _bytes(data: str | bytes) -> bytes:
    """Return bytes, which old pickle protocols store as a latin-1 string."""
    return data.encode("latin1") if isinstance(data, str) else data


def _no_bytes() -> bytes:
    """Replace ``bytes``, which the pickle of an empty array calls for its content."""
    return b""


def _statistic_of_history(owner: type, name: str) -> str:
    """Replace ``getattr``, which the pickle of a HistoryBuffer calls for its methods."""
    if owner is History and name in ("min", "max", "mean", "current"):
        return name
    raise pickle.UnpicklingError(f"GLOBAL builtins.getattr of {name!r}")


def allowed_globals() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """Return the classes and functions that a file may name, with the names they replace."""
    multiarray = ("numpy.core.multiarray", "numpy._core.multiarray")  # renamed by NumPy 2
    return [
        argparse.Namespace,
        (History, "mmengine.logging.history_buffer.HistoryBuffer"),
        (Array, "numpy.ndarray"),
        (_Dtype, "numpy.dtype"),
        *((_reconstruct, f"{module}._reconstruct") for module in multiarray),
        *((_scalar, f"{module}.scalar") for module in multiarray),
        (_statistic_of_history, "builtins.getattr"),
        *((_no_bytes, f"{module}.bytes") for module in ("builtins", "__builtin__")),
    ]
