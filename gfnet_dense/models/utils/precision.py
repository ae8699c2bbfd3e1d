"""The precision in which Fourier transforms and small matrix products run."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor


def transform_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of the transforms of a map: float64 for float64, float32 for any other."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def widen(tensor: Tensor) -> Tensor:
    """Convert half-precision weights to float32, since resizing needs float32 or float64."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def full_precision(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context without autocast, which would multiply matrices in half precision."""
    kind = device.type
    # Before PyTorch 2.13 Dynamo cannot trace the question. It compiles for devices with autocast.
    has_autocast = torch.compiler.is_compiling() or torch.amp.is_autocast_available(kind)
    if has_autocast and torch.is_autocast_enabled(kind):
        return torch.autocast(kind, enabled=False)
    return nullcontext()


def reduces_float32_products(device: torch.device) -> bool:
    """Return whether PyTorch may multiply float32 matrices in TF32 or bfloat16 on ``device``.

    Users allow it by ``torch.set_float32_matmul_precision`` or ``torch.backends``
    (https://docs.pytorch.org/docs/stable/notes/cuda.html#tf32-on-ampere). GPUs since Ampere then
    use TF32, CPUs with bfloat16 instructions use bfloat16. Autocast does not count.
    """
    if device.type not in ("cuda", "cpu"):
        return False
    backend = torch.backends.cuda if device.type == "cuda" else torch.backends.mkldnn
    # Since PyTorch 2.9, where the older functions refuse to answer once this one has been set.
    precision = getattr(getattr(backend, "matmul", None), "fp32_precision", None)
    if precision is None:
        return torch.get_float32_matmul_precision() != "highest"
    return precision in ("tf32", "bf16")
