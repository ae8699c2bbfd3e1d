"""Resizing the parameters that depend on the map size: global filters and position embedding.

Pure, differentiable functions of tensors, used both when weights are loaded and in ``forward``.

A filter is stored as the real tensor ``weight`` of shape (h, w // 2 + 1, dim, 2): real and
imaginary part of the half spectrum that ``torch.fft.rfft2`` returns for an (h, w) map. The half
spectrum does not tell an even from an odd w, so every function takes the full size as well.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.types import Size

from .precision import full_precision, transform_dtype
from .resize_matrices import apply_matrix

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
      the result is not exactly the filter of a real kernel. It covers the whole new map. Where
      ``torch.use_deterministic_algorithms`` is on, the values are the same up to rounding.

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
    return _resize_separably(weight, size, new_size, mode)


def _interpolate_half_spectrum(weight: Tensor, new_size: Size, mode: str) -> Tensor:
    """Interpolate the half spectrum as if it were an image, as published."""
    H, W = new_size
    grid = weight.flatten(2)  # (h, w // 2 + 1, dim * 2)
    if torch.are_deterministic_algorithms_enabled():
        grid = _interpolate(grid, (H, W // 2 + 1), f"{mode}_corners")
    else:
        grid = grid.permute(2, 0, 1)[None]
        grid = F.interpolate(grid, size=(H, W // 2 + 1), mode=mode, align_corners=True)
        grid = grid[0].permute(1, 2, 0)
    return grid.reshape(H, W // 2 + 1, -1, 2)


def _interpolate(grid: Tensor, new_size: Size, kind: str) -> Tensor:
    """Interpolate a grid (h, w, c) to ``new_size`` by matrices, as F.interpolate up to rounding.

    On a GPU the gradient of F.interpolate is a sum in any order, which PyTorch refuses when it is
    told to be deterministic (https://docs.pytorch.org/docs/stable/generated/
    torch.use_deterministic_algorithms.html).
    """
    (h, w, c), (H, W) = grid.shape, new_size
    grid = apply_matrix(kind, w, W, grid)
    return apply_matrix(kind, h, H, grid.reshape(h, W * c)).reshape(H, W, c)


def _resize_separably(
    weight: Tensor, size: Size, new_size: Size, mode: str
) -> Callable[[slice], Tensor]:
    """Return a function that resizes a group by one matrix for the rows and one for the columns.

    Only half of the columns is stored, see :func:`.columns_matrix`. The columns of all channels
    are resized here, the rows in the function.
    """
    (h, w), (H, W) = size, new_size
    half, new_half, dim = w // 2 + 1, W // 2 + 1, weight.shape[2]
    flat = weight.reshape(h, half, dim * 2)
    mirror = _mirror_rows(weight).reshape(h, half, dim * 2)
    columns = apply_matrix(f"{mode}_columns", w, W, torch.cat([flat, mirror], dim=1))
    # Channels first, the layout that the layer needs: cheaper here than on the larger result.
    columns = columns.reshape(h, new_half, dim, 2).permute(2, 0, 1, 3).flatten(2)

    def resize(group: slice) -> Tensor:
        resized = apply_matrix(mode, h, H, columns[group])  # (group, H, W' * 2)
        return resized.reshape(-1, H, new_half, 2).permute(1, 2, 0, 3)

    return resize


def _mirror_rows(weight: Tensor) -> Tensor:
    """Return conj K[(-r) % h, c] of K = ``weight``, (h, c, dim, 2)."""
    mirrored = weight.flip(0).roll(1, 0)
    return torch.stack([mirrored[..., 0], -mirrored[..., 1]], dim=-1)


def resize_position_embedding(embedding: Tensor, size: Size, new_size: Size) -> Tensor:
    """Resize a position embedding by bicubic interpolation, as the official release does.

    The values are those of F.interpolate up to rounding. Its gradient takes ten times longer on a
    CPU, and is refused by deterministic trainings on a GPU.

    Args:
        embedding: Position embedding, (1, h * w, dim), in any precision.
        size: Grid (h, w) of the embedding.
        new_size: Grid (H, W) wanted.

    Returns:
        Position embedding, (1, H * W, dim); ``embedding`` itself if the grid is the same.
    """
    if tuple(size) == tuple(new_size):
        return embedding
    with full_precision(embedding.device):
        grid = embedding.to(transform_dtype(embedding.dtype)).reshape(*size, -1)
        return _interpolate(grid, new_size, "bicubic").flatten(0, 1)[None].to(embedding.dtype)
