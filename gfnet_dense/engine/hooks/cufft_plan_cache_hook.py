"""Limit on the memory of the plans that cuFFT keeps."""

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from gfnet_dense.registry import HOOKS


@HOOKS.register_module()
class CufftPlanCacheHook(Hook):
    """Hook that limits the number of cuFFT plans in PyTorch's cache.

    PyTorch keeps up to 4096 plans on a GPU, one for each shape of a feature map. Nearly every
    batch of a detector has a new shape, and a plan may hold work memory
    (https://docs.pytorch.org/docs/stable/notes/cuda.html#cufft-plan-cache).

    Args:
        max_size: Largest number of plans kept on each GPU. GFNet-H uses eight plans for each shape
            of a batch.
    """

    def __init__(self, max_size: int) -> None:
        self.max_size = max_size

    def before_run(self, runner: Runner) -> None:
        """Set the limit for the GPU of this process, if there is one."""
        if torch.cuda.is_available():
            torch.backends.cuda.cufft_plan_cache.max_size = self.max_size
