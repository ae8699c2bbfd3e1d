"""SegFormer's all-MLP head (Xie et al., 2021) that fuses maps before they are upsampled."""

import torch
from mmseg.models.decode_heads import SegformerHead as StockSegformerHead
from torch import Tensor

from gfnet_dense.registry import MODELS

from .conv_modules import call, can_infer
from .decode_head import DecodeHead


@MODELS.register_module()
class SegformerHead(DecodeHead, StockSegformerHead):
    """mmsegmentation's SegformerHead: same arguments, same weights, same outputs up to rounding.

    The products of ``fusion_conv`` are those of :mod:`gfnet_dense.models.layers.upsampled_conv`.

    Args:
        interpolate_mode: Another mode than ``bilinear`` takes mmsegmentation's way.
        kwargs: Arguments of mmsegmentation's BaseDecodeHead.
    """

    def forward(self, inputs: list[Tensor]) -> Tensor:
        """Return the logits, (B, classes, H, W), for maps of which the first has that size."""
        if self.interpolate_mode != "bilinear":
            return super().forward(inputs)
        inputs = self._transform_inputs(inputs)
        if can_infer(inputs[0]):  # faster there
            inputs = [x.contiguous(memory_format=torch.channels_last) for x in inputs]
        maps = [call(conv, [x], False) for conv, x in zip(self.convs, inputs, strict=True)]
        return self.cls_seg(call(self.fusion_conv, maps, self.align_corners))
