"""Convolutions of upsampled maps by tiles, for inference on a CPU.

A tile of the output takes all maps at once, so temporary tensors do not grow with the map: the
first map by :mod:`.winograd`, the others as :mod:`.upsampled_conv` explains, with the rows and
columns of the matrices that the tile needs. The factor, the bias and the ReLU follow while the tile
is in the cache.
"""

from collections.abc import Sequence
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from gfnet_dense.models.utils.resize_matrices import used_samples
from gfnet_dense.models.utils.scratch import Scratch

from .upsampled_conv import axes_matrices
from .winograd import OUTPUTS, convolve_tile, transform_weight

TILE = (64, 64)  # rows and columns of the output that are computed at a time


def infer_conv_upsampled(
    maps: Sequence[Tensor],
    weight: Tensor,
    align_corners: bool,
    scale: Tensor | None = None,
    bias: Tensor | None = None,
    relu: bool = False,
    scratch: Scratch | None = None,
) -> Tensor:
    """Return :func:`.conv_upsampled` of 1x1 or 3x3 on a CPU, without gradients.

    Args:
        maps: See :func:`.conv_upsampled`; float32.
        weight: Weight, (out_dim, sum of the in_dims, k, k), with k 1 or 3.
        align_corners: See :func:`.conv_upsampled`.
        scale: Factor of the output, (out_dim,), before the bias.
        bias: See :func:`.conv_upsampled`.
        relu: Whether a ReLU follows.
        scratch: Memory of the temporary tensors, to use that of another call again.

    Returns:
        Map, (B, out_dim, H, W), channels_last in memory; maps that are so, too, are read faster.
    """
    first, *others = maps
    (B, _, H, W), out_dim, k = first.shape, weight.shape[0], weight.shape[-1]
    if k == 1 and not others:
        y = F.conv2d(first, weight if scale is None else weight * scale[:, None, None, None], bias)
        return y.relu_() if relu else y
    scratch = scratch or Scratch(first)
    parts = weight.split([x.shape[1] for x in maps], dim=1)
    own = transform_weight(parts[0], scratch) if k == 3 else _taps(parts[0], scratch, 0)
    levels = [
        (x, _taps(part, scratch, i), axes_matrices(x, first.shape[2:], k, align_corners))
        for i, (x, part) in enumerate(zip(others, parts[1:], strict=True), start=1)
    ]
    out = first.new_empty(B, H, W, out_dim)
    tiles = product(range(B), range(0, H, TILE[0]), range(0, W, TILE[1]))
    for sample, top, left in tiles:
        tile = (slice(top, min(top + TILE[0], H)), slice(left, min(left + TILE[1], W)))
        y = _tile_of_first(first[sample].permute(1, 2, 0), own, tile, scratch)
        for x, part, matrices in levels:
            axes = _cut(matrices, tile, align_corners)
            _add_tile(y, x[sample].permute(1, 2, 0), part, axes, scratch)
        if scale is not None:
            y *= scale
        if bias is not None:
            y += bias
        target = out[sample][tile]
        torch.clamp_min(y, 0, out=target) if relu else target.copy_(y)
    return out.permute(0, 3, 1, 2)


def _taps(weight: Tensor, scratch: Scratch, level: int) -> Tensor:
    """Return weight (out_dim, in_dim, k, k) as (k * k, in_dim, out_dim), the taps row by row."""
    out_dim, in_dim, k, _ = weight.shape
    taps = scratch(f"taps{level}", k * k, out_dim, in_dim)
    # A product with the identity transposes faster than PyTorch copies.
    identity, columns = torch.eye(k * k, dtype=weight.dtype), weight.reshape(-1, k * k).t()
    torch.mm(identity, columns, out=taps.view(k * k, -1))
    return taps.transpose(1, 2)


def _tile_of_first(
    x: Tensor, weight: Tensor, tile: tuple[slice, slice], scratch: Scratch
) -> Tensor:
    """Return a tile of the convolution of x (H, W, in_dim) with its zero padding.

    Args:
        x: Whole map.
        weight: Transformed weight, or that of a product, (1, in_dim, out_dim).
        tile: Rows and columns of the output.
        scratch: Memory of the temporary tensors and of the result.
    """
    in_dim, out_dim = weight.shape[1:]
    sides = [s.stop - s.start for s in tile]
    if len(weight) == 1:
        y = scratch("result", sides[0] * sides[1], out_dim)
        return torch.mm(x[tile].reshape(-1, in_dim), weight[0], out=y).view(*sides, out_dim)
    starts = [s.start - 1 for s in tile]
    ends = [s.start + -(-n // OUTPUTS) * OUTPUTS + 1 for s, n in zip(tile, sides, strict=True)]
    if min(starts) >= 0 and ends[0] <= x.shape[0] and ends[1] <= x.shape[1]:
        patch = x[starts[0] : ends[0], starts[1] : ends[1]]
    else:
        shape = [end - start for start, end in zip(starts, ends, strict=True)]
        patch = scratch("padded", *shape, in_dim).zero_()
        inside = [
            slice(max(a, 0), min(b, n)) for a, b, n in zip(starts, ends, x.shape, strict=False)
        ]
        target = [slice(s.start - a, s.stop - a) for s, a in zip(inside, starts, strict=True)]
        patch[tuple(target)] = x[tuple(inside)]
    return convolve_tile(patch, weight, scratch)[: sides[0], : sides[1]].contiguous()


def _cut(
    matrices: tuple[Tensor, Tensor], tile: tuple[slice, slice], align_corners: bool
) -> list[tuple[Tensor, slice]]:
    """Return :func:`.axes_matrices` of a tile, without columns of zeros, and the columns kept."""
    parts = []
    for matrix, positions in zip(matrices, tile, strict=True):
        taps, m, n = matrix.shape
        used = used_samples(n, m, positions, taps, align_corners)
        parts.append((matrix[:, positions, used], used))
    return parts


def _add_tile(
    y: Tensor, x: Tensor, weight: Tensor, axes: list[tuple[Tensor, slice]], scratch: Scratch
) -> None:
    """Add a tile of the convolution of an upsampled map x (h, w, in_dim) to y (H, W, out_dim).

    Args:
        y: Contiguous tile of the output.
        x: Whole map.
        weight: Weight, (k * k, in_dim, out_dim).
        axes: See :func:`_cut`.
        scratch: Memory of the temporary tensors.
    """
    (rows, used_rows), (columns, used_columns) = axes
    (H, W, out_dim), k = y.shape, len(rows)
    x = x[used_rows, used_columns]
    h, w, in_dim = x.shape
    tokens = scratch("tokens", h, w, in_dim).copy_(x).view(1, h * w, in_dim).expand(k, -1, -1)
    low = scratch("low", k, h * w, out_dim)
    wide = scratch("wide", k * h, W, out_dim)
    for tap, column in enumerate(columns.contiguous()):
        torch.bmm(tokens, weight[tap::k], out=low)
        spread, own = column.expand(k * h, -1, -1), low.view(k * h, w, out_dim)
        torch.baddbmm(wide, spread, own, beta=int(tap > 0), out=wide)
    matrix = rows.transpose(0, 1).reshape(H, k * h)
    y.view(H, -1).addmm_(matrix, wide.view(k * h, -1))
