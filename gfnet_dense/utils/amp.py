"""Automatic mixed precision: the dtype for a device, and the context in which a model runs."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .errors import InputError
from .shared import shared_change
from .types import AMP

Forward = Callable[..., Any]


def amp_dtype(amp: str, device_type: str) -> torch.dtype:
    """Return the dtype of matrix products and convolutions under mixed precision.

    Args:
        amp: ``float16``, ``bfloat16``, or ``auto``: float16 on a GPU, bfloat16 on a CPU.
        device_type: ``cuda``, ``cpu`` or another type of PyTorch's devices.

    Raises:
        InputError: For another word, or for float16 on a CPU, where few operators are made for it.
    """
    if amp not in AMP:
        raise InputError(f"mixed precision is one of {', '.join(AMP)}, got {amp!r}")
    if amp == "float16" and device_type == "cpu":
        raise InputError("mixed precision in float16 needs a GPU: on a CPU take bfloat16, or none")
    if not torch.amp.is_autocast_available(device_type):
        raise InputError(f"PyTorch has no mixed precision on the device {device_type}: take none")
    return torch.get_autocast_dtype(device_type) if amp == "auto" else getattr(torch, amp)


def is_slow_in_bfloat16() -> bool:
    """Return whether this CPU is known to have no instructions for bfloat16.

    PyTorch then computes in float32 and rounds. Before 2.10 it does not tell what a CPU has.
    """
    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(known) and not any("bf16" in name for name, has in known.items() if has)


@contextmanager
def autocast(model: nn.Module, amp: str | None) -> Iterator[None]:
    """Run a model in mixed precision in the ``with`` block; without ``amp`` change nothing.

    Outputs of heads, and the modules of mmcv's compiled operators, are in float32: their kernels
    for non-maximum suppression (CPU), RoIAlign and deformable attention do not take bfloat16
    (``mmcv/ops/csrc/pytorch``), and boxes need more than its 8 bits.

    Args:
        model: A model of mmsegmentation or mmdetection, with its weights in float32.
        amp: See :func:`amp_dtype`.

    Raises:
        InputError: See :func:`amp_dtype`.
    """
    if amp is None:
        yield
        return
    device_type = next(model.parameters()).device.type
    dtype = amp_dtype(amp, device_type)
    with float32_operators(model, device_type), torch.autocast(device_type, dtype):
        yield


@contextmanager
def float32_operators(model: nn.Module, device_type: str) -> Iterator[None]:
    """Keep mmcv's operators and the outputs of heads in float32 under an autocast of PyTorch.

    Args:
        model: See :func:`autocast`.
        device_type: That of the device on which it runs in the ``with`` block.
    """
    with ExitStack() as stack:
        for module in model.modules():
            is_op = type(module).__module__.startswith("mmcv.ops.")
            if is_op or hasattr(module, "roi_layers"):  # or mmdet's extractor of RoIs
                wrapped = partial(_in_float32, device_type=device_type)
                stack.enter_context(_forward_of(module, wrapped))
            elif hasattr(module, "predict_by_feat"):  # a head
                stack.enter_context(_forward_of(module, _to_float32))
        yield


def _forward_of(
    module: nn.Module, wrapped: Callable[[Forward], Forward]
) -> AbstractContextManager[None]:
    """Give a module a wrapped ``forward`` in the ``with`` block, also if threads share it."""

    def change() -> Callable[[], None]:
        former = vars(module).get("forward")  # as of one that a user has wrapped
        module.forward = wrapped(module.forward)

        def undo() -> None:
            del module.forward
            if former is not None:
                module.forward = former

        return undo

    return shared_change(module, change)


def _in_float32(forward: Forward, device_type: str) -> Forward:
    def run(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast(device_type, enabled=False):
            return forward(*_float32(args), **_float32(kwargs))

    return run


def _to_float32(forward: Forward) -> Forward:
    return lambda *args, **kwargs: _float32(forward(*args, **kwargs))


def _float32(value: Any) -> Any:
    """Return nested tuples, lists and dicts with their tensors of half precision in float32."""
    if isinstance(value, Tensor):
        return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
    if isinstance(value, dict):
        return {key: _float32(each) for key, each in value.items()}
    if type(value) in (tuple, list):
        return type(value)(_float32(each) for each in value)
    return value
