"""Resizing what a global filter network stores on a grid: filters and position embedding.

Pure functions of tensors, differentiable, used both when weights are loaded and in ``forward``.

A filter is stored as the real tensor ``weight`` of shape (h, w // 2 + 1, dim, 2): real and
imaginary part of the half spectrum that ``torch.fft.rfft2`` returns for an (h, w) map. The half
spectrum does not tell an even from an odd w, so every function takes the full size as well.
"""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError

Size = tuple[int, int]


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
    columns = [0, w // 2] if w % 2 == 0 else [0]
    selected = weight[:, columns]
    symmetric = (selected + _mirror_rows(selected)) / 2
    inner = weight[:, 1 : (w + 1) // 2]
    return torch.cat([symmetric[:, :1], inner, symmetric[:, 1:]], dim=1)


def resize_filter(
    weight: Tensor, size: Size, new_size: Size, mode: str = "trigonometric"
) -> Tensor:
    """Resize a global filter from maps of one size to maps of another.

    ``trigonometric`` keeps the convolution kernel in pixels: the centred kernel is padded with
    zeros along an axis that grows and folded (tap n to n mod H) along one that shrinks; the tap at
    h / 2 of an even axis is split between both ends. In frequency this is interpolation with the
    Dirichlet kernel, a real matrix for each axis (see :func:`trigonometric_matrix`).

    Args:
        weight: Filter, (h, w // 2 + 1, dim, 2), float32 or float64.
        size: Map size (h, w) of the filter.
        new_size: Map size (H, W) wanted.
        mode: ``trigonometric``.

    Returns:
        Filter, (H, W // 2 + 1, dim, 2), same dtype; ``weight`` itself if the size is the same.

    Raises:
        InputError: For an unknown mode.
        ValueError: For a weight that does not fit ``size``.
    """
    check_resize_mode(mode)
    check_filter(weight, size)
    if tuple(size) == tuple(new_size):
        return weight
    return FILTER_RESIZE_MODES[mode](weight, size, new_size)


def _resize_trigonometric(weight: Tensor, size: Size, new_size: Size) -> Tensor:
    """Trigonometric interpolation K' = A_h (K B1 + M B2), M[r, j] = conj K[-r, j].

    K B1 + M B2 is A_w applied to the two-sided columns, of which only half is stored: column
    w - j is the mirror of column j. The self-mirrored columns enter with one half from each side,
    which symmetrises them.
    """
    (h, w), (H, W) = size, new_size
    half, new_half, dim = w // 2 + 1, W // 2 + 1, weight.shape[2]

    def constant(matrix: np.ndarray) -> Tensor:
        return torch.tensor(matrix, dtype=weight.dtype, device=weight.device)

    matrix = trigonometric_matrix(w, W)[:new_half]  # (W', w)
    direct = matrix[:, :half].copy()
    mirrored = np.zeros_like(direct)
    mirrored[:, 1 : w - half + 1] = matrix[:, : half - 1 : -1]
    direct[:, 0] /= 2
    mirrored[:, 0] = direct[:, 0]
    if w % 2 == 0:
        direct[:, -1] /= 2
        mirrored[:, -1] = direct[:, -1]

    flat = weight.reshape(h, half, dim * 2)
    mirror = _mirror_rows(weight).reshape(h, half, dim * 2)
    columns = constant(direct) @ flat + constant(mirrored) @ mirror  # (h, W', dim * 2)
    rows = constant(trigonometric_matrix(h, H)) @ columns.reshape(h, new_half * dim * 2)
    return rows.reshape(H, new_half, dim, 2)


def _mirror_rows(weight: Tensor) -> Tensor:
    """Return conj K[(-r) % h, c] of K = ``weight``, (h, c, dim, 2)."""
    mirrored = weight.flip(0).roll(1, 0)
    return torch.stack([mirrored[..., 0], -mirrored[..., 1]], dim=-1)


@lru_cache(maxsize=256)
def trigonometric_matrix(n: int, m: int) -> np.ndarray:
    """Return the (m, n) matrix that takes n DFT samples of a centred kernel to m samples.

    A[k', k] = D_n(2 pi (k / n - k' / m)) / n with the Dirichlet kernel D_n(t) = sin(n t / 2) /
    sin(t / 2) for odd n and sin(n t / 2) / tan(t / 2) for even n (whose tap n / 2 is split in two
    halves). Arguments are reduced in integers, so A is exact at its zeros and for m = n.

    Returns:
        Read-only float64 array, (m, n). NumPy's, since a tensor first made in inference mode could
        not be used in training.
    """
    # t / 2 = pi * j / (n * m)
    j = np.arange(n)[None, :] * m - np.arange(m)[:, None] * n
    numerator = np.sin(np.pi * (j % (2 * m)) / m)
    numerator[j % m == 0] = 0.0
    angle = np.pi * (j % (2 * n * m)) / (n * m)
    peak = j % (n * m) == 0
    denominator = np.sin(angle) if n % 2 else np.tan(angle)
    matrix = np.where(peak, 1.0, numerator / np.where(peak, 1.0, denominator * n))
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


FILTER_RESIZE_MODES = {"trigonometric": _resize_trigonometric}
