"""Benchmark cases of four token mixers without the model around them.

The mixers are those of table 1 of the GFNet paper (https://arxiv.org/abs/2107.00645).
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import log2
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gfnet_dense.models.layers.global_filter import GlobalFilter

from .complexity import count_flops
from .measure import Settings, measure
from .sweep import Case

DIM = 64  # channels of the map
KERNEL_SIZE = 7  # as in ConvNeXt: the paper's table leaves k open


class DepthwiseConv(nn.Conv2d):
    """Depth-wise 7x7 convolution of a map of any size."""

    def __init__(self, size: int) -> None:
        super().__init__(DIM, DIM, KERNEL_SIZE, padding=KERNEL_SIZE // 2, groups=DIM, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # (B, H, W, DIM)
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class SelfAttention(nn.Module):
    """Self-attention over all N tokens, with one head of 64 channels as in ViT.

    PyTorch's fused kernel stores no N x N matrix, neither on a GPU nor in a forward on a CPU: extra
    memory grows with N, time with N^2.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(DIM, 3 * DIM, bias=False)
        self.proj = nn.Linear(DIM, DIM, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # (B, H, W, DIM)
        q, k, v = self.qkv(x.flatten(1, 2)).unsqueeze(1).chunk(3, dim=-1)
        y = F.scaled_dot_product_attention(q, k, v)  # (B, 1, N, DIM)
        return self.proj(y.squeeze(1)).view_as(x)


class SpatialMLP(nn.Module):
    """Fully connected layer over all tokens, with the same weights for every channel."""

    def __init__(self, size: int) -> None:
        super().__init__()
        # Constant, since N x N random numbers take minutes.
        self.weight = nn.Parameter(torch.full((size**2, size**2), 1 / size**2))

    def forward(self, x: Tensor) -> Tensor:  # (B, H, W, DIM)
        return (self.weight @ x.flatten(1, 2)).view_as(x)


def global_filter(size: int) -> GlobalFilter:
    """Return a global filter that is stored for maps of this size, so that it is never resized."""
    return GlobalFilter(DIM, (size, size))


@dataclass(frozen=True)
class Mixer:
    """A mixer of square maps (B, H, W, DIM), and its theoretical cost for N = H W tokens.

    Attributes:
        build: Function that returns the module for a side of the map.
        params: Function that returns the number of parameters for a side of the map. Formulas are
            the paper's, except for the global filter: the paper's N D parameters assume W / 2
            columns of complex numbers, but a half spectrum has W // 2 + 1.
        flops: Function that returns the multiply-adds of one image for a side of the map. Formulas
            are the paper's, except for the global filter, where the paper states only the order:
            there the formula follows :func:`.complexity.count_flops`.
        exponent: p in time ~ N^p. The factor log N of the global filter is neglected.
    """

    build: Callable[[int], nn.Module]
    params: Callable[[int], int]
    flops: Callable[[int], float]
    exponent: int


MIXERS = {
    "global filter": Mixer(
        global_filter,
        lambda n: 2 * DIM * n * (n // 2 + 1),
        lambda n: DIM * (2.5 * n**2 * log2(n**2) + 3 * n * (n // 2 + 1)),
        1,
    ),
    "depth-wise convolution": Mixer(
        DepthwiseConv, lambda n: KERNEL_SIZE**2 * DIM, lambda n: KERNEL_SIZE**2 * n**2 * DIM, 1
    ),
    "self-attention": Mixer(
        SelfAttention, lambda n: 4 * DIM**2, lambda n: 4 * n**2 * DIM**2 + 2 * n**4 * DIM, 2
    ),
    "spatial MLP": Mixer(SpatialMLP, lambda n: n**4, lambda n: n**4 * DIM, 2),
}
EXPONENTS = {name: mixer.exponent for name, mixer in MIXERS.items()}


def cases(sizes: list[int], settings: Settings) -> list[Case]:
    """Return a case for each mixer and map size.

    Args:
        sizes: Sides of the square maps in positions.
        settings: How each mixer is run.
    """
    return [
        Case(name, size, run, dict(name=name, settings=asdict(settings)))
        for name in MIXERS
        for size in sizes
    ]


def run(size: int, name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Measure one mixer on square maps of one size.

    Args:
        size: Side of the maps in positions.
        name: One of :data:`MIXERS`.
        settings: Fields of :class:`.measure.Settings`.

    Returns:
        The records of :func:`.measure.measure` and of :func:`count`.
    """
    run_settings, mixer = Settings(**settings), MIXERS[name]
    x = torch.randn(run_settings.batch_size, size, size, DIM)
    return {**measure(mixer.build(size), (x,), run_settings), **count(name, size)}


def count(name: str, size: int) -> dict[str, int]:
    """Return the parameters and multiply-adds of a mixer for one square map.

    Returns:
        ``params`` and ``flops`` as counted, ``params_formula`` and ``flops_formula`` in theory.
    """
    mixer = MIXERS[name]
    with torch.device("meta"):
        module = mixer.build(size)
    return {
        "params": sum(p.numel() for p in module.parameters()),
        "params_formula": mixer.params(size),
        "flops": count_flops(_OnImage(module), (size, size)).total,
        "flops_formula": round(mixer.flops(size)),
    }


class _OnImage(nn.Module):
    """A mixer that takes an image as :func:`.count_flops` passes it, and uses its size alone."""

    def __init__(self, mixer: nn.Module) -> None:
        super().__init__()
        self.mixer = mixer

    def forward(self, image: Tensor) -> Tensor:  # (1, 3, H, W)
        return self.mixer(image.new_zeros(1, *image.shape[2:], DIM))
