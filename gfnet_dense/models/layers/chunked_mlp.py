"""The feed-forward network of a block, computed on one chunk of tokens at a time.

The hidden layer of an mlp is four times as large as its map. For a large map it does not fit into
a processor's cache, and the operating system provides memory of this size anew each time. One
chunk at a time is therefore faster on a CPU. In training, the hidden layer of a large map is not
even stored for the backward pass, but computed again there.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from gfnet_dense.models.utils.hooks import is_plain, trains_on_cpu
from gfnet_dense.models.utils.precision import full_precision

from .mlp import Mlp, MlpLayers, linear

aten = torch.ops.aten

# Bytes of a chunk's hidden layer for each thread: what the cache of a core holds. From 8 MiB on,
# memory that is freed goes back to the operating system, and each chunk has to map it again.
CPU_CHUNK_BYTES = 2**21
# Tokens of a chunk: each chunk reads all weights and, in training, updates all their gradients.
MIN_CHUNK = 512
LARGE_BYTES = 2**25  # bytes of a batch's hidden layer from which on backward recomputes it


def chunks(tokens: Tensor, hidden_dim: int) -> Iterator[tuple[slice, slice]]:
    """Yield slices of samples and of tokens that cut ``tokens`` (B, N, dim) into chunks.

    Args:
        tokens: Tensor to be cut, on a CPU; its dtype decides the length of a chunk.
        hidden_dim: Dim of the hidden layer.
    """
    B, N = tokens.shape[:2]
    limit = CPU_CHUNK_BYTES * torch.get_num_threads()
    length = max(limit // (hidden_dim * tokens.element_size()), MIN_CHUNK)
    samples = max(length // N, 1)
    for i in range(0, B, samples):
        for j in range(0, N, length):
            yield slice(i, i + samples), slice(j, j + length)


def channels_last(part: Tensor) -> Tensor:
    """Return ``part`` (b, dim, t) as a contiguous tensor (b, t, dim)."""
    if len(part) > 1:
        return part.transpose(1, 2).contiguous()
    # PyTorch copies the transpose of one whole matrix faster.
    return part[0].contiguous().t().contiguous()[None]


def can_chunk(x: Tensor, norm: nn.LayerNorm, mlp: Mlp | MlpLayers, gamma: Tensor) -> bool:
    """Tell whether :func:`feed_forward` may replace ``gamma * mlp(norm(x))`` in training.

    It may on a CPU, where it was measured to be faster for maps that have at least as many tokens
    as the hidden layer has channels: of smaller ones the weights take the time, and its backward
    makes more arrays of their size. It may in float32 and float64: in half precision and under
    autocast its sums over chunks would lose digits. It may not while a graph is traced, nor where a
    module has been replaced or has hooks.
    """
    if not trains_on_cpu(x):
        return False
    modules = [norm, *(mlp if isinstance(mlp, MlpLayers) else mlp.modules())]
    layers = [type(m) for m in modules if type(m) is not Mlp]
    if layers != [nn.LayerNorm, nn.Linear, nn.GELU, nn.Linear]:
        return False
    tensors = [gamma, *_parameters(norm, mlp)]
    return (
        all(map(is_plain, modules))
        and mlp.act.approximate == "none"
        and x[..., 0].numel() >= mlp.fc1.out_features
        and all(t is not None and t.dtype == x.dtype for t in tensors)
    )


def _parameters(norm: nn.LayerNorm, mlp: Mlp | MlpLayers) -> tuple[Tensor, ...]:
    return norm.weight, norm.bias, mlp.fc1.weight, mlp.fc1.bias, mlp.fc2.weight, mlp.fc2.bias


def feed_forward(x: Tensor, norm: nn.LayerNorm, mlp: Mlp | MlpLayers, gamma: Tensor) -> Tensor:
    """Return ``gamma * mlp(norm(x))``, computed one chunk at a time, with gradients.

    Args:
        x: Map, (B, H, W, dim), contiguous, or channels first in memory as a global filter returns
            it. A map of any other strides is copied.
        norm, mlp, gamma: Modules and parameter of a block for which :func:`can_chunk` holds.

    Returns:
        Map, (B, H, W, dim).
    """
    if not x.is_contiguous():
        x = x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    return _FeedForward.apply(x, gamma, norm.eps, *_parameters(norm, mlp))


def _token_access(
    x: Tensor,
) -> tuple[Callable[[slice, slice], Tensor], Callable[[slice, slice, Tensor], Tensor]]:
    """Return functions that read and write slices of samples and tokens of a map (B, H, W, dim).

    The tokens, (b, t, dim), are contiguous. The map is contiguous or channels first in memory.
    """
    B, H, W, dim = x.shape
    if x.is_contiguous():
        tokens = x.view(B, H * W, dim)
        return (
            lambda samples, part: tokens[samples, part],
            lambda samples, part, value: tokens[samples, part].copy_(value),
        )
    maps = x.permute(0, 3, 1, 2).view(B, dim, H * W)
    return (
        lambda samples, part: channels_last(maps[samples, :, part]),
        lambda samples, part, value: maps[samples, :, part].copy_(value.transpose(1, 2)),
    )


class _FeedForward(torch.autograd.Function):
    """The product gamma * mlp(norm(y)) for maps y, contiguous or channels first in memory.

    The only intermediate that is stored for the backward pass is the hidden layer before its
    activation, and not even that for large maps.

    The gradient of gamma needs no stored output of the mlp. Let h be the activated hidden layer,
    z = h W2' + b2 the output of the mlp and g the incoming gradient. The gradient of gamma is the
    sum of g * z over the tokens. It equals the row sums of W2 * (g' h), plus b2 times the sum of
    g, and the gradient of W2 needs g' h anyway.
    """

    @staticmethod
    def forward(
        ctx: Any,
        y: Tensor,
        gamma: Tensor,
        eps: float,
        norm_weight: Tensor,
        norm_bias: Tensor,
        w1: Tensor,
        b1: Tensor,
        w2: Tensor,
        b2: Tensor,
    ) -> Tensor:
        B, H, W, dim = y.shape
        out = y.new_empty(B, H, W, dim)
        tokens, (read, _) = out.view(B, H * W, dim), _token_access(y)
        keep = B * H * W * len(w1) * y.element_size() < LARGE_BYTES
        # Chunks would save no memory where the whole hidden layer is kept.
        parts = [(slice(B), slice(H * W))] if keep else list(chunks(tokens, len(w1)))
        ctx.eps, ctx.parts, kept = eps, parts, []
        for samples, part in ctx.parts:
            x = read(samples, part)
            normed = F.layer_norm(x, (dim,), norm_weight, norm_bias, eps)
            hidden = linear(normed, w1, b1)
            if keep:
                kept.append(hidden.view(-1, len(w1)))
                activated = F.gelu(hidden)
            else:
                activated = aten.gelu_(hidden)
            torch.mul(linear(activated, w2, b2), gamma, out=tokens[samples, part])
        ctx.save_for_backward(y, gamma, norm_weight, norm_bias, w1, b1, w2, b2, *kept)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        with full_precision(gradient.device):  # backward() may be called under autocast
            return _FeedForward._backward(ctx, gradient)

    @staticmethod
    def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        y, gamma, norm_weight, norm_bias, w1, b1, w2, b2, *kept = ctx.saved_tensors
        B, H, W, dim = y.shape
        tokens, dy = gradient.reshape(B, H * W, dim), torch.empty_like(y)
        read, write = _token_access(y)[0], _token_access(dy)[1]
        dnorm_weight, dnorm_bias, dw1, db1, gh, g_sum = map(
            torch.zeros_like, (norm_weight, norm_bias, w1, b1, w2, b2)
        )
        scaled_w2 = w2 * gamma[:, None]
        for i, (samples, part) in enumerate(ctx.parts):
            x = read(samples, part).reshape(-1, dim)
            g = tokens[samples, part].reshape(-1, dim)
            normed, mean, rstd = aten.native_layer_norm(x, (dim,), norm_weight, norm_bias, ctx.eps)
            hidden = kept[i] if kept else linear(normed, w1, b1)
            gh.addmm_(g.t(), F.gelu(hidden))
            g_sum += g.sum(0)
            dhidden = g @ scaled_w2
            aten.gelu_backward.grad_input(dhidden, hidden, grad_input=dhidden)
            dw1.addmm_(dhidden.t(), normed)
            db1 += dhidden.sum(0)
            dnormed = dhidden @ w1
            dx, *dnorm = aten.native_layer_norm_backward(
                dnormed, x, (dim,), mean, rstd, norm_weight, norm_bias, [True, True, True]
            )
            dnorm_weight += dnorm[0]
            dnorm_bias += dnorm[1]
            write(samples, part, dx.view(len(tokens[samples]), -1, dim))
        dgamma = (w2 * gh).sum(1) + b2 * g_sum
        dw2, db2 = gh * gamma[:, None], g_sum * gamma
        return dy, dgamma, None, dnorm_weight, dnorm_bias, dw1, db1, dw2, db2
