"""Training in bfloat16."""

from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.optim import OptimWrapper
from torch import nn

from gfnet_dense.registry import OPTIM_WRAPPERS
from gfnet_dense.utils.amp import autocast


@OPTIM_WRAPPERS.register_module()
class Bfloat16OptimWrapper(OptimWrapper):
    """Optimizer wrapper for forwards in bfloat16, on GPUs and CPUs.

    bfloat16 has the exponents of float32: gradients do not vanish, and no loss scaler is needed.
    mmengine's AmpOptimWrapper always has one, and demands a GPU. Weights, their gradients and the
    state of the optimizer stay in float32. Arguments are those of mmengine's OptimWrapper.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Enter autocast, and the context in which gradients are accumulated."""
        with super().optim_context(model), autocast(model, "bfloat16"):
            yield
