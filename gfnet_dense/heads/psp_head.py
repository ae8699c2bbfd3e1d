"""PSPNet's head (Zhao et al., "Pyramid Scene Parsing Network", 2017), without upsampled copies."""

import torch
from mmseg.models.decode_heads import PSPHead as StockPSPHead
from mmseg.models.decode_heads.psp_head import PPM
from torch import Tensor

from gfnet_dense.models.utils.hooks import is_plain
from gfnet_dense.registry import MODELS

from .conv_modules import call, can_infer
from .decode_head import DecodeHead


@MODELS.register_module()
class PSPHead(DecodeHead, StockPSPHead):
    """mmsegmentation's PSPHead: same arguments, same weights, same outputs up to rounding.

    The convolution behind the pyramid multiplies at the resolution of the pooled maps, see
    :mod:`gfnet_dense.models.layers.upsampled_conv`.

    Args:
        pool_scales: Sizes of the pooled maps, in positions.
        kwargs: Arguments of mmsegmentation's BaseDecodeHead.
    """

    def _forward_feature(self, inputs: list[Tensor]) -> Tensor:
        x = self._transform_inputs(inputs)
        if can_infer(x):  # faster there
            x = x.contiguous(memory_format=torch.channels_last)
        maps = pooled_maps(self.psp_modules, x)
        return call(self.bottleneck, maps, self.align_corners)


def pooled_maps(pooling: PPM, x: Tensor) -> list[Tensor]:
    """Return the map (B, dim, h, w) and what each scale of the pooling makes of it."""
    if type(pooling) is not PPM or not is_plain(pooling):
        return [x, *pooling(x)]
    return [x, *(scale(x) for scale in pooling)]
