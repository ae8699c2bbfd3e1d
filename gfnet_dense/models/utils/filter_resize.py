"""Resizing what a global filter network stores on a grid: filters and position embedding.

Pure functions of tensors, differentiable, used both when weights are loaded and in ``forward``.

A filter is stored as the real tensor ``weight`` of shape (h, w // 2 + 1, dim, 2): real and
imaginary part of the half spectrum that ``torch.fft.rfft2`` returns for an (h, w) map. The half
spectrum does not tell an even from an odd w, so every function takes the full size as well.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.types import Size

from .precision import full_precision

FILTER_RESIZE_MODES = ("trigonometric", "bilinear", "bicubic", "spectral_pad")


def check_filter(weight: Tensor, size: Size) -> None:
    """Raise ValueError unless ``weight`` is a half spectrum (h, w // 2 + 1, dim, 2) of ``size``."""
    h, w = size
    if weight.ndim != 4 or weight.shape[3] != 2 or weight.shape[:2] != (h, w // 2 + 1):
        raise ValueError(
            f"a filter for {h}x{w} maps has the shape ({h}, {w // 2 + 1}, dim, 2), "
            f"got {tuple(weight.shape)}"
        )


def check_resize_mode(mode: str) -> None:
    """Raise InputError unless ``mode`` is a way to resize filters."""
    if mode not in FILTER_RESIZE_MODES:
        raise InputError(f"filter_resize is one of {', '.join(FILTER_RESIZE_MODES)}, got {mode!r}")


def symmetrize_filter(weight: Tensor, size: Size) -> Tensor:
    """Project a filter onto those of real kernels, P K = (K[r, c] + conj K[-r, c]) / 2.

    Only column 0 and, for even w, the Nyquist column w / 2 are their own mirror images and can
    break the symmetry. The layer's output does not change where ``irfft2`` drops the other part
    (CPU); cuFFT's complex-to-real transform requires the symmetry.

    Args:
        weight: Filter, (h, w // 2 + 1, dim, 2).
        size: Map size (h, w) of the filter.

    Returns:
        Filter of the same shape.
    """
    check_filter(weight, size)
    h, w = size
    first, inner, last = weight.split([1, (w - 1) // 2, (w + 1) % 2], dim=1)
    first, last = ((column + _mirror_rows(column)) / 2 for column in (first, last))
    return torch.cat([first, inner, last], dim=1)


def resize_filter(
    weight: Tensor, size: Size, new_size: Size, mode: str = "trigonometric"
) -> Tensor:
    """Resize a global filter from maps of one size to maps of another; gains are never rescaled.

    - ``trigonometric`` keeps the convolution kernel in pixels: the centered kernel is padded with
      zeros along an axis that grows and folded (tap n to n mod H) along one that shrinks; the tap
      at h / 2 of an even axis is split between both ends. In frequency this is interpolation with
      the Dirichlet kernel.
    - ``spectral_pad`` keeps the kernel relative to the image: frequencies that the new map adds
      get the gain 0, those that it lacks are dropped; the Nyquist bin of an even axis is split
      between both signs, or averaged over them. Right where the image is an upsampling.
    - ``bilinear`` and ``bicubic`` interpolate the raw half spectrum with aligned corners, bit for
      bit as published (GFNet, HorNet, mmpretrain): to reproduce results and checkpoints that were
      fine-tuned so. The grids are misaligned and the result is not exactly that of a real kernel.

    Args:
        weight: Filter, (h, w // 2 + 1, dim, 2), float32 or float64.
        size: Map size (h, w) of the filter.
        new_size: Map size (H, W) wanted.
        mode: One of the above.

    Returns:
        Filter, (H, W // 2 + 1, dim, 2), same dtype; ``weight`` itself if the size is the same.
        ``trigonometric`` and ``spectral_pad`` give the filter of a real kernel, whatever ``weight``
        was, see :func:`symmetrize_filter`.

    Raises:
        InputError: For an unknown mode.
        ValueError: For a weight that does not fit ``size``.
    """
    with full_precision(weight.device):
        resized = filter_resizer(weight, size, new_size, mode)
        return weight if tuple(size) == tuple(new_size) else resized(slice(None))


def filter_resizer(
    weight: Tensor, size: Size, new_size: Size, mode: str
) -> Callable[[slice], Tensor]:
    """Return a function that gives :func:`resize_filter` for a group of channels, a slice.

    For maps so large that all filters at once would not fit memory. To be used without autocast.
    """
    check_resize_mode(mode)
    check_filter(weight, size)
    if tuple(size) == tuple(new_size):
        return lambda group: weight[:, :, group]
    if mode in ("bilinear", "bicubic"):
        return lambda group: _interpolate_half_spectrum(weight[:, :, group], new_size, mode)
    matrix = trigonometric_matrix if mode == "trigonometric" else spectral_pad_matrix
    return _resize_separably(weight, size, new_size, matrix)


def _interpolate_half_spectrum(weight: Tensor, new_size: Size, mode: str) -> Tensor:
    """Interpolate the stored grid as an image, as published."""
    H, W = new_size
    grid = weight.flatten(2).permute(2, 0, 1)[None]  # (1, dim * 2, h, w // 2 + 1)
    grid = F.interpolate(grid, size=(H, W // 2 + 1), mode=mode, align_corners=True)
    return grid[0].permute(1, 2, 0).reshape(H, W // 2 + 1, -1, 2)


def _resize_separably(
    weight: Tensor, size: Size, new_size: Size, matrix: Callable[[int, int], np.ndarray]
) -> Callable[[slice], Tensor]:
    """Apply one real matrix to each axis: K' = A_h (K B1 + M B2), M[r, j] = conj K[-r, j].

    K B1 + M B2 is A_w applied to the two-sided columns, of which only half is stored: column
    w - j is the mirror of column j. The self-mirrored columns enter with one half from each side,
    which symmetrizes them. They are done at once, the rows group by group.
    """
    (h, w), (H, W) = size, new_size
    half, new_half, dim = w // 2 + 1, W // 2 + 1, weight.shape[2]

    def constant(array: np.ndarray) -> Tensor:
        return torch.tensor(array, dtype=weight.dtype, device=weight.device)

    flat = weight.reshape(h, half, dim * 2)
    mirror = _mirror_rows(weight).reshape(h, half, dim * 2)
    both = torch.cat([flat, mirror], dim=1)
    columns = constant(_column_matrix(w, W, matrix)) @ both  # (h, W', dim * 2)
    # Channels first in memory, as the layer wants it: cheaper here than on the larger result.
    columns = columns.reshape(h, new_half, dim, 2).permute(2, 0, 1, 3).flatten(2)
    rows = constant(matrix(h, H))

    def resize(group: slice) -> Tensor:
        resized = rows @ columns[group]  # (group, H, W' * 2)
        return resized.reshape(-1, H, new_half, 2).permute(1, 2, 0, 3)

    return resize


@lru_cache(maxsize=256)
def _column_matrix(w: int, W: int, matrix: Callable[[int, int], np.ndarray]) -> np.ndarray:
    """Return B1 and B2, transposed and side by side: (W // 2 + 1, 2 * (w // 2 + 1))."""
    half = w // 2 + 1
    two_sided = matrix(w, W)[: W // 2 + 1]
    direct = two_sided[:, :half].copy()
    mirrored = np.zeros_like(direct)
    mirrored[:, 1 : w - half + 1] = two_sided[:, : half - 1 : -1]
    for column in [0, w // 2] if w % 2 == 0 else [0]:
        direct[:, column] /= 2
        mirrored[:, column] = direct[:, column]
    return np.concatenate([direct, mirrored], axis=1)


def _mirror_rows(weight: Tensor) -> Tensor:
    """Return conj K[(-r) % h, c] of K = ``weight``, (h, c, dim, 2)."""
    mirrored = weight.flip(0).roll(1, 0)
    return torch.stack([mirrored[..., 0], -mirrored[..., 1]], dim=-1)


@lru_cache(maxsize=256)
def trigonometric_matrix(n: int, m: int) -> np.ndarray:
    """Return the (m, n) matrix that takes n DFT samples of a centered kernel to m samples.

    A[k', k] = D_n(2 pi (k / n - k' / m)) / n with the Dirichlet kernel D_n(t) = sin(n t / 2) /
    sin(t / 2) for odd n and sin(n t / 2) / tan(t / 2) for even n (whose tap n / 2 is split in two
    halves). Arguments are reduced in integers, so A is exact at its zeros and for m = n.

    Returns:
        Read-only float64 array, (m, n). NumPy's, since a tensor first made in inference mode could
        not be used in training.
    """
    # t / 2 = pi * j / (n * m). D_n has the period n * m in j, the numerator 2 * m: both are taken
    # around 0, where a sine is as exact as its argument.
    j = np.arange(n)[None, :] * m - np.arange(m)[:, None] * n
    j = (j + n * m // 2) % (n * m) - n * m // 2
    numerator = np.sin(np.pi * ((j + m) % (2 * m) - m) / m)
    numerator[j % m == 0] = 0.0
    angle = np.pi * j / (n * m)
    peak = j == 0
    denominator = np.sin(angle) if n % 2 else np.tan(angle)
    matrix = np.where(peak, 1.0, numerator / np.where(peak, 1.0, denominator * n))
    matrix.flags.writeable = False
    return matrix


@lru_cache(maxsize=256)
def spectral_pad_matrix(n: int, m: int) -> np.ndarray:
    """Return the (m, n) matrix that keeps the bins both grids have and fills others with 0.

    Returns:
        Read-only float64 array, (m, n).
    """
    matrix = np.zeros((m, n))
    limit = (min(n, m) - 1) // 2
    for k in range(-limit, limit + 1):
        matrix[k % m, k % n] = 1.0
    nyquist = min(n, m) // 2
    if min(n, m) % 2 == 0:  # at +nyquist and -nyquist, which are one bin of the smaller grid
        for k in (nyquist, -nyquist):
            matrix[k % m, k % n] = 1.0 if n == m else 0.5
    matrix.flags.writeable = False
    return matrix


def resize_position_embedding(embedding: Tensor, size: Size, new_size: Size) -> Tensor:
    """Resize a position embedding by bicubic interpolation, as the authors do.

    Args:
        embedding: (1, h * w, dim).
        size: Grid (h, w) of the embedding.
        new_size: Grid (H, W) wanted.

    Returns:
        (1, H * W, dim); ``embedding`` itself if the grid is the same.
    """
    if tuple(size) == tuple(new_size):
        return embedding
    grid = embedding.reshape(1, *size, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=tuple(new_size), mode="bicubic", align_corners=False)
    return grid.permute(0, 2, 3, 1).flatten(1, 2)
