"""Convolutions of upsampled maps, with the products at the resolution of the maps.

Heads of segmentors upsample maps to the largest of them, concatenate all and convolve. Upsampling
acts on places and a product of channels acts on channels, so they commute. A convolution is a sum
over its taps t of a shift S_t and a product W_t, hence, for each upsampled map x_i,

    conv(U_i x_i) = sum over t of S_t U_i (W_t,i x_i),

exactly, with the products at the resolution of x_i. U_i is separable: S_t U_i is a matrix for the
rows and one for the columns. The zero padding of the convolution is rows of zeros in them.
:func:`conv_upsampled` works with gradients, on all devices, and while a graph is recorded;
:mod:`.tiled_conv` has a faster way for inference on a CPU.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from gfnet_dense.models.utils.hooks import is_captured
from gfnet_dense.models.utils.precision import transform_dtype
from gfnet_dense.models.utils.resize_matrices import kept_matrix, shifted_bilinear

# Below this number of positions saved, rearranging the weight takes longer than what is saved.
MIN_SAVED = 1024
GROUP_BYTES = {"cpu": 2**24}  # bytes of a group's temporary tensor, 2**28 on other devices


def axis_matrices(n: int, m: int, taps: int, align_corners: bool, like: Tensor) -> Tensor:
    """Return :func:`.shifted_bilinear` in the dtype and on the device of a tensor."""
    if is_captured() or type(like) not in (Tensor, nn.Parameter):
        positions = torch.empty(0, dtype=transform_dtype(like.dtype), device=like.device)
        return shifted_bilinear(n, m, taps, align_corners, positions).to(like.dtype)
    kind = "bilinear_corners_taps" if align_corners else "bilinear_taps"
    return kept_matrix(f"{kind}{taps}", n, m, like)


def conv_upsampled(
    maps: Sequence[Tensor], weight: Tensor, align_corners: bool, bias: Tensor | None = None
) -> Tensor:
    """Convolve the concatenation of a map and of others that are upsampled to its size.

    Args:
        maps: Maps, (B, in_dim of the map, H of the map, W of the map). The first has the size of
            the output.
        weight: Weight of the convolution, (out_dim, sum of the in_dims, k, k), with an odd k. The
            convolution has the stride 1 and is padded by k // 2 zeros.
        align_corners: Of the bilinear interpolation, see :func:`torch.nn.functional.interpolate`.
        bias: Bias of the convolution, (out_dim,).

    Returns:
        Map, (B, out_dim, H, W). Under autocast its dtype is that of a convolution.
    """
    first, *others = maps
    kind, size, k = first.device.type, first.shape[2:], weight.shape[-1]
    if kind != "meta" and torch.is_autocast_enabled(kind):  # as F.conv2d does it
        dtype = torch.get_autocast_dtype(kind)
        first, weight, *others = (x.to(dtype) for x in (first, weight, *others))
    weights = weight.split([x.shape[1] for x in maps], dim=1)
    together: list[tuple[Tensor, Tensor]] = [(first, weights[0])]
    apart: list[tuple[Tensor, Tensor]] = []
    for x, part in zip(others, weights[1:], strict=True):
        saves = size.numel() - x.shape[2:].numel() >= MIN_SAVED
        (apart if saves else together).append((x, part))
    if not apart:
        joined = weight
    elif len(together) == 1:
        joined = together[0][1]
    else:
        joined = torch.cat([part for _, part in together], dim=1)
    if len(together) > 1:
        first = concatenate([x for x, _ in together], align_corners)
    y = F.conv2d(first, joined, bias if bias is None else bias.to(joined.dtype), padding=k // 2)
    if not apart:
        return y
    if k == 1:
        for x, part in apart:
            y = y + _upsample(F.conv2d(x, part), size, align_corners)
        return y
    low, parts = zip(*apart, strict=True)
    if is_captured():
        axes = _joined_axes(low, size, k, align_corners)
        return y + _products(low, [_arrange(part) for part in parts], k, *axes)
    return _AddProducts.apply(y, align_corners, *low, *parts)


def concatenate(maps: Sequence[Tensor], align_corners: bool) -> Tensor:
    """Return maps (B, dim of the map, h, w), upsampled to the size of the first, as one map."""
    return torch.cat([_upsample(x, maps[0].shape[2:], align_corners) for x in maps], dim=1)


def _upsample(x: Tensor, size: torch.Size, align_corners: bool) -> Tensor:
    if x.shape[2:] == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=align_corners)


def axes_matrices(x: Tensor, size: Sequence[int], k: int, corners: bool) -> tuple[Tensor, Tensor]:
    """Return :func:`axis_matrices` of the rows, (k, H, h), and of the columns, (k, W, w)."""
    (h, w), (H, W) = x.shape[2:], size
    return axis_matrices(h, H, k, corners, x), axis_matrices(w, W, k, corners, x)


def _joined_axes(
    maps: Sequence[Tensor], size: Sequence[int], k: int, corners: bool
) -> tuple[list[Tensor], Tensor]:
    """Return the matrices of the rows, (H, k * h) for each map, and of all columns.

    The latter is (sum of k * w, W), for maps next to each other, each k times.
    """
    axes = [axes_matrices(x, size, k, corners) for x in maps]
    rows = [row.transpose(0, 1).flatten(1) for row, _ in axes]
    columns = [column.transpose(1, 2).flatten(0, 1) for _, column in axes]
    return rows, torch.cat(columns)


def _arrange(weight: Tensor) -> Tensor:
    """Return weight (out_dim, in_dim, k, k) as (out_dim * k columns * k rows, in_dim)."""
    return weight.permute(0, 3, 2, 1).reshape(-1, weight.shape[1])


def _multiply(weight: Tensor, x: Tensor) -> Tensor:
    """Return the product of a weight (rows, in_dim) and the channels of a map, (B, rows, h, w)."""
    if x.device.type == "cpu":
        return torch.bmm(weight.expand(x.shape[0], -1, -1), x.flatten(2)).unflatten(2, x.shape[2:])
    # On GPUs a convolution may use TF32 by default, a matrix product may not.
    return F.conv2d(x, weight[:, :, None, None])


def _multiply_backward(dy: Tensor, weight: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of :func:`_multiply` by the map and by the weight."""
    if x.device.type == "cpu":
        dweight = torch.bmm(dy.flatten(2), x.flatten(2).transpose(1, 2)).sum(0)
        return _multiply(weight.t(), dy), dweight
    settings = (None, (1, 1), (0, 0), (1, 1), False, (0, 0), 1, (True, True, False))
    dx, dweight, _ = torch.ops.aten.convolution_backward(dy, x, weight[:, :, None, None], *settings)
    return dx, dweight.flatten(1)


def _products(
    maps: Sequence[Tensor],
    weights: Sequence[Tensor],
    k: int,
    rows: Sequence[Tensor],
    columns: Tensor,
) -> Tensor:
    """Return the sum of all taps of all upsampled maps for some output channels.

    Args:
        maps: Maps, (B, in_dim of the map, h, w).
        weights: Weights of each map, (channels * k * k, in_dim), see :func:`_arrange`.
        k: Side of the kernel.
        rows, columns: See :func:`_joined_axes`.

    Returns:
        Map, (B, channels, H, W).
    """
    tall = []
    for x, weight, row in zip(maps, weights, rows, strict=True):
        low = _multiply(weight, x).unflatten(1, (-1, k)).flatten(2, 3).unflatten(1, (-1, k))
        high = torch.matmul(row, low)
        tall.append(high.transpose(2, 3).flatten(3))
    return torch.matmul(torch.cat(tall, dim=3), columns)


class _AddProducts(torch.autograd.Function):
    """Add :func:`_products` to a map in place, a group of channels at a time."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, align_corners: bool, *operands: Tensor) -> Tensor:
        """Take the maps and then the part of the weight that belongs to each."""
        ctx.save_for_backward(*operands)
        ctx.align_corners = align_corners
        ctx.mark_dirty(y)
        maps, weights, k = _operands(operands)
        axes = _joined_axes(maps, y.shape[2:], k, align_corners)
        for channels, taps in _groups(y, maps, k):
            own = [weight[taps] for weight in weights]
            y[:, channels].add_(_products(maps, own, k, *axes))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        operands = ctx.saved_tensors
        maps, weights, k = _operands(operands)
        rows, columns = _joined_axes(maps, gradient.shape[2:], k, ctx.align_corners)
        dmaps = [torch.zeros_like(x) for x in maps]
        dweights = [torch.empty_like(weight) for weight in weights]
        for channels, taps in _groups(gradient, maps, k):
            tall = torch.matmul(gradient[:, channels], columns.t())
            tall = tall.split([k * x.shape[3] for x in maps], dim=3)
            for i, (x, high, row) in enumerate(zip(maps, tall, rows, strict=True)):
                high = high.unflatten(3, (k, -1)).transpose(2, 3)
                low = torch.matmul(row.t(), high).unflatten(3, (k, -1)).flatten(1, 3)
                dx, dweights[i][taps] = _multiply_backward(low, weights[i][taps], x)
                dmaps[i] += dx
        shape = (len(operands[-1]), k, k, -1)
        dweights = [dweight.view(shape).permute(0, 3, 2, 1) for dweight in dweights]
        return gradient, None, *dmaps, *dweights


def _operands(operands: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], list[Tensor], int]:
    """Return the maps, their arranged weights and the side of the kernel."""
    count = len(operands) // 2
    return operands[:count], [_arrange(part) for part in operands[count:]], operands[-1].shape[-1]


def _groups(y: Tensor, maps: Sequence[Tensor], k: int) -> list[tuple[slice, slice]]:
    """Cut the output channels into groups; return their slices, and those of :func:`_arrange`."""
    (B, out_dim, H, _), width = y.shape, sum(x.shape[3] for x in maps)
    channel_bytes = B * k * H * width * y.element_size()
    count = max(GROUP_BYTES.get(y.device.type, 2**28) // channel_bytes, 8)
    starts = range(0, out_dim, count)
    return [(slice(i, i + count), slice(i * k * k, (i + count) * k * k)) for i in starts]
