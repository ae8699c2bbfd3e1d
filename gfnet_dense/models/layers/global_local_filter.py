"""HorNet's layer of a local convolution and a global filter, each for half of the channels.

Paper: Rao et al., "HorNet: Efficient High-Order Spatial Interactions with Recursive Gated
Convolutions", NeurIPS 2022 (https://arxiv.org/abs/2207.14284), section 3.3. Parameters carry the
names of the official release (https://github.com/raoyongming/HorNet).
"""

import torch
from torch import Tensor, nn

from gfnet_dense.utils.types import Size

from .base_filter import BaseFilter


class GlobalLocalFilter(BaseFilter):
    """A depth-wise 3x3 convolution and a global filter, between two layer norms.

    The first half of the channels is convolved, the second half filtered; the results are
    interleaved channel by channel.

    Args:
        channels: Number of channels, even.
        size: Map size (h, w) for which the filter is stored.
        resize, border: See :class:`.BaseFilter`.

    Attributes:
        complex_weight: K, (channels / 2, h, w // 2 + 1, 2): channels first, as in the release.
        dim: Number of channels that are filtered, channels / 2.
    """

    def __init__(
        self, channels: int, size: Size, resize: str = "trigonometric", border: str = "circular"
    ):
        dim, (h, w) = channels // 2, size
        super().__init__(dim, size, resize, border)
        self.pre_norm = nn.LayerNorm(channels, eps=1e-6)
        self.dw = nn.Conv2d(dim, dim, kernel_size=3, padding=1, bias=False, groups=dim)
        self.complex_weight = nn.Parameter(torch.randn(dim, h, w // 2 + 1, 2) * 0.02)
        self.post_norm = nn.LayerNorm(channels, eps=1e-6)

    @property
    def half_spectrum(self) -> Tensor:
        return self.complex_weight.permute(1, 2, 0, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Transform a map (B, H, W, channels); the result has the same shape."""
        local, spectral = self.pre_norm(x).permute(0, 3, 1, 2).chunk(2, dim=1)
        return self.post_norm(interleave(self.dw(local), self.filter_maps(spectral)))


def interleave(local: Tensor, spectral: Tensor) -> Tensor:
    """Return the channels of two maps (B, dim, H, W) in turn, as a map (B, H, W, 2 * dim).

    The result has the dtype of ``local``: ``spectral`` may be in float32 under autocast.
    """
    pairs = [y.permute(0, 2, 3, 1).to(local.dtype) for y in (local, spectral)]
    return torch.stack(pairs, dim=-1).flatten(3)
