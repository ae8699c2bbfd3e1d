"""Running blocks without gradients: the same numbers as their ``forward``, less memory traffic.

Temporaries cost more time here than arithmetic: the hidden layer is four times as large as the
map, and the filter needs channels first where all other layers need channels last. This code uses
two buffers, one for the residual stream and one for the input and output of the filters, and runs
norms, mlp and residual sum on chunks that stay in the processor's cache. No weights are folded or
cached, except for the resized filters that :class:`.GlobalFilter` caches itself.
"""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from gfnet_dense.models.layers.block import Block, DropPath, PatchEmbed
from gfnet_dense.models.layers.chunked_mlp import channels_last, chunks
from gfnet_dense.models.layers.global_filter import GlobalFilter
from gfnet_dense.models.layers.mlp import Mlp
from gfnet_dense.models.utils.hooks import is_plain, is_watched
from gfnet_dense.models.utils.precision import transform_dtype

# All types of modules in a GFNet
MODULES = {
    nn.ModuleList, PatchEmbed, nn.Conv2d, nn.LayerNorm, Block, GlobalFilter, Mlp, nn.Linear,
    nn.GELU, DropPath,
}  # fmt: skip


def can_infer(backbone: nn.Module, x: Tensor, kinds: Collection[type] = MODULES) -> bool:
    """Tell whether :func:`infer` may replace calling the blocks of a backbone one by one.

    It may on a CPU, where it was measured to be faster. It may not with gradients, in training, or
    while a graph is traced. Nor may it where a module has been replaced or has hooks: a hook must
    see each map, and may keep it, while :func:`infer` overwrites maps.

    All modules are looked at in each forward, since none tells when it is changed: 0.15 ms for the
    190 modules of GFNet-H-Ti, whose forward takes 30 ms for an image of 128 x 128.

    Args:
        backbone: The backbone.
        x: Images.
        kinds: All types of its modules: one of any other type has replaced one of them.
    """
    if x.device.type != "cpu" or torch.is_grad_enabled() or is_watched():
        return False
    inside = (module for child in backbone.children() for module in child.modules())
    return not backbone.training and all(
        type(module) in kinds and not module.training and is_plain(module) for module in inside
    )


def infer(
    x: Tensor,
    blocks: Sequence[Block],
    norm: nn.LayerNorm | None,
    memory_format: torch.memory_format,
) -> tuple[Tensor, Tensor | None]:
    """Run blocks, and the norm of the output behind them if there is one.

    Args:
        x: Map, (B, H, W, dim), which is overwritten.
        blocks: At least one block of a backbone for which :func:`can_infer` holds.
        norm: Norm of the output, or None.
        memory_format: That of the output: contiguous_format or channels_last.

    Returns:
        The map behind the blocks, (B, H, W, dim), and the normalized output, (B, dim, H, W), None
        without ``norm``.
    """
    B, H, W, dim = x.shape
    gammas = [block.gamma for block in blocks if block.gamma is not None]
    if gammas:  # Block.forward sums in the wider type: under autocast x may be in half precision
        x = x.to(torch.promote_types(x.dtype, gammas[0].dtype))
    x = x.contiguous()
    tokens = x.view(B, H * W, dim)
    parts = list(chunks(tokens, blocks[0].mlp.fc1.out_features))
    dtype = blocks[0].norm1(tokens[:1, :1]).dtype  # under autocast it can differ from x.dtype
    y = torch.empty(B, dim, H, W, dtype=transform_dtype(dtype), device=x.device)
    filtered = y.flatten(2)
    out = y  # a buffer of its own is needed for another memory format alone
    if memory_format == torch.channels_last:
        out = torch.empty_like(y, memory_format=memory_format)
    for samples, part in parts:
        normed = blocks[0].norm1(tokens[samples, part])
        filtered[samples, :, part] = normed.transpose(1, 2)
    next_norms = [*(block.norm1 for block in blocks[1:]), norm]
    next_maps = [*(filtered for _ in blocks[1:]), out.flatten(2)]
    for block, next_norm, next_map in zip(blocks, next_norms, next_maps, strict=True):
        block.filter.filter_(y)
        for samples, part in parts:
            residual = tokens[samples, part]
            y_part = channels_last(filtered[samples, :, part]).to(dtype)
            branch = block.mlp.infer(block.norm2(y_part))
            if block.gamma is None:
                residual.add_(branch)
            else:
                residual.addcmul_(branch, block.gamma)
            if next_norm is not None:  # here, while the chunk is in the cache
                next_map[samples, :, part] = next_norm(residual).transpose(1, 2)
    return x, None if norm is None else out.to(dtype)
