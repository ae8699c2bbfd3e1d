"""Limit on the plans that cuFFT keeps on a GPU."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from .shared import shared_change

# Of 4096 by default. GFNet-H uses eight plans for each shape of a batch.
MAX_PLANS = 128


@contextmanager
def plan_limit(device: torch.device, max_size: int = MAX_PLANS) -> Iterator[None]:
    """Keep at most ``max_size`` plans in PyTorch's cache of a GPU in the ``with`` block.

    A plan belongs to one shape of a map and may hold work memory: images of many shapes would fill
    the GPU (https://docs.pytorch.org/docs/stable/notes/cuda.html#cufft-plan-cache). A lower limit
    that is set already stays. On other devices nothing is done.
    """
    if device.type != "cuda":
        yield
        return
    cache = torch.backends.cuda.cufft_plan_cache[device]

    def change() -> Callable[[], None]:
        former = cache.max_size
        cache.max_size = min(former, max_size)
        return lambda: setattr(cache, "max_size", former)

    with shared_change(("cuFFT plans", device, max_size), change):
        yield
