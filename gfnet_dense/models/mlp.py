"""The mlp of a block, and running it on large maps a chunk of tokens at a time.

The hidden layer of an mlp is four times its map. Of a large map it does not stay in a processor's
cache, and memory of this size comes fresh from the kernel each time: a chunk at a time is faster
on a CPU, though the training has to compute the hidden layer again for its gradients.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

aten = torch.ops.aten

# Of a chunk's hidden layer: what a core's cache holds; elsewhere, what keeps a GPU busy.
CPU_CHUNK_BYTES = 2**20
GPU_CHUNK_BYTES = 2**28
MIN_CHUNK = 256  # tokens: fewer make slow matrix products
# Of the hidden layer of a whole map, from which on training computes it twice.
LARGE_MAP_BYTES = 2**25


class Mlp(nn.Module):
    """The feed-forward network: two linear layers, GELU between."""

    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


def chunks(B: int, N: int, dim: int, x: Tensor) -> Iterator[tuple[slice, slice]]:
    """Yield slices of samples and of tokens that cut B maps of N tokens into chunks.

    Args:
        B: Number of samples.
        N: Number of tokens of a sample.
        dim: Number of channels.
        x: Tensor on the device and of the dtype in which the chunks are computed.
    """
    limit = GPU_CHUNK_BYTES if x.is_cuda else CPU_CHUNK_BYTES
    tokens = max(limit // (4 * dim * x.element_size()), MIN_CHUNK)
    samples = max(tokens // N, 1)
    for i in range(0, B, samples):
        for j in range(0, N, tokens):
            yield slice(i, i + samples), slice(j, j + tokens)


def channels_last(part: Tensor) -> Tensor:
    """Return ``part`` (b, dim, t) as a contiguous (b, t, dim)."""
    if len(part) > 1:
        return part.transpose(1, 2).contiguous()
    return part[0].contiguous().t().contiguous()[None]  # PyTorch is fast at whole matrices


def can_recompute(norm: nn.Module, mlp: nn.Module, x: Tensor) -> bool:
    """Tell whether :func:`feed_forward` may stand for ``mlp(norm(x))``, and is worth it.

    Args:
        norm, mlp: Modules of a block.
        x: Their input, (B, H, W, dim).
    """
    modules = [norm, *mlp.modules()]
    return (
        [type(m) for m in modules] == [nn.LayerNorm, Mlp, nn.Linear, nn.GELU, nn.Linear]
        and torch.is_grad_enabled()
        and x.device.type == "cpu"
        and x.dtype == norm.weight.dtype
        and 4 * x.nbytes >= LARGE_MAP_BYTES
        and not torch.is_autocast_enabled("cpu")
        and not (torch.compiler.is_compiling() or torch.jit.is_tracing())
        and not any(m._forward_hooks or m._backward_hooks for m in modules)
    )


def feed_forward(x: Tensor, norm: nn.LayerNorm, mlp: nn.Module, gamma: Tensor) -> Tensor:
    """Return ``gamma * mlp(norm(x))`` without keeping the hidden layer for the gradients.

    Args:
        x: (B, H, W, dim), as the global filter returns it: channels first in memory.
        norm, mlp: Modules for which :func:`can_recompute` holds.
        gamma: Layer scale, (dim,).
    """
    maps = x.permute(0, 3, 1, 2).contiguous()
    parameters = norm.weight, norm.bias, *mlp.fc1.parameters(), *mlp.fc2.parameters()
    return _FeedForward.apply(maps, gamma, norm.eps, *parameters)


class _FeedForward(torch.autograd.Function):
    """gamma * mlp(norm(y)) of channels-first maps, of which no hidden layer is kept.

    With z = h W2' + b2 the output of the mlp, h its hidden layer and g the incoming gradient, the
    gradient for gamma, the sum of g * z over the tokens, needs no z: it is that of W2 * (g' h)
    along the rows, plus b2 times the sum of g; and g' h is needed for W2 in any case.
    """

    @staticmethod
    def forward(ctx, y, gamma, eps, norm_weight, norm_bias, w1, b1, w2, b2) -> Tensor:
        ctx.save_for_backward(y, gamma, norm_weight, norm_bias, w1, b1, w2, b2)
        ctx.eps = eps
        B, dim, H, W = y.shape
        out = y.new_empty(B, H, W, dim)
        maps, tokens = y.view(B, dim, H * W), out.view(B, H * W, dim)
        for samples, part in chunks(B, H * W, dim, y):
            x = channels_last(maps[samples, :, part])
            x = F.layer_norm(x, (dim,), norm_weight, norm_bias, eps)
            x = F.linear(F.gelu(F.linear(x, w1, b1)), w2, b2)
            torch.mul(x, gamma, out=tokens[samples, part])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):
        y, gamma, norm_weight, norm_bias, w1, b1, w2, b2 = ctx.saved_tensors
        B, dim, H, W = y.shape
        maps, tokens = y.view(B, dim, H * W), gradient.reshape(B, H * W, dim)
        dy = torch.empty_like(y)
        dmaps = dy.view_as(maps)
        dnorm_weight, dnorm_bias, dw1, db1, gh, g_sum = map(
            torch.zeros_like, (norm_weight, norm_bias, w1, b1, w2, b2)
        )
        scaled_w2 = w2 * gamma[:, None]
        for samples, part in chunks(B, H * W, dim, y):
            x = channels_last(maps[samples, :, part]).view(-1, dim)
            g = tokens[samples, part].reshape(-1, dim)
            normed, mean, rstd = aten.native_layer_norm(x, (dim,), norm_weight, norm_bias, ctx.eps)
            hidden = F.linear(normed, w1, b1)
            gh.addmm_(g.t(), F.gelu(hidden))
            g_sum += g.sum(0)
            dhidden = aten.gelu_backward(g @ scaled_w2, hidden)
            dw1.addmm_(dhidden.t(), normed)
            db1 += dhidden.sum(0)
            dx, *dnorm = aten.native_layer_norm_backward(
                dhidden @ w1, x, (dim,), mean, rstd, norm_weight, norm_bias, [True, True, True]
            )
            dnorm_weight += dnorm[0]
            dnorm_bias += dnorm[1]
            dmaps[samples, :, part] = dx.view(len(maps[samples]), -1, dim).transpose(1, 2)
        dgamma = (w2 * gh).sum(1) + b2 * g_sum
        dw2, db2 = gh * gamma[:, None], g_sum * gamma
        return dy, dgamma, None, dnorm_weight, dnorm_bias, dw1, db1, dw2, db2
