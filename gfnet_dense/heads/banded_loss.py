"""Cross entropy of upsampled logits, without the logits at the size of the labels.

The logits of 150 classes for two images of 512 x 512 take 300 MiB, and a loss keeps its softmax and
later the gradient beside them, for each head. Here the loss and its gradient are computed
together, a band of rows at a time, and the gradient is kept at the resolution of the head.
"""

from typing import Any

import torch
import torch.nn.functional as F
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.losses import CrossEntropyLoss
from mmseg.utils import SampleList
from torch import Tensor
from torch.autograd.function import once_differentiable

from gfnet_dense.models.utils.hooks import is_captured, is_plain
from gfnet_dense.models.utils.label_maps import resized, rows_of

BAND_BYTES = {"cpu": 2**25}  # of the logits of a band, 2**28 on other devices


class BandedLoss(BaseDecodeHead):
    """Heads of mmsegmentation whose cross entropy takes less memory; the numbers are the same.

    Other losses, and pixels that are sampled, have the logits as a whole.
    """

    def loss_by_feat(self, seg_logits: Tensor, batch_data_samples: SampleList) -> dict[str, Tensor]:
        """Return the losses and the accuracy for logits (B, classes, h, w), see mmseg's class."""
        criterion = self.loss_decode
        if self.sampler is not None or not _is_cross_entropy(criterion) or is_captured():
            return super().loss_by_feat(seg_logits, batch_data_samples)
        labels = self._stack_batch_gt(batch_data_samples).squeeze(1)
        weight = criterion.class_weight
        if weight is not None:
            weight = seg_logits.new_tensor(weight, dtype=_sum_dtype(seg_logits))
        total, correct = _SumOfBands.apply(
            seg_logits, labels, weight, self.ignore_index, self.align_corners
        )
        valid = labels != self.ignore_index
        if weight is not None:
            count = weight[labels[valid]].sum()
        else:
            count = valid.sum() if criterion.avg_non_ignore else labels.numel()
        eps = torch.finfo(torch.float32).eps  # as mmsegmentation has it
        loss = criterion.loss_weight * total / (count + eps)
        accuracy = (correct + eps) * 100 / (valid.sum() + eps)
        return {criterion.loss_name: loss, "acc_seg": accuracy[None]}


def _is_cross_entropy(criterion: Any) -> bool:
    return (
        type(criterion) is CrossEntropyLoss
        and not criterion.use_sigmoid
        and not criterion.use_mask
        and criterion.reduction == "mean"
        and is_plain(criterion)
    )


def _sum_dtype(logits: Tensor) -> torch.dtype:
    """Return float64 for float64, float32 for any other: half precision cannot count pixels."""
    return torch.promote_types(logits.dtype, torch.float32)


class _SumOfBands(torch.autograd.Function):
    """Sum of the cross entropy of upsampled logits, and number of pixels whose class is right."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        labels: Tensor,
        weight: Tensor | None,
        ignore_index: int,
        align_corners: bool,
    ) -> tuple[Tensor, Tensor]:
        H, W = labels.shape[1:]
        row_bytes = logits.shape[1] * W * logits.element_size()
        limit = BAND_BYTES.get(logits.device.type, 2**28)
        gradient = torch.zeros_like(logits)
        total, correct = (
            logits.new_zeros((), dtype=torch.promote_types(logits.dtype, torch.float32)),
            labels.new_zeros(()),
        )
        for i, own in enumerate(labels):
            leaf = logits[i].detach().requires_grad_(ctx.needs_input_grad[0])
            with torch.enable_grad():
                rows = resized(rows_of(leaf), (H, W), align_corners)
            count = max(limit // row_bytes, 1) if rows.exact else H
            for start in range(0, H, count):
                stop = min(start + count, H)
                with torch.enable_grad():
                    band = rows.read(start, stop)[None].to(total.dtype)
                    loss = F.cross_entropy(
                        band,
                        own[None, start:stop],
                        weight=weight,
                        ignore_index=ignore_index,
                        reduction="sum",
                    )
                if leaf.requires_grad:
                    gradient[i] += torch.autograd.grad(loss, leaf)[0]
                total += loss.detach()
                target = own[start:stop]
                found = band.detach()[0].max(0).indices
                correct += ((found == target) & (target != ignore_index)).sum()
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(correct)
        return total, correct

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, total: Tensor, correct: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return (gradient * total).to(gradient.dtype), None, None, None, None
