"""Four ways to mix the tokens of a map, as compared in table 1 of the GFNet paper
(https://arxiv.org/abs/2107.00645), measured alone."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import log2

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gfnet_dense.models.layers.global_filter import GlobalFilter

from .complexity import count_flops
from .measure import Settings, measure
from .sweep import Case

DIM = 64
KERNEL_SIZE = 7  # as in ConvNeXt: the paper's table leaves k open


class DepthwiseConv(nn.Conv2d):
    """Depth-wise convolution, 7x7."""

    def __init__(self, size: int):
        super().__init__(DIM, DIM, KERNEL_SIZE, padding=KERNEL_SIZE // 2, groups=DIM, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # (B, H, W, DIM)
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class SelfAttention(nn.Module):
    """Self-attention over all tokens, one head of 64 channels, as wide as ViT's.

    PyTorch's kernel keeps no N x N matrix, in a forward on a CPU either: extra memory grows with
    N, time with N^2.
    """

    def __init__(self, size: int):
        super().__init__()
        self.qkv = nn.Linear(DIM, 3 * DIM, bias=False)
        self.proj = nn.Linear(DIM, DIM, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # (B, H, W, DIM)
        q, k, v = self.qkv(x.flatten(1, 2)).unsqueeze(1).chunk(3, dim=-1)
        y = F.scaled_dot_product_attention(q, k, v)  # (B, 1, N, DIM)
        return self.proj(y.squeeze(1)).view_as(x)


class SpatialMLP(nn.Module):
    """A fully connected layer over all tokens, the same for every channel."""

    def __init__(self, size: int):
        super().__init__()
        # No random numbers: N x N of them take minutes.
        self.weight = nn.Parameter(torch.full((size**2, size**2), 1 / size**2))

    def forward(self, x: Tensor) -> Tensor:  # (B, H, W, DIM)
        return (self.weight @ x.flatten(1, 2)).view_as(x)


def global_filter(size: int) -> GlobalFilter:
    """Return the global filter, stored at the size of the map."""
    return GlobalFilter(DIM, (size, size))


@dataclass(frozen=True)
class Mixer:
    """A mixer of a map (B, H, W, DIM), and the theory of it for N = H W tokens.

    Attributes:
        build: Returns it for the side of a square map.
        params: Their number, from the side of the map. The paper's, but for the global filter:
            its N D counts H x W / 2 complex numbers, where there are W // 2 + 1 columns.
        flops: Multiply-adds of one image, from the side of the map. The paper's, but for the global
            filter, for which the paper has the order alone; ours is as :func:`.count_flops` counts.
        exponent: Of time in N; the global filter's log N counts as 0.
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
    """Return a case for each mixer and side of a square map with 64 channels."""
    return [
        Case(name, size, run, dict(name=name, settings=asdict(settings)))
        for name in MIXERS
        for size in sizes
    ]


def run(size: int, name: str, settings: dict) -> dict:
    """Measure one mixer on a map of one size.

    Returns:
        What :func:`.measure` returns, and ``params`` and ``flops``, as counted, beside
        ``params_formula`` and ``flops_formula``.
    """
    settings, mixer = Settings(**settings), MIXERS[name]
    x = torch.randn(settings.batch_size, size, size, DIM)
    return {**measure(mixer.build(size), (x,), settings), **count(name, size)}


def count(name: str, size: int) -> dict:
    """Return parameters and multiply-adds of a mixer for one map, counted and by formula."""
    mixer = MIXERS[name]
    with torch.device("meta"):
        module = mixer.build(size)
    return {
        "params": sum(p.numel() for p in module.parameters()),
        "params_formula": mixer.params(size),
        "flops": count_flops(_OfImage(module), (size, size)).total,
        "flops_formula": round(mixer.flops(size)),
    }


class _OfImage(nn.Module):
    """A mixer behind an image, which is what :func:`.count_flops` has."""

    def __init__(self, mixer: nn.Module):
        super().__init__()
        self.mixer = mixer

    def forward(self, image: Tensor) -> Tensor:  # (1, 3, H, W)
        return self.mixer(image.new_zeros(1, *image.shape[2:], DIM))
