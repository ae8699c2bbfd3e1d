"""Semantic FPN (Kirillov et al., "Panoptic Feature Pyramid Networks", 2019): neck and head."""

import torch
from mmseg.models.decode_heads import FPNHead as StockFPNHead
from mmseg.models.necks import FPN as StockFPN
from torch import Tensor

from gfnet_dense.registry import MODELS

from .banded_loss import BandedLoss
from .conv_modules import can_infer, use_fast_inference


@MODELS.register_module()
class FPN(StockFPN):
    """mmsegmentation's FPN: same arguments, same weights, same outputs up to rounding.

    On a CPU its outputs of large maps are channels_last in memory.

    Args:
        args, settings: Arguments of mmsegmentation's class.
    """

    def __init__(self, *args: object, **settings: object) -> None:
        super().__init__(*args, **settings)
        use_fast_inference(self)

    def forward(self, inputs: list[Tensor]) -> tuple[Tensor, ...]:
        """Return the maps of the pyramid, (B, out_channels, H, W) of each level."""
        if can_infer(inputs[self.start_level]):
            inputs = [x.contiguous(memory_format=torch.channels_last) for x in inputs]
        return super().forward(inputs)


@MODELS.register_module()
class FPNHead(BandedLoss, StockFPNHead):
    """mmsegmentation's FPNHead: same arguments, same weights, same outputs up to rounding.

    Args:
        args, settings: Arguments of mmsegmentation's class.
    """

    def __init__(self, *args: object, **settings: object) -> None:
        super().__init__(*args, **settings)
        use_fast_inference(self)

    def forward(self, inputs: list[Tensor]) -> Tensor:
        """Return the logits, (B, classes, H, W), for maps of which the first has that size."""
        return super().forward(inputs).contiguous()
