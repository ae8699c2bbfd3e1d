"""Resizing the parameters that depend on the map size: global filters and position embedding.

Pure, differentiable functions of tensors, used both when weights are loaded and in ``forward``.

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

# Accepted values of ``filter_resize``, described at resize_filter.
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
    """Project a filter onto the filters of real kernels, P K = (K[r, c] + conj K[-r, c]) / 2.

    Only column 0 and, for even w, the Nyquist column w / 2 are their own mirror images and can
    break the symmetry, so only these change. On a CPU ``irfft2`` ignores the part that breaks the
    symmetry, and the output of the layer stays the same. cuFFT's complex-to-real transform
    requires the symmetry.

    Args:
        weight: Filter, (h, w // 2 + 1, dim, 2).
        size: Map size (h, w) of the filter.

    Returns:
        Filter of the same shape.

    Raises:
        ValueError: For a weight that does not fit ``size``.
    """
    check_filter(weight, size)
    h, w = size
    first, inner, last = weight.split([1, (w - 1) // 2, (w + 1) % 2], dim=1)
    first, last = ((column + _mirror_rows(column)) / 2 for column in (first, last))
    return torch.cat([first, inner, last], dim=1)


def resize_filter(
    weight: Tensor, size: Size, new_size: Size, mode: str = "trigonometric"
) -> Tensor:
    """Resize a global filter from one map size to another, without rescaling its values.

    - ``trigonometric`` keeps the convolution kernel in pixels: the centered kernel is padded with
      zeros along an axis that grows and folded (tap n to n mod H) along one that shrinks. The tap
      at h / 2 of an even axis is split between both ends. In frequency this is interpolation with
      the Dirichlet kernel. A filter stored for h x w positions stays a kernel of h x w positions
      on every larger map: local there.
    - ``spectral_pad`` keeps the kernel relative to the image: frequencies that only the new map
      has get the response 0, frequencies that only the old map has are dropped. The Nyquist bin
      of an even axis is split between both signs, or averaged over them. This is right where the
      image has been upsampled.
    - ``bilinear`` and ``bicubic`` interpolate the raw half spectrum with aligned corners, bit for
      bit as published (GFNet, HorNet, mmpretrain), to reproduce results and to continue from
      checkpoints that were fine-tuned this way. The frequencies of both grids are misaligned, and
      the result is not exactly the filter of a real kernel. It covers the whole new map.

    Args:
        weight: Filter, (h, w // 2 + 1, dim, 2), float32 or float64.
        size: Map size (h, w) of the filter.
        new_size: Map size (H, W) wanted.
        mode: One of the above.

    Returns:
        Filter, (H, W // 2 + 1, dim, 2), same dtype; ``weight`` itself if the size is the same.
        When they change the size, ``trigonometric`` and ``spectral_pad`` return the filter of a
        real kernel for any ``weight``, see :func:`symmetrize_filter`.

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
    """Return a function that resizes a group of channels, a slice, as :func:`resize_filter` does.

    For maps so large that the filters of all channels together would not fit into memory. Make and
    call the function without autocast (:func:`.full_precision`).

    Args:
        weight: Filter, (h, w // 2 + 1, dim, 2), float32 or float64.
        size: Map size (h, w) of the filter.
        new_size: Map size (H, W) wanted.
        mode: See :func:`resize_filter`.

    Returns:
        Function from a slice of the channels to their filters, (H, W // 2 + 1, group, 2).

    Raises:
        InputError: For an unknown mode.
        ValueError: For a weight that does not fit ``size``.
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
    """Interpolate the half spectrum as if it were an image, as published."""
    H, W = new_size
    grid = weight.flatten(2).permute(2, 0, 1)[None]  # (1, dim * 2, h, w // 2 + 1)
    grid = F.interpolate(grid, size=(H, W // 2 + 1), mode=mode, align_corners=True)
    return grid[0].permute(1, 2, 0).reshape(H, W // 2 + 1, -1, 2)


def _resize_separably(
    weight: Tensor, size: Size, new_size: Size, matrix: Callable[[int, int], np.ndarray]
) -> Callable[[slice], Tensor]:
    """Return a function that resizes a group: K' = A_h (K B1 + M B2), M[r, j] = conj K[-r, j].

    A_h and A_w are the real matrices that ``matrix`` returns for the rows and the columns. Only
    half of the columns is stored; column w - j is the mirror of column j. K B1 + M B2 equals A_w
    applied to all w columns. Each self-mirrored column contributes one half through K and one half
    through M, which symmetrizes it. The columns of all channels are resized here, the rows in the
    function.
    """
    (h, w), (H, W) = size, new_size
    half, new_half, dim = w // 2 + 1, W // 2 + 1, weight.shape[2]

    def constant(array: np.ndarray) -> Tensor:
        return torch.tensor(array, dtype=weight.dtype, device=weight.device)

    flat = weight.reshape(h, half, dim * 2)
    mirror = _mirror_rows(weight).reshape(h, half, dim * 2)
    both = torch.cat([flat, mirror], dim=1)
    columns = constant(_column_matrix(w, W, matrix)) @ both  # (h, W', dim * 2)
    # Channels first, the layout that the layer needs: cheaper here than on the larger result.
    columns = columns.reshape(h, new_half, dim, 2).permute(2, 0, 1, 3).flatten(2)
    rows = constant(matrix(h, H))

    def resize(group: slice) -> Tensor:
        resized = rows @ columns[group]  # (group, H, W' * 2)
        return resized.reshape(-1, H, new_half, 2).permute(1, 2, 0, 3)

    return resize


@lru_cache(maxsize=256)
def _column_matrix(w: int, W: int, matrix: Callable[[int, int], np.ndarray]) -> np.ndarray:
    """Return [B1', B2'] of :func:`_resize_separably`, (W // 2 + 1, 2 * (w // 2 + 1)), float64."""
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
    """Return the matrix of trigonometric interpolation from n to m DFT samples of a real kernel.

    A[k', k] = D_n(2 pi (k / n - k' / m)) / n with the Dirichlet kernel D_n(t) = sin(n t / 2) /
    sin(t / 2) for odd n and sin(n t / 2) / tan(t / 2) for even n, where the tap n / 2 of the
    centered kernel is split into two halves. Arguments are reduced as integers, so A is exact at
    its zeros and for m = n.

    Returns:
        Read-only float64 array, (m, n). It is a NumPy array because it is cached: a tensor that
        was made in inference mode could not be used in training later.
    """
    # t / 2 = pi * j / (n * m). In j, D_n has the period n * m and its numerator the period 2 * m.
    # Both are reduced to the period around 0, where a sine is as exact as its argument.
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
    """Return the matrix that keeps the frequencies that n and m bins share and sets others to 0.

    Returns:
        Read-only float64 array, (m, n).
    """
    matrix = np.zeros((m, n))
    limit = (min(n, m) - 1) // 2
    for k in range(-limit, limit + 1):
        matrix[k % m, k % n] = 1.0
    nyquist = min(n, m) // 2
    if min(n, m) % 2 == 0:  # +nyquist and -nyquist are one bin of the smaller grid
        for k in (nyquist, -nyquist):
            matrix[k % m, k % n] = 1.0 if n == m else 0.5
    matrix.flags.writeable = False
    return matrix


def resize_position_embedding(embedding: Tensor, size: Size, new_size: Size) -> Tensor:
    """Resize a position embedding by bicubic interpolation, as the official release does.

    Args:
        embedding: Position embedding, (1, h * w, dim).
        size: Grid (h, w) of the embedding.
        new_size: Grid (H, W) wanted.

    Returns:
        Position embedding, (1, H * W, dim); ``embedding`` itself if the grid is the same.
    """
    if tuple(size) == tuple(new_size):
        return embedding
    grid = embedding.reshape(1, *size, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=tuple(new_size), mode="bicubic", align_corners=False)
    return grid.permute(0, 2, 3, 1).flatten(1, 2)
