"""Fourier transforms of maps, and the product with a filter between them, with its gradients."""

from collections.abc import Iterator
from functools import cache, lru_cache

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gfnet_dense.utils.types import Size

# Of the spectra of channels that are transformed together: what a core's cache holds, and what
# keeps a GPU busy.
CPU_GROUP_BYTES = 2**19
GPU_GROUP_BYTES = 2**28


class _Filter(torch.autograd.Function):
    """irfft2(rfft2(x) * K) of the zero-padded map, cropped to the map.

    Autograd's backward of rfft2 is a full complex FFT of a zero-padded spectrum, and it keeps more
    tensors; with G the spectrum of the incoming gradient g the gradients are, by hand,
    irfft2(G * conj K) for x and conj(X) * G / (P Q), summed over the batch, for K, in which the
    inner columns stand for two.
    """

    @staticmethod
    def forward(ctx, x: Tensor, gains: Tensor, fft_size: Size) -> Tensor:
        ctx.sizes, ctx.gains_shape = (fft_size, x.shape[-2:]), gains.shape
        x_needs, gains_need, _ = ctx.needs_input_grad
        y, spectra = torch.empty_like(x, memory_format=torch.contiguous_format), []
        ctx.groups = list(_groups(x, fft_size))
        for group in ctx.groups:
            spectrum = _transform(x[group], fft_size)
            if gains_need:
                spectra.append(spectrum)
                filtered = spectrum * gains[group[1]]
            else:
                filtered = spectrum.mul_(gains[group[1]])
            y[group] = _inverse(filtered, fft_size, x.shape[-2:])
        ctx.save_for_backward(gains if x_needs else None, *spectra)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        gains, *spectra = ctx.saved_tensors
        (P, Q), size = ctx.sizes
        x_gradient = gains_gradient = None
        if ctx.needs_input_grad[0]:
            x_gradient = torch.empty_like(gradient, memory_format=torch.contiguous_format)
        if ctx.needs_input_grad[1]:
            gains_gradient = spectra[0].new_zeros(ctx.gains_shape)
        for i, group in enumerate(ctx.groups):
            spectrum = _transform(gradient[group], (P, Q))
            if gains_gradient is not None:
                total = gains_gradient[group[1]]
                for one, other in zip(spectra[i], spectrum, strict=True):
                    total.addcmul_(one.conj(), other)
            if x_gradient is not None:
                spectrum *= gains[group[1]].conj()
                x_gradient[group] = _inverse(spectrum, (P, Q), size)
        if gains_gradient is not None:
            gains_gradient /= P * Q
            gains_gradient[..., 1 : (Q + 1) // 2] *= 2
        return x_gradient, gains_gradient, None


def _groups(x: Tensor, fft_size: Size) -> Iterator[tuple[slice, slice]]:
    """Yield slices of samples and channels of ``x`` (B, dim, H, W), to be transformed together."""
    if torch.jit.is_tracing() or torch.compiler.is_compiling():  # a graph for any batch
        yield slice(None), slice(None)
        return
    (B, dim), (P, Q) = x.shape[:2], fft_size
    limit = GPU_GROUP_BYTES if x.is_cuda else CPU_GROUP_BYTES
    channels = max(limit // (P * Q * x.element_size()), 1)
    samples = max(channels // dim, 1)
    for i in range(0, B, samples):
        for j in range(0, dim, channels):
            yield slice(i, i + samples), slice(j, j + channels)


@cache
def _keep_freed_memory() -> None:
    """Let glibc keep what is freed for the next temporary, instead of returning it.

    New memory from the kernel costs a page fault each 4 KiB, together as much as the transforms.
    glibc keeps blocks as large as the largest it has seen freed, up to 32 MiB
    (https://man7.org/linux/man-pages/man3/mallopt.3.html, M_MMAP_THRESHOLD). Elsewhere nothing
    happens.
    """
    torch.empty(2**25 - 2**13, dtype=torch.uint8, device="cpu")


def _complex(weight: Tensor) -> Tensor:
    """Return ``weight`` (h, w // 2 + 1, dim, 2) as complex numbers, (dim, h, w // 2 + 1)."""
    h, half, dim = weight.shape[:3]
    if weight.permute(2, 0, 1, 3).is_contiguous():  # as resizing leaves it
        return torch.view_as_complex(weight.permute(2, 0, 1, 3))
    # PyTorch is fast at transposing whole matrices.
    matrix = torch.view_as_complex(weight.contiguous()).reshape(h * half, dim)
    return matrix.t().contiguous().view(dim, h, half)


def _transform(x: Tensor, fft_size: Size) -> Tensor:
    """Return rfft2 of ``x`` (..., H, W) zero-padded to ``fft_size``; rows of zeros are skipped."""
    if x.shape[-2:] == fft_size:
        return torch.fft.rfft2(x)
    return torch.fft.fft(torch.fft.rfft(x, n=fft_size[1]), n=fft_size[0], dim=-2)


def _inverse(spectrum: Tensor, fft_size: Size, size: Size) -> Tensor:
    """Return irfft2 of ``spectrum``, cropped to ``size``; rows that go away are skipped."""
    if tuple(size) == fft_size:
        return torch.fft.irfft2(spectrum, s=fft_size)
    rows = torch.fft.ifft(spectrum, dim=-2)[..., : size[0], :]
    return torch.fft.irfft(rows, n=fft_size[1])[..., : size[1]]


def _reflect(x: Tensor, reach: int, dim: int) -> Tensor:
    """Mirror ``x`` at its ends (edge pixels once) by any reach, as often as it takes."""
    return x.index_select(dim, mirrored_index(x.shape[dim], reach, x.device))


def mirrored_index(n: int, reach: int, device: torch.device | None = None) -> Tensor:
    """Return which of ``n`` pixels stands at each place from -reach to n + reach - 1."""
    index = torch.arange(-reach, n + reach, device=device)
    period = max(2 * n - 2, 1)
    return (n - 1) - (index % period - (n - 1)).abs()


@lru_cache(maxsize=1024)
def next_fast_length(n: int) -> int:
    """Return the smallest length of at least ``n`` without prime factors above 5."""
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 1
