"""Fourier transforms of maps, and filtering by a product of spectra, with its gradients."""

from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gfnet_dense.utils.types import Size

# Bytes of the spectra that are transformed together: what the cache of a core holds, and what
# keeps a GPU busy.
CPU_GROUP_BYTES = 2**19
GPU_GROUP_BYTES = 2**28


class SpectralProduct(torch.autograd.Function):
    """Filtering irfft2(rfft2(x) * K) of the map x zero-padded to P x Q, cropped to the map.

    Autograd's backward of rfft2 is a full complex FFT of a zero-padded spectrum and keeps more
    tensors, so the gradients are written by hand. With X the spectrum of x and G the spectrum of
    the incoming gradient, the gradient of x is irfft2(G * conj K). The gradient of K is
    conj(X) * G / (P Q), summed over the batch, and twice that in the inner columns, each of which
    also represents its mirror column.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, response: Tensor, fft_size: Size) -> Tensor:
        H, W = x.shape[-2:]
        ctx.sizes, ctx.response_shape = (fft_size, (H, W)), response.shape
        x_needs_grad, response_needs_grad, _ = ctx.needs_input_grad
        y, spectra = torch.empty_like(x, memory_format=torch.contiguous_format), []
        ctx.groups = list(channel_groups(x, fft_size))
        for group in ctx.groups:
            spectrum = transform(x[group], fft_size)
            if response_needs_grad:
                spectra.append(spectrum)
                filtered = spectrum * response[group[1]]
            else:
                filtered = spectrum.mul_(response[group[1]])
            y[group] = inverse_transform(filtered, fft_size, (H, W))
        ctx.save_for_backward(response if x_needs_grad else None, *spectra)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        response, *spectra = ctx.saved_tensors
        (P, Q), size = ctx.sizes
        x_gradient = response_gradient = None
        if ctx.needs_input_grad[0]:
            x_gradient = torch.empty_like(gradient, memory_format=torch.contiguous_format)
        if ctx.needs_input_grad[1]:
            response_gradient = spectra[0].new_zeros(ctx.response_shape)
        for i, group in enumerate(ctx.groups):
            spectrum = transform(gradient[group], (P, Q))
            if response_gradient is not None:
                total = response_gradient[group[1]]
                for x_sample, gradient_sample in zip(spectra[i], spectrum, strict=True):
                    total.addcmul_(x_sample.conj(), gradient_sample)
            if x_gradient is not None:
                spectrum *= response[group[1]].conj()
                x_gradient[group] = inverse_transform(spectrum, (P, Q), size)
        if response_gradient is not None:
            response_gradient /= P * Q
            response_gradient[..., 1 : (Q + 1) // 2] *= 2
        return x_gradient, response_gradient, None


def channel_groups(x: Tensor, fft_size: Size) -> Iterator[tuple[slice, slice]]:
    """Yield slices of samples and channels of ``x`` (B, dim, H, W) to be transformed together."""
    if torch.jit.is_tracing() or torch.compiler.is_compiling():  # one graph for any batch size
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
def keep_freed_memory() -> None:
    """Make glibc keep freed memory for the next temporary, instead of returning it to Linux.

    New memory from Linux costs a page fault for each 4 KiB, together as much time as the
    transforms. glibc keeps freed blocks that are no larger than the largest block freed before, up
    to 32 MiB (https://man7.org/linux/man-pages/man3/mallopt.3.html, M_MMAP_THRESHOLD), so one
    block of that size is allocated and freed here. With other allocators this has no effect.
    """
    torch.empty(2**25 - 2**13, dtype=torch.uint8, device="cpu")


def as_response(weight: Tensor) -> Tensor:
    """Return ``weight`` (h, w // 2 + 1, dim, 2) as complex numbers, (dim, h, w // 2 + 1)."""
    h, half, dim = weight.shape[:3]
    if weight.permute(2, 0, 1, 3).is_contiguous():  # the layout that resizing returns
        return torch.view_as_complex(weight.permute(2, 0, 1, 3))
    # PyTorch transposes one whole matrix faster than it permutes three axes.
    matrix = torch.view_as_complex(weight.contiguous()).reshape(h * half, dim)
    return matrix.t().contiguous().view(dim, h, half)


def transform(x: Tensor, fft_size: Size) -> Tensor:
    """Return rfft2 of ``x`` (..., H, W) zero-padded to ``fft_size``, skipping the rows of zeros."""
    if x.shape[-2:] == fft_size:
        return torch.fft.rfft2(x)
    return torch.fft.fft(torch.fft.rfft(x, n=fft_size[1]), n=fft_size[0], dim=-2)


def inverse_transform(spectrum: Tensor, fft_size: Size, size: Size) -> Tensor:
    """Return irfft2 of ``spectrum`` cropped to ``size``, skipping the rows that are cropped."""
    if size == fft_size:
        return torch.fft.irfft2(spectrum, s=fft_size)
    rows = torch.fft.ifft(spectrum, dim=-2)[..., : size[0], :]
    return torch.fft.irfft(rows, n=fft_size[1])[..., : size[1]]


def reflect(x: Tensor, reach: int, dim: int) -> Tensor:
    """Extend ``x`` by ``reach`` mirrored positions at both ends of the axis ``dim``.

    The edge positions are not repeated. A ``reach`` beyond the length of the axis mirrors again,
    which ``F.pad`` refuses.
    """
    return x.index_select(dim, mirrored_index(x.shape[dim], reach, x.device))


def mirrored_index(n: int, reach: int, device: torch.device | None = None) -> Tensor:
    """Return the index, 0..n - 1, of the position mirrored to each of -reach..n + reach - 1."""
    index = torch.arange(-reach, n + reach, device=device)
    period = max(2 * n - 2, 1)
    return (n - 1) - (index % period - (n - 1)).abs()


@lru_cache(maxsize=1024)
def next_fast_length(n: int) -> int:
    """Return the smallest length >= ``n`` without prime factors above 5, where FFTs are fast."""
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 1
