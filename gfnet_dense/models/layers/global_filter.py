"""The global filter layer of GFNet.

Paper: Rao et al., "Global Filter Networks for Image Classification", NeurIPS 2021
(https://arxiv.org/abs/2107.00645), equations 4 to 6.
"""

import torch
from torch import Tensor, nn

from gfnet_dense.utils.types import Size

from .base_filter import BaseFilter


class GlobalFilter(BaseFilter):
    """Depth-wise convolution of a channels-last map with a kernel as large as the stored map size.

    The resizing to other maps, borders, precision and cache are those of :class:`.BaseFilter`.

    Args:
        dim: Number of channels.
        size: Map size (h, w) for which the filter is stored.
        resize: How the filter is resized to other maps, see :func:`.resize_filter`.
        border: What the kernel sees beyond the map, see :class:`.BaseFilter`.

    Attributes:
        complex_weight: K, (h, w // 2 + 1, dim, 2).

    Raises:
        InputError: For an unknown ``resize`` or ``border``, or a ``border`` that needs another
            ``resize``.
    """

    def __init__(
        self, dim: int, size: Size, resize: str = "trigonometric", border: str = "circular"
    ):
        super().__init__(dim, size, resize, border)
        h, w = size
        self.complex_weight = nn.Parameter(torch.randn(h, w // 2 + 1, dim, 2) * 0.02)

    @property
    def half_spectrum(self) -> Tensor:
        return self.complex_weight

    def forward(self, x: Tensor) -> Tensor:
        """Filter a map (B, H, W, dim); the result has the same shape and dtype.

        Raises:
            ValueError: For a map with another number of channels.
        """
        if x.shape[-1] != self.dim:
            raise ValueError(f"the filter has {self.dim} channels, got a map {tuple(x.shape)}")
        return self.filter_maps(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).to(x.dtype)
