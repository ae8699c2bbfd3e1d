"""The layers around the global filter, under the names of the official release."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gfnet_dense.utils.types import Size

from .chunked_mlp import can_chunk, feed_forward
from .global_filter import GlobalFilter
from .mlp import Mlp


class DropPath(nn.Module):
    """Stochastic depth: drop the residual branch of a sample (https://arxiv.org/abs/1603.09382)."""

    def __init__(self, drop_prob: float):
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.drop_prob == 0:
            return x
        keep = 1 - self.drop_prob
        mask = x.new_empty(x.shape[0], *[1] * (x.ndim - 1)).bernoulli_(keep)
        return x * mask.div_(keep)


class Block(nn.Module):
    """x + drop_path(gamma * mlp(norm2(filter(norm1(x))))): one residual around filter and mlp.

    The isotropic models have no gamma (``layer_scale_init_value=None``).
    """

    def __init__(
        self,
        dim: int,
        size: Size,
        drop_path: float,
        layer_scale_init_value: float | None,
        filter_resize: str,
        border: str,
        mlp_ratio: int = 4,
    ):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.filter = GlobalFilter(dim, size, filter_resize, border)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, dim * mlp_ratio)
        if layer_scale_init_value is None:
            self.gamma = None
        else:
            self.gamma = nn.Parameter(torch.full((dim,), float(layer_scale_init_value)))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:  # (B, H, W, dim)
        y = self.filter(self.norm1(x))
        if can_chunk(y, self.norm2, self.mlp, self.gamma):
            y = feed_forward(y, self.norm2, self.mlp, self.gamma)
        else:
            y = self.mlp(self.norm2(y))
            y = y if self.gamma is None else self.gamma * y
        return x + self.drop_path(y)


class PatchEmbed(nn.Module):
    """Non-overlapping convolution; a map that it does not divide is zero-padded right and below."""

    def __init__(self, in_dim: int, dim: int, patch_size: int):
        super().__init__()
        self.proj = nn.Conv2d(in_dim, dim, kernel_size=patch_size, stride=patch_size)
        self.patch_size = patch_size

    def forward(self, x: Tensor) -> Tensor:  # (B, in_dim, H, W)
        H, W = x.shape[2:]
        if H % self.patch_size or W % self.patch_size:  # F.pad copies in any case
            x = F.pad(x, (0, -W % self.patch_size, 0, -H % self.patch_size))
        # In that layout the convolution gives what the blocks take without another copy.
        x = self.proj(x.contiguous(memory_format=torch.channels_last))
        return x.permute(0, 2, 3, 1)  # (B, H / patch_size, W / patch_size, dim)
