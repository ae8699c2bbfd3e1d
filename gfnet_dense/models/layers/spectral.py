"""Fourier transforms of maps, in groups of channels, and what padding them needs."""

from collections.abc import Iterator

import torch
from torch import Tensor

from gfnet_dense.utils.types import Size

# Bytes of the spectra that are transformed together: what the cache of a core holds, and what
# keeps a GPU busy.
CPU_GROUP_BYTES = 2**19
GPU_GROUP_BYTES = 2**28


def channel_groups(x: Tensor, fft_size: Size) -> Iterator[tuple[slice, slice]]:
    """Yield slices of samples and channels of ``x`` (B, dim, H, W) to be transformed together."""
    (B, dim), (P, Q) = x.shape[:2], fft_size
    limit = CPU_GROUP_BYTES if x.device.type == "cpu" else GPU_GROUP_BYTES
    channels = max(limit // (P * Q * x.element_size()), 1)
    samples = max(channels // dim, 1)
    for i in range(0, B, samples):
        for j in range(0, dim, channels):
            yield slice(i, i + samples), slice(j, j + channels)


def contiguous_maps(x: Tensor) -> Tensor:
    """Return maps (B, dim, H, W) channels first in memory, copied in pieces that fit the cache.

    The transform of a group of channels of a channels-last map on a CPU takes up to eight times as
    long, and copying the whole map at once five times as long as in pieces.
    """
    if x.is_contiguous():
        return x
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    rows = max(CPU_GROUP_BYTES * torch.get_num_threads() // x[0, :, :1].nbytes, 1)
    for source, target in zip(x, y, strict=True):
        for i in range(0, x.shape[2], rows):
            target[:, i : i + rows] = source[:, i : i + rows]
    return y


def static_size(x: Tensor) -> Size:
    """Return the size (H, W) of maps (..., H, W); torch.jit.trace records numbers, not tensors."""
    H, W = x.shape[-2:]
    return (int(H), int(W)) if torch.jit.is_tracing() else (H, W)


def channels_first(weight: Tensor) -> Tensor:
    """Return ``weight`` (h, w // 2 + 1, dim, 2) as a contiguous (dim, h, w // 2 + 1, 2)."""
    h, half, dim = weight.shape[:3]
    permuted = weight.permute(2, 0, 1, 3)
    # Compilers do not support complex numbers. Resizing returns channels first already.
    if torch.compiler.is_compiling() or permuted.is_contiguous():
        return permuted.contiguous()
    # PyTorch transposes one whole matrix faster than it permutes three axes.
    matrix = torch.view_as_complex(weight.contiguous()).reshape(h * half, dim)
    return torch.view_as_real(matrix.t().contiguous().view(dim, h, half))


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
