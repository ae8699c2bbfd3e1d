"""Running HorNet's blocks without gradients: the numbers of ``forward``, less memory traffic.

Everything but the spatial layer of a gnConv works on one position at a time. So the end of a block
and the beginning of the next one run together, on chunks that stay in the processor's cache, as in
:mod:`.fast_inference`; only the gates and the maps of the spatial layers are whole.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gfnet_dense.models.layers.block import DropPath
from gfnet_dense.models.layers.chunked_mlp import channels_last, chunks
from gfnet_dense.models.layers.global_local_filter import GlobalLocalFilter
from gfnet_dense.models.layers.gnconv import SCALE, DepthwiseConv, GnConv, PointwiseConv
from gfnet_dense.models.layers.hornet_block import HorNetBlock
from gfnet_dense.models.layers.layer_norm import LayerNorm2d
from gfnet_dense.models.layers.mlp import linear

from . import fast_inference

# All types of modules in a HorNet
MODULES = {
    nn.ModuleList, nn.Sequential, nn.Conv2d, nn.LayerNorm, LayerNorm2d, HorNetBlock, GnConv,
    PointwiseConv, DepthwiseConv, GlobalLocalFilter, nn.Linear, nn.GELU, DropPath,
}  # fmt: skip


def can_infer(backbone: nn.Module, x: Tensor) -> bool:
    """Tell whether :func:`infer` may replace calling the blocks of a HorNet one by one.

    It may where that of GFNets may, see :func:`.fast_inference.can_infer`, in float32 and float64
    without autocast.
    """
    return (
        fast_inference.can_infer(backbone, x, MODULES)
        and x.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
    )


def infer(
    x: Tensor,
    blocks: Sequence[HorNetBlock],
    norm: LayerNorm2d | None,
    memory_format: torch.memory_format,
) -> tuple[Tensor, Tensor | None]:
    """Run the blocks of a stage, and the norm of its output if there is one.

    Args:
        x: Map, (B, H, W, dim), float32 or float64, contiguous; it is overwritten.
        blocks: All blocks of a stage of a backbone for which :func:`.can_infer` holds.
        norm: Norm of the output, or None.
        memory_format: That of the output: contiguous_format or channels_last.

    Returns:
        The map behind the blocks, (B, H, W, dim), and the normalized output, (B, dim, H, W), None
        without ``norm``.
    """
    B, H, W, dim = x.shape
    tokens = x.view(B, H * W, dim)
    parts = list(chunks(tokens, blocks[0].pwconv1.out_features))
    filtered = isinstance(blocks[0].gnconv.dwconv, GlobalLocalFilter)
    maps: _Maps = (_FilteredMaps if filtered else _ConvolvedMaps)(blocks[0].gnconv, x)
    out = x.new_empty(B if norm is not None else 0, dim, H, W).to(memory_format=memory_format)
    for part in parts:
        maps.begin(blocks[0], part, tokens[part])
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        maps.mix(block.gnconv.dwconv)
        for part in parts:
            residual = tokens[part]
            mixed = maps.get(block.gnconv.dwconv, part)
            gated = _gate(block.gnconv, maps.gates[part], mixed)
            residual.addcmul_(gated, block.gamma1)
            residual.addcmul_(block.mlp.infer(block.norm2(residual)), block.gamma2)
            if following is not None:  # here, while the chunk is in the cache
                maps.begin(following, part, residual)
            elif norm is not None:
                normed = F.layer_norm(residual, (dim,), norm.weight, norm.bias, norm.eps)
                samples, positions = part
                out.flatten(2)[samples, :, positions] = normed.transpose(1, 2)
    return x, None if norm is None else out


def _gate(gnconv: GnConv, gates: Tensor, mixed: Tensor) -> Tensor:
    """Return the tokens (..., dim) of a gnConv from its gates and its scaled spatial maps."""
    first, *groups = mixed.split(gnconv.dims, dim=-1)
    y = gates * first
    for project, group in zip(gnconv.pws, groups, strict=True):
        y = _pointwise(project, y).mul_(group)
    return _pointwise(gnconv.proj_out, y)


def _pointwise(layer: Any, x: Tensor) -> Tensor:  # a PointwiseConv; ModuleList is not generic
    return linear(x, layer.weight.flatten(1), layer.bias)


def _scaled(layer: Any) -> tuple[Tensor, Tensor | None]:
    """Return weight and bias with which a layer gives its scaled output.

    In the module's forward the output is scaled, which is one more pass over the maps.
    """
    return layer.weight * SCALE, None if layer.bias is None else layer.bias * SCALE


class _Maps:
    """Buffers for the gnConvs of a stage: gates, and the maps that the spatial layer mixes.

    Args:
        gnconv: One of the stage.
        x: Input of the stage, (B, H, W, dim).

    Attributes:
        gates: The first channels of the projection, (B, H * W, gnconv.dims[0]).
        size: (B, H, W).
    """

    def __init__(self, gnconv: GnConv, x: Tensor) -> None:
        B, H, W, _ = x.shape
        self.size, self.channels = (B, H, W), sum(gnconv.dims)
        self.gates = x.new_empty(B, H * W, gnconv.dims[0])

    def begin(self, block: HorNetBlock, part: tuple[slice, slice], tokens: Tensor) -> None:
        """Compute gates and input of the spatial layer for the tokens of a part."""
        projected = _pointwise(block.gnconv.proj_in, block.norm1(tokens))
        self.gates[part], mixed = projected.split([self.gates.shape[-1], self.channels], dim=-1)
        self.put(block.gnconv.dwconv, part, mixed)

    @abstractmethod
    def put(self, layer: Any, part: tuple[slice, slice], tokens: Tensor) -> None:
        """Store the tokens of a part, (b, t, channels), as input of the spatial layer."""

    @abstractmethod
    def mix(self, layer: Any) -> None:
        """Run the spatial layer on whole maps."""

    @abstractmethod
    def get(self, layer: Any, part: tuple[slice, slice]) -> Tensor:
        """Return the output of the spatial layer for a part, (b, t, channels), scaled."""


class _ConvolvedMaps(_Maps):
    """Maps of a depth-wise convolution."""

    def __init__(self, gnconv: GnConv, x: Tensor) -> None:
        super().__init__(gnconv, x)
        self.input = x.new_empty(*self.size, self.channels)

    def put(self, layer: Any, part: tuple[slice, slice], tokens: Tensor) -> None:
        self.input.flatten(1, 2)[part] = tokens

    def mix(self, layer: Any) -> None:
        maps = self.input.permute(0, 3, 1, 2)
        weight, bias = _scaled(layer)
        output = F.conv2d(maps, weight, bias, padding=layer.PADDING, groups=self.channels)
        self.output = output.permute(0, 2, 3, 1).flatten(1, 2)

    def get(self, layer: Any, part: tuple[slice, slice]) -> Tensor:
        return self.output[part]


class _FilteredMaps(_Maps):
    """Maps of a :class:`.GlobalLocalFilter`, whose halves are stored as each half needs them."""

    def __init__(self, gnconv: GnConv, x: Tensor) -> None:
        super().__init__(gnconv, x)
        B, H, W = self.size
        self.local = x.new_empty(B, H, W, self.channels // 2)
        self.spectral = x.new_empty(B, self.channels // 2, H, W)

    def put(self, layer: Any, part: tuple[slice, slice], tokens: Tensor) -> None:
        samples, positions = part
        local, spectral = layer.pre_norm(tokens).chunk(2, dim=-1)
        self.local.flatten(1, 2)[part] = local
        self.spectral.flatten(2)[samples, :, positions] = spectral.transpose(1, 2)

    def mix(self, layer: Any) -> None:
        self.convolved = layer.dw(self.local.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).flatten(1, 2)
        layer.filter_(self.spectral)

    def get(self, layer: Any, part: tuple[slice, slice]) -> Tensor:
        samples, positions = part
        spectral = channels_last(self.spectral.flatten(2)[samples, :, positions])
        pairs = torch.stack([self.convolved[part], spectral], dim=-1).flatten(2)
        norm = layer.post_norm
        return F.layer_norm(pairs, norm.normalized_shape, *_scaled(norm), norm.eps)
