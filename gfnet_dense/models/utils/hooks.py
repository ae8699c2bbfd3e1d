"""Checks whether faster code may replace the ``forward`` of a module without being noticed.

Private attributes of torch and torch.nn.Module are used here, as seen in PyTorch 2.6 to 2.13.
"""

import torch
from torch import Tensor, nn
from torch.nn.modules import module as _global


def is_plain(module: nn.Module) -> bool:
    """Tell whether calling a module runs the ``forward`` of its class and no hooks."""
    hooks = (
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )
    return not hooks and "forward" not in vars(module)


def in_functorch() -> bool:
    """Tell whether a transformation of torch.func, such as grad or vmap, calls the module."""
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()


def records_cuda_graph() -> bool:
    """Tell whether a CUDA graph is recorded: each replay reads memory that must still be there."""
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()


def is_captured() -> bool:
    """Tell whether tensors stand for others, since a graph is recorded or torch.func is at work."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing() or in_functorch()


def is_exported() -> bool:
    """Tell whether torch.export records a graph for another runtime (PyTorch 2.7 and newer)."""
    is_exporting = getattr(torch.compiler, "is_exporting", None)
    return is_exporting is not None and is_exporting()


def is_watched() -> bool:
    """Tell whether :func:`is_captured`, or a global hook observes the calls of all modules."""
    return (
        is_captured()
        or bool(_global._global_forward_hooks or _global._global_forward_pre_hooks)
        or bool(_global._global_backward_hooks or _global._global_backward_pre_hooks)
    )


def trains_on_cpu(x: Tensor) -> bool:
    """Tell whether ``x`` runs through layers with gradients, unwatched, on a CPU, without autocast.

    In float32 and float64 alone: in half precision other orders of computing lose digits.
    """
    return (
        x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not is_watched()
    )
