"""Cross entropy of upsampled logits, without the logits at the size of the labels.

The logits of 150 classes for two images of 512 x 512 take 300 MiB, and a loss keeps its softmax and
later the gradient beside them, for each head. Here the loss and its gradient are computed
together, a band of rows at a time, and the gradient is kept at the resolution of the head.
"""

from typing import Any

import torch
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.losses import CrossEntropyLoss
from mmseg.utils import SampleList
from torch import Tensor
from torch.autograd.function import once_differentiable

from gfnet_dense.models.layers.upsampled_conv import axis_matrices
from gfnet_dense.models.utils.hooks import is_captured, is_plain
from gfnet_dense.models.utils.resize_matrices import used_samples

BAND_BYTES = {"cpu": 2**23}  # of the logits of a band, 2**28 on other devices


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
        (H, W), classes = labels.shape[1:], logits.shape[1]
        total = logits.new_zeros((), dtype=_sum_dtype(logits))
        correct = labels.new_zeros(())
        gradient = torch.zeros_like(logits, dtype=total.dtype)
        rows, columns = (
            axis_matrices(n, m, 1, align_corners, total)[0]
            for n, m in zip(logits.shape[2:], (H, W), strict=True)
        )
        row_bytes = classes * W * total.element_size()
        count = max(BAND_BYTES.get(logits.device.type, 2**28) // row_bytes, 1)
        with torch.autocast(logits.device.type, enabled=False):
            for x, own, dx in zip(logits.detach(), labels, gradient, strict=True):
                for start in range(0, H, count):
                    band = slice(start, min(start + count, H))
                    used = used_samples(x.shape[1], H, band, 1, align_corners)
                    matrix = rows[band, used].expand(classes, -1, -1)
                    wide = x[:, used].to(total.dtype) @ columns.t()
                    z = torch.bmm(matrix, wide)

                    target = own[band]
                    valid = target != ignore_index
                    index = target.where(valid, 0)[None]
                    mass = valid if weight is None else valid * weight[index[0]]
                    correct += ((z.max(0).indices == target) & valid).sum()
                    log_p = z.log_softmax(0)
                    own_log_p = log_p.gather(0, index)
                    total -= (own_log_p[0] * mass).sum()
                    if ctx.needs_input_grad[0]:
                        dz = log_p.exp_().scatter_(0, index, own_log_p.exp() - 1).mul_(mass)
                        dx[:, used] += torch.bmm(matrix.transpose(1, 2), dz) @ columns
        ctx.save_for_backward(gradient)
        ctx.dtype = logits.dtype
        ctx.mark_non_differentiable(correct)
        return total, correct

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, total: Tensor, correct: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return (gradient * total).to(ctx.dtype), None, None, None, None
