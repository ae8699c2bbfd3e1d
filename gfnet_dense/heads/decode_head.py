"""What the heads of this package share."""

import torch
from torch import Tensor, nn

from gfnet_dense.models.utils.hooks import is_plain

from .banded_loss import BandedLoss
from .conv_modules import can_infer


class DecodeHead(BandedLoss):
    """Heads of mmsegmentation with the loss of :class:`.BandedLoss` and contiguous logits."""

    def cls_seg(self, feat: Tensor) -> Tensor:
        """Return the logits, (B, classes, H, W), for the last map of the head, (B, dim, H, W)."""
        if not can_infer(feat) or not self._is_product():
            return super().cls_seg(feat).contiguous()
        # A product writes the classes one after another, whatever the order in which it reads.
        conv: nn.Conv2d = self.conv_seg
        weight = conv.weight.flatten(1).expand(len(feat), -1, -1)
        logits = torch.bmm(weight, feat.flatten(2)).view(len(feat), -1, *feat.shape[2:])
        return logits if conv.bias is None else logits.add_(conv.bias[:, None, None])

    def _is_product(self) -> bool:
        """Tell whether classifying is a product with the weight, plus the bias, and no more."""
        conv = self.conv_seg
        return (
            type(conv) is nn.Conv2d
            and conv.kernel_size == conv.stride == (1, 1)
            and conv.padding == (0, 0)
            and conv.groups == 1
            and is_plain(conv)
            and (self.dropout is None or not self.dropout.training and is_plain(self.dropout))
        )
