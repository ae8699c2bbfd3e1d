"""The precision of Fourier transforms and of small matrix products."""

from contextlib import AbstractContextManager, nullcontext

import torch


def transform_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the precision of the transforms for a map of ``dtype``."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def full_precision(device: torch.device) -> AbstractContextManager:
    """Return a context without autocast, which would multiply matrices in half precision."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()
