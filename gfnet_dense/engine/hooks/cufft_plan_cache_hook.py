"""Bounding the memory of the plans that cuFFT keeps."""

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from gfnet_dense.registry import HOOKS


@HOOKS.register_module()
class CufftPlanCacheHook(Hook):
    """Bound the memory of cuFFT's plans, of which PyTorch keeps 4096: one for each shape of a map.

    A detector's batches are of a new shape nearly every time, and a plan may hold memory for its
    work (https://docs.pytorch.org/docs/stable/notes/cuda.html#cufft-plan-cache).

    Args:
        max_size: Number of plans kept on each GPU. GFNet-H needs eight for a shape of images.
    """

    def __init__(self, max_size: int):
        self.max_size = max_size

    def before_run(self, runner: Runner) -> None:
        if torch.cuda.is_available():
            torch.backends.cuda.cufft_plan_cache.max_size = self.max_size
