"""The blocks of a stage without gradients: the same numbers with less memory traffic.

What costs is not arithmetic but temporaries: a hidden layer of four times the map, copies between
the layout of the filter (channels first) and that of everything else (channels last). Here two
buffers take turns, one for the residual stream and one for the filters, and norms, mlp and
residual run on chunks that stay in the processor's cache. Nothing is derived from the weights.
"""

from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from .global_filter import GlobalFilter, keep_freed_memory, transform_dtype
from .layers import Block
from .mlp import channels_last, chunks


def can_infer(blocks: Sequence[nn.Module], norm: nn.Module | None) -> bool:
    """Tell whether :func:`infer` may stand for calling the blocks one after another.

    Not with gradients, in training, while the graph is traced, with blocks that are not ours, nor
    where hooks watch what is inside.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    if not all(type(b) is Block and type(b.filter) is GlobalFilter for b in blocks):
        return False
    modules = chain(*(block.modules() for block in blocks), [norm] if norm else [])
    return not any(m.training or m._forward_hooks or m._forward_pre_hooks for m in modules)


def infer(x: Tensor, blocks: Sequence[Block], norm: nn.Module | None) -> tuple[Tensor, Tensor]:
    """Run blocks, and the norm of the output behind them.

    Args:
        x: Map (B, H, W, dim), which is overwritten.
        blocks: Blocks for which :func:`can_infer` holds.
        norm: Norm of the output; without one, what is returned as output means nothing.

    Returns:
        The map behind the blocks, (B, H, W, dim), and the normalised output, (B, dim, H, W).
    """
    B, H, W, dim = x.shape
    gammas = [block.gamma for block in blocks if block.gamma is not None]
    if gammas:  # autocast can leave the map in another precision, in which the sum is not kept
        x = x.to(torch.promote_types(x.dtype, gammas[0].dtype))
    x = x.contiguous()
    tokens = x.view(B, H * W, dim)
    parts = list(chunks(B, H * W, dim, x))
    dtype = blocks[0].norm1(tokens[:1, :1]).dtype  # autocast's
    y = torch.empty(B, dim, H, W, dtype=transform_dtype(dtype), device=x.device)
    filtered = y.view(B, dim, H * W)
    keep_freed_memory()

    for samples, part in parts:
        normed = blocks[0].norm1(tokens[samples, part])
        filtered[samples, :, part] = normed.transpose(1, 2)
    for block, next_norm in zip(blocks, [*(b.norm1 for b in blocks[1:]), norm], strict=True):
        block.filter.filter_(y)
        for samples, part in parts:
            residual = tokens[samples, part]
            branch = block.mlp(block.norm2(channels_last(filtered[samples, :, part]).to(dtype)))
            if block.gamma is None:
                residual.add_(branch)
            else:
                residual.addcmul_(branch, block.gamma)
            if next_norm is not None:  # while the chunk is at hand
                filtered[samples, :, part] = next_norm(residual).transpose(1, 2)
    return x, y.to(dtype)
