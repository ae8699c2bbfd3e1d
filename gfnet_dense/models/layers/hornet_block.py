"""The block of HorNet.

Paper: Rao et al., "HorNet: Efficient High-Order Spatial Interactions with Recursive Gated
Convolutions", NeurIPS 2022 (https://arxiv.org/abs/2207.14284), section 3.2. Modules and parameters
carry the names of the official release (https://github.com/raoyongming/HorNet).
"""

import torch
from torch import Tensor, nn

from .block import DropPath
from .chunked_mlp import can_chunk, feed_forward
from .gnconv import GnConv, can_fold, folded
from .mlp import MlpLayers


class HorNetBlock(nn.Module):
    """Block of a HorNet: a gnConv and a feed-forward network, each with a residual connection.

    x = x + drop_path(gamma1 * gnconv(norm1(x))), then
    x = x + drop_path(gamma2 * pwconv2(gelu(pwconv1(norm2(x))))).

    Args:
        dim: Number of channels.
        order: Order of the gnConv.
        spatial: Spatial layer of the gnConv.
        drop_path: Drop path rate.
        layer_scale_init_value: Start of gamma1 and gamma2.
        mlp_ratio: Dim of the hidden layer, in multiples of ``dim``.
    """

    def __init__(
        self,
        dim: int,
        order: int,
        spatial: nn.Module,
        drop_path: float,
        layer_scale_init_value: float,
        mlp_ratio: int = 4,
    ):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.gnconv = GnConv(dim, order, spatial)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.pwconv1 = nn.Linear(dim, dim * mlp_ratio)
        self.act = nn.GELU()
        self.pwconv2 = nn.Linear(dim * mlp_ratio, dim)
        self.gamma1, self.gamma2 = (
            nn.Parameter(torch.full((dim,), float(layer_scale_init_value))) for _ in range(2)
        )
        self.drop_path = DropPath(drop_path)

    @property
    def mlp(self) -> MlpLayers:
        return MlpLayers(self.pwconv1, self.act, self.pwconv2)

    def forward(self, x: Tensor) -> Tensor:
        """Run the block on a map (B, H, W, dim); the result has the same shape."""
        y = self.norm1(x)
        if can_fold(self.gnconv, y):
            y = folded(y, self.gnconv, self.gamma1)
        else:
            y = self.gamma1 * self.gnconv(y)
        x = x + self.drop_path(y)
        if can_chunk(x, self.norm2, self.mlp, self.gamma2):
            y = feed_forward(x, self.norm2, self.mlp, self.gamma2)
        else:
            y = self.gamma2 * self.pwconv2(self.act(self.pwconv1(self.norm2(x))))
        return x + self.drop_path(y)
