"""UPerNet's head (Xiao et al., "Unified Perceptual Parsing", 2018) with half the arithmetic."""

import torch
import torch.nn.functional as F
from mmseg.models.decode_heads import UPerHead as StockUPerHead
from torch import Tensor

from gfnet_dense.models.utils.scratch import Scratch
from gfnet_dense.registry import MODELS

from .conv_modules import call, can_infer
from .decode_head import DecodeHead
from .psp_head import pooled_maps


@MODELS.register_module()
class UPerHead(DecodeHead, StockUPerHead):
    """mmsegmentation's UPerHead: same arguments, same weights, same outputs up to rounding.

    The convolutions behind a concatenation of upsampled maps multiply at the resolution of the
    maps, see :mod:`gfnet_dense.models.layers.upsampled_conv`.

    Args:
        pool_scales: Sizes of the pooled maps, in positions.
        kwargs: Arguments of mmsegmentation's BaseDecodeHead.
    """

    def psp_forward(self, inputs: list[Tensor]) -> Tensor:
        """Return the output of the pyramid pooling of the last map, (B, channels, h, w)."""
        return call(self.bottleneck, pooled_maps(self.psp_modules, inputs[-1]), self.align_corners)

    def _forward_feature(self, inputs: list[Tensor]) -> Tensor:
        inputs = self._transform_inputs(inputs)
        if can_infer(inputs[0]):  # faster there
            inputs = [x.contiguous(memory_format=torch.channels_last) for x in inputs]
        laterals = [conv(x) for conv, x in zip(self.lateral_convs, inputs, strict=False)]
        laterals.append(self.psp_forward(inputs))
        for i in range(len(laterals) - 1, 0, -1):
            upsampled = F.interpolate(
                laterals[i],
                size=laterals[i - 1].shape[2:],
                mode="bilinear",
                align_corners=self.align_corners,
            )
            laterals[i - 1] = laterals[i - 1] + upsampled
            del upsampled
        maps, scratch = [laterals.pop()], Scratch(laterals[0])
        for conv in reversed(self.fpn_convs):
            maps.insert(0, call(conv, [laterals.pop()], self.align_corners, scratch))
        return call(self.fpn_bottleneck, maps, self.align_corners, scratch)
