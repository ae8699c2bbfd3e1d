"""The recursive gated convolution (gnConv) of HorNet.

Paper: Rao et al., "HorNet: Efficient High-Order Spatial Interactions with Recursive Gated
Convolutions", NeurIPS 2022 (https://arxiv.org/abs/2207.14284), equations 3 to 5. Modules and
parameters carry the names of the official release (https://github.com/raoyongming/HorNet).
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from gfnet_dense.models.utils.hooks import is_plain, trains_on_cpu

SCALE = 1 / 3  # factor of the convolved maps, the same in all published models


class PointwiseConv(nn.Conv2d):
    """1x1 convolution of channels-last maps; its weight has the form of a convolution's."""

    def __init__(self, in_dim: int, dim: int):
        super().__init__(in_dim, dim, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Transform a map (..., in_dim) to (..., dim)."""
        return F.linear(x, self.weight.flatten(1), self.bias)


class DepthwiseConv(nn.Conv2d):
    """Depth-wise 7x7 convolution of channels-last maps."""

    PADDING = 3

    def __init__(self, dim: int):
        super().__init__(dim, dim, kernel_size=7, padding=self.PADDING, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve a map (B, H, W, dim); the result has the same shape."""
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class GnConv(nn.Module):
    """Recursive gated convolution of order n.

    A projection gives a gate of dims[0] channels, and further channels that one spatial layer
    mixes, in groups of dims[0], ..., dims[n - 1] channels. The gate is multiplied by the first
    group, projected to the dim of the next one, multiplied by that, and so on.

    Args:
        dim: Number of channels.
        order: The order n; ``dim`` is a multiple of 2**(n - 1).
        spatial: Layer that mixes the positions of a map (B, H, W, :func:`spatial_dim`).
    """

    def __init__(self, dim: int, order: int, spatial: nn.Module):
        super().__init__()
        self.dims = gate_dims(dim, order)
        self.proj_in = PointwiseConv(dim, 2 * dim)
        self.dwconv = spatial
        self.pws = nn.ModuleList(
            PointwiseConv(a, b) for a, b in zip(self.dims, self.dims[1:], strict=False)
        )
        self.proj_out = PointwiseConv(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Transform a map (B, H, W, dim); the result has the same shape."""
        y, mixed = self.proj_in(x).split([self.dims[0], sum(self.dims)], dim=-1)
        first, *groups = (self.dwconv(mixed) * SCALE).split(self.dims, dim=-1)
        y = y * first
        for project, group in zip(self.pws, groups, strict=True):
            y = project(y) * group
        return self.proj_out(y)


def can_fold(gnconv: nn.Module, x: Tensor) -> bool:
    """Tell whether :func:`folded` may replace ``gamma * gnconv(x)`` in training.

    It may on a CPU, where it was measured to be faster for maps of more positions than channels,
    in float32 and float64: in half precision a small gamma would take the weights out of range. It
    may not while a graph is traced, nor where the gnConv or a projection has been replaced or has
    hooks.
    """
    if not trains_on_cpu(x) or type(gnconv) is not GnConv or not is_plain(gnconv):
        return False
    projections: Any = (gnconv.proj_in, *gnconv.pws, gnconv.proj_out)
    return x[..., 0].numel() >= x.shape[-1] and all(
        type(layer) is PointwiseConv and is_plain(layer) and layer.bias is not None
        for layer in projections
    )


def folded(x: Tensor, gnconv: GnConv, gamma: Tensor) -> Tensor:
    """Return ``gamma * gnconv(x)`` in fewer passes over the maps, with gradients.

    SCALE and gamma are multiplied into weights. Gate and mixed channels are projected one by one,
    since autograd would write their gradients into one map again.

    Args:
        x: Map, (B, H, W, dim).
        gnconv: A layer for which :func:`can_fold` holds.
        gamma: Factor of each channel of the result, (dim,).

    Returns:
        Map, (B, H, W, dim).
    """
    (w, b), dim = _weight_and_bias(gnconv.proj_in), gnconv.dims[0]
    first, *groups = gnconv.dwconv(F.linear(x, w[dim:], b[dim:])).split(gnconv.dims, dim=-1)
    y = F.linear(x, w[:dim] * SCALE, b[:dim] * SCALE) * first
    for project, group in zip(gnconv.pws, groups, strict=True):
        w, b = _weight_and_bias(project)
        y = F.linear(y, w * SCALE, b * SCALE) * group
    w, b = _weight_and_bias(gnconv.proj_out)
    return F.linear(y, gamma[:, None] * w, gamma * b)


def _weight_and_bias(layer: Any) -> tuple[Tensor, Tensor]:  # a PointwiseConv; lists are not generic
    return layer.weight.flatten(1), layer.bias


def gate_dims(dim: int, order: int) -> list[int]:
    """Return the number of channels of each group of a gnConv, dim / 2**(n - 1 - k), k = 0..n-1."""
    return [dim // 2 ** (order - 1 - k) for k in range(order)]


def spatial_dim(dim: int, order: int) -> int:
    """Return the number of channels that the spatial layer of a gnConv mixes, the sum of groups."""
    return sum(gate_dims(dim, order))
