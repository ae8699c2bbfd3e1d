"""Limit on the memory of the plans that cuFFT keeps."""

from contextlib import ExitStack

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from gfnet_dense.registry import HOOKS
from gfnet_dense.utils.cufft import MAX_PLANS, plan_limit


@HOOKS.register_module()
class CufftPlanCacheHook(Hook):
    """Hook that limits the number of cuFFT plans in PyTorch's cache during a run.

    Nearly every batch of a detector has a new shape, and so has nearly every whole image that a
    segmentor is tested on, see :func:`gfnet_dense.utils.cufft.plan_limit`.

    Args:
        max_size: Largest number of plans kept on the GPU of this process.
    """

    def __init__(self, max_size: int = MAX_PLANS) -> None:
        self.max_size = max_size
        self.stack = ExitStack()

    def before_run(self, runner: Runner) -> None:
        """Set the limit for the GPU of this process, if there is one."""
        if torch.cuda.is_available():
            device = torch.device("cuda", torch.cuda.current_device())
            self.stack.enter_context(plan_limit(device, self.max_size))

    def after_run(self, runner: Runner) -> None:
        """Undo it."""
        self.stack.close()
