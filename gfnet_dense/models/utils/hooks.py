"""Telling whether modules may be run by other code than their own forward."""

import torch
from torch import nn
from torch.nn.modules import module as _global


def is_plain(module: nn.Module) -> bool:
    """Tell whether calling a module is its class's ``forward`` and nothing else."""
    hooks = (
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )
    return not hooks and "forward" not in vars(module)


def is_watched() -> bool:
    """Tell whether a graph is being traced, or hooks of all modules want to see the calls."""
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or bool(_global._global_forward_hooks or _global._global_forward_pre_hooks)
        or bool(_global._global_backward_hooks or _global._global_backward_pre_hooks)
    )
