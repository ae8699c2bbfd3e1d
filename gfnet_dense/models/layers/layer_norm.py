"""Layer norm over the channels of channels-first maps."""

from torch import Tensor, nn


class LayerNorm2d(nn.LayerNorm):
    """Layer norm over the channels of a map, at each position on its own."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalize a map (B, dim, H, W); the result has the same shape.

        A map that is channels_last in memory is not copied, and the result is channels_last then.
        """
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
