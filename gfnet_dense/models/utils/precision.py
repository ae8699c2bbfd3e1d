"""The precision in which Fourier transforms and small matrix products run."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def transform_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of the transforms of a map: float64 for float64, float32 for any other."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def full_precision(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context without autocast, which would multiply matrices in half precision."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()
