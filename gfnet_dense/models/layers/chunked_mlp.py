"""The feed-forward network of a block, a chunk of tokens at a time.

The hidden layer of an mlp is four times its map. Of a large map it does not stay in a processor's
cache, and memory of this size comes fresh from the kernel each time: a chunk at a time is faster
on a CPU. For the gradients of large maps the hidden layer is even computed again, not kept.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from gfnet_dense.models.utils.hooks import is_plain, is_watched
from gfnet_dense.models.utils.precision import full_precision

from .mlp import Mlp, linear

aten = torch.ops.aten

# Of a chunk's hidden layer, for each thread: what a core's cache holds; in training more, since
# every chunk adds to the gradients of the weights. On a GPU: what keeps it busy.
CPU_CHUNK_BYTES, CPU_TRAIN_CHUNK_BYTES = 2**20, 2**22
GPU_CHUNK_BYTES = 2**28
MIN_CHUNK = 256  # tokens: fewer make slow matrix products
LARGE_BYTES = 2**25  # of a batch's hidden layer, from which on training computes it twice


def chunks(tokens: Tensor, hidden_dim: int, train: bool = False) -> Iterator[tuple[slice, slice]]:
    """Yield slices of samples and of tokens that cut ``tokens`` (B, N, dim) into chunks."""
    B, N = tokens.shape[:2]
    limit = CPU_TRAIN_CHUNK_BYTES if train else CPU_CHUNK_BYTES
    limit = GPU_CHUNK_BYTES if tokens.is_cuda else limit * torch.get_num_threads()
    length = max(limit // (hidden_dim * tokens.element_size()), MIN_CHUNK)
    samples = max(length // N, 1)
    for i in range(0, B, samples):
        for j in range(0, N, length):
            yield slice(i, i + samples), slice(j, j + length)


def channels_last(part: Tensor) -> Tensor:
    """Return ``part`` (b, dim, t) as a contiguous (b, t, dim)."""
    if len(part) > 1:
        return part.transpose(1, 2).contiguous()
    return part[0].contiguous().t().contiguous()[None]  # PyTorch is fast at whole matrices


def can_chunk(x: Tensor, norm: nn.Module, mlp: nn.Module, gamma: Tensor | None) -> bool:
    """Tell whether :func:`feed_forward` may stand for ``gamma * mlp(norm(x))`` in training.

    On a CPU alone, where it has been measured. Its sums over chunks would lose digits in half
    precision, and under autocast.
    """
    if is_watched() or not torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
        return False
    modules = [norm, *mlp.modules()]
    if [type(m) for m in modules] != [nn.LayerNorm, Mlp, nn.Linear, nn.GELU, nn.Linear]:
        return False
    tensors = [x, gamma, *_parameters(norm, mlp)]
    return (
        all(map(is_plain, modules))
        and mlp.act.approximate == "none"
        and all(t is not None and t.dtype == x.dtype for t in tensors)
        and x.dtype in (torch.float32, torch.float64)
        and x.device.type == "cpu"
    )


def _parameters(norm: nn.LayerNorm, mlp: Mlp) -> tuple:
    return norm.weight, norm.bias, mlp.fc1.weight, mlp.fc1.bias, mlp.fc2.weight, mlp.fc2.bias


def feed_forward(x: Tensor, norm: nn.LayerNorm, mlp: Mlp, gamma: Tensor) -> Tensor:
    """Return ``gamma * mlp(norm(x))``, a chunk at a time, with gradients.

    Args:
        x: (B, H, W, dim), as the global filter returns it: channels first in memory.
        norm, mlp, gamma: Those of a block for which :func:`can_chunk` holds.
    """
    maps = x.permute(0, 3, 1, 2).contiguous()
    return _FeedForward.apply(maps, gamma, norm.eps, *_parameters(norm, mlp))


class _FeedForward(torch.autograd.Function):
    """gamma * mlp(norm(y)) of channels-first maps.

    Of what is computed the hidden layers are kept alone, before their activation, and those of
    large maps are not. With z = h W2' + b2 the output of the mlp, h its activated hidden layer and
    g the incoming gradient, the gradient for gamma, the sum of g * z over the tokens, needs no z:
    it is that of W2 * (g' h) along the rows, plus b2 times the sum of g; and g' h is needed for W2
    in any case.
    """

    @staticmethod
    def forward(ctx, y, gamma, eps, norm_weight, norm_bias, w1, b1, w2, b2) -> Tensor:
        B, dim, H, W = y.shape
        out = y.new_empty(B, H, W, dim)
        maps, tokens = y.view(B, dim, H * W), out.view(B, H * W, dim)
        ctx.eps, ctx.parts, kept = eps, list(chunks(tokens, len(w1), train=True)), []
        keep = B * H * W * len(w1) * y.element_size() < LARGE_BYTES
        for samples, part in ctx.parts:
            x = channels_last(maps[samples, :, part])
            normed = F.layer_norm(x, (dim,), norm_weight, norm_bias, eps)
            if keep:
                hidden = linear(normed, w1, b1)
                kept.append(hidden.view(-1, len(w1)))
                activated = F.gelu(hidden)
            else:
                activated = linear(normed, w1, b1, gelu="none")
            torch.mul(linear(activated, w2, b2), gamma, out=tokens[samples, part])
        ctx.save_for_backward(y, gamma, norm_weight, norm_bias, w1, b1, w2, b2, *kept)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple:
        with full_precision(gradient.device):  # there may be an autocast around the backward
            return _FeedForward._backward(ctx, gradient)

    @staticmethod
    def _backward(ctx, gradient: Tensor) -> tuple:
        y, gamma, norm_weight, norm_bias, w1, b1, w2, b2, *kept = ctx.saved_tensors
        B, dim, H, W = y.shape
        maps, tokens = y.view(B, dim, H * W), gradient.reshape(B, H * W, dim)
        dy = torch.empty_like(y)
        dmaps = dy.view_as(maps)
        dnorm_weight, dnorm_bias, dw1, db1, gh, g_sum = map(
            torch.zeros_like, (norm_weight, norm_bias, w1, b1, w2, b2)
        )
        scaled_w2 = w2 * gamma[:, None]
        for i, (samples, part) in enumerate(ctx.parts):
            x = channels_last(maps[samples, :, part]).view(-1, dim)
            g = tokens[samples, part].reshape(-1, dim)
            normed, mean, rstd = aten.native_layer_norm(x, (dim,), norm_weight, norm_bias, ctx.eps)
            hidden = kept[i] if kept else linear(normed, w1, b1)
            gh.addmm_(g.t(), F.gelu(hidden))
            g_sum += g.sum(0)
            dhidden = linear(g, scaled_w2.t())
            aten.gelu_backward.grad_input(dhidden, hidden, grad_input=dhidden)
            dw1.addmm_(dhidden.t(), normed)
            db1 += dhidden.sum(0)
            dnormed = linear(dhidden, w1.t())
            dx, *dnorm = aten.native_layer_norm_backward(
                dnormed, x, (dim,), mean, rstd, norm_weight, norm_bias, [True, True, True]
            )
            dnorm_weight += dnorm[0]
            dnorm_bias += dnorm[1]
            dmaps[samples, :, part] = dx.view(len(maps[samples]), -1, dim).transpose(1, 2)
        dgamma = (w2 * gh).sum(1) + b2 * g_sum
        dw2, db2 = gh * gamma[:, None], g_sum * gamma
        return dy, dgamma, None, dnorm_weight, dnorm_bias, dw1, db1, dw2, db2
