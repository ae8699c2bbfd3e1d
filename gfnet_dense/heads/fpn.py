"""Semantic FPN (Kirillov et al., "Panoptic Feature Pyramid Networks", 2019): neck and head."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmseg.models.decode_heads import FPNHead as StockFPNHead
from mmseg.models.necks import FPN as StockFPN
from mmseg.models.utils import Upsample, resize
from torch import Tensor

from gfnet_dense.models.utils.hooks import is_plain
from gfnet_dense.registry import MODELS

from .conv_modules import can_infer, use_fast_inference
from .decode_head import DecodeHead


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
        if not can_infer(inputs[self.start_level]):
            return super().forward(inputs)
        inputs = [x.contiguous(memory_format=torch.channels_last) for x in inputs]
        levels = len(self.lateral_convs)
        if self.num_outs > levels or self.upsample_cfg != {"mode": "nearest"}:
            return super().forward(inputs)
        if not all(is_plain(module) for module in self.lateral_convs.modules()):
            return super().forward(inputs)  # a hook may keep a map, which must not change then
        used = inputs[self.start_level : self.start_level + levels]
        maps = [conv(x) for conv, x in zip(self.lateral_convs, used, strict=True)]
        for low, high in zip(maps[:0:-1], maps[-2::-1], strict=True):
            _add_nearest(high, low)
        return tuple(conv(x) for conv, x in zip(self.fpn_convs, maps, strict=True))


def _add_nearest(y: Tensor, x: Tensor) -> None:
    """Add the nearest neighbors in a smaller map x (B, dim, h, w) to y (B, dim, H, W)."""
    (H, W), (h, w) = y.shape[2:], x.shape[2:]
    if (H, W) != (2 * h, 2 * w):
        y += F.interpolate(x, size=(H, W))
    else:
        blocks = y.unflatten(3, (w, 2)).unflatten(2, (h, 2))
        blocks += x[:, :, :, None, :, None]


@MODELS.register_module()
class FPNHead(DecodeHead, StockFPNHead):
    """mmsegmentation's FPNHead: same arguments, same weights, same outputs up to rounding.

    The branches are added before their last upsampling, which is linear.

    Args:
        args, settings: Arguments of mmsegmentation's class.
    """

    def __init__(self, *args: object, **settings: object) -> None:
        super().__init__(*args, **settings)
        use_fast_inference(self)

    def forward(self, inputs: list[Tensor]) -> Tensor:
        """Return the logits, (B, classes, H, W), for maps of which the first has that size."""
        first, *others = self._transform_inputs(inputs)
        output = self.scale_heads[0](first)
        sums: list[tuple[Tensor, Upsample]] = []  # of branches of one size, and what comes last
        for branch, x in zip(self.scale_heads[1:], others, strict=True):
            if is_plain(branch) and type(branch[-1]) is Upsample and is_plain(branch[-1]):
                y = branch[:-1](x)
                if sums and sums[-1][0].shape[2:] == y.shape[2:]:
                    y = sums.pop()[0] + y
                sums.append((y, branch[-1]))
            else:
                output = output + self._upsample(branch(x), output.shape[2:])
        for y, upsample in sums:
            output = output + self._upsample(upsample(y), output.shape[2:])
        return self.cls_seg(output)

    def _upsample(self, x: Tensor, size: Sequence[int]) -> Tensor:
        return resize(x, size, mode="bilinear", align_corners=self.align_corners)
