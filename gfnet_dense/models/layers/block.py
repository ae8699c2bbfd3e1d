"""Block, patch embedding and stochastic depth, with the parameter names of the official release."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gfnet_dense.models.utils.hooks import in_functorch
from gfnet_dense.utils.types import Size

from .chunked_mlp import can_chunk, feed_forward
from .global_filter import GlobalFilter
from .mlp import Mlp
from .spectral import static_size


class DropPath(nn.Module):
    """Stochastic depth: drop the residual branch of a sample (https://arxiv.org/abs/1603.09382).

    Args:
        drop_prob: Probability with which a sample is dropped in training.
    """

    def __init__(self, drop_prob: float):
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        """Set random samples of a batch (B, ...) to 0 and scale the others to keep the mean."""
        if not self.training or self.drop_prob == 0:
            return x
        keep = 1 - self.drop_prob
        mask = x.new_empty(x.shape[0], *[1] * (x.ndim - 1)).bernoulli_(keep)
        return x * mask.div_(keep)


class Block(nn.Module):
    """Block of a GFNet: x + drop_path(gamma * mlp(norm2(filter(norm1(x))))).

    There is one residual connection around filter and mlp together, as in the official release.

    Args:
        dim: Number of channels.
        size: Map size (h, w) for which the filter is stored.
        drop_path: Drop path rate.
        layer_scale_init_value: Start of gamma; None for no gamma, as in the isotropic models.
        filter_resize, border: ``resize`` and ``border`` of :class:`.GlobalFilter`.
        mlp_ratio: Dim of the hidden layer, in multiples of ``dim``.
    """

    gamma: nn.Parameter | None

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

    def forward(self, x: Tensor) -> Tensor:
        """Run the block on a map (B, H, W, dim); the result has the same shape."""
        y = self.filter(self.norm1(x))
        if self.gamma is not None and can_chunk(y, self.norm2, self.mlp, self.gamma):
            y = feed_forward(y, self.norm2, self.mlp, self.gamma)
        else:
            y = self.mlp(self.norm2(y))
            y = y if self.gamma is None else self.gamma * y
        return x + self.drop_path(y)


class PatchEmbed(nn.Module):
    """Patch embedding: a convolution with kernel and stride of ``patch_size``.

    A map whose sides are no multiples of ``patch_size`` is zero-padded on the right and at the
    bottom.
    """

    def __init__(self, in_dim: int, dim: int, patch_size: int):
        super().__init__()
        self.proj = nn.Conv2d(in_dim, dim, kernel_size=patch_size, stride=patch_size)
        self.patch_size = patch_size

    def forward(self, x: Tensor) -> Tensor:
        """Embed a map (B, in_dim, H, W) as (B, ceil(H / patch_size), ceil(W / patch_size), dim)."""
        H, W = static_size(x)
        p = self.patch_size
        if H % p or W % p:  # F.pad copies even if there is no padding
            x = F.pad(x, (0, (W + p - 1) // p * p - W, 0, (H + p - 1) // p * p - H))
        if not in_functorch():  # vmap does not support memory formats
            # The convolution keeps channels_last, the layout that the blocks take without a copy.
            x = x.contiguous(memory_format=torch.channels_last)
        return self.proj(x).permute(0, 2, 3, 1)
