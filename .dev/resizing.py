"""Measure which properties of a filter each resizing mode keeps, as a table and as a figure."""

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from gfnet_dense.models.utils.filter_resize import (
    FILTER_RESIZE_MODES,
    resize_filter,
    symmetrize_filter,
)
from gfnet_dense.utils.tables import format_table
from gfnet_dense.utils.types import Size

DIM = 16  # channels of the filters


def synthetic_filter(size: Size, seed: int = 0) -> Tensor:
    """Return a filter that resembles learned ones: radial background, noise, a spike at DC.

    Args:
        size: Map size (h, w).
        seed: Seed of all random numbers, such as the noise and the decay of each channel.

    Returns:
        Half spectrum of a real kernel, float64 of shape (h, w // 2 + 1, 16, 2).
    """
    rng = np.random.default_rng(seed)
    h, w = size
    radius = np.hypot(np.fft.fftfreq(h)[:, None], np.fft.rfftfreq(w)[None])
    weight = np.zeros((h, w // 2 + 1, DIM, 2))
    weight[..., 0] = np.exp(-radius[..., None] * rng.uniform(2, 12, DIM))
    weight += 0.1 * rng.standard_normal(weight.shape)
    weight[0, 0, :, 0] += rng.uniform(0, 3, DIM)
    return symmetrize_filter(torch.from_numpy(weight), size)


def _apply(weight: Tensor, size: Size, x: Tensor) -> Tensor:  # x: (dim, H, W)
    spectrum = torch.view_as_complex(weight.permute(2, 0, 1, 3).contiguous())
    return torch.fft.irfft2(torch.fft.rfft2(x) * spectrum, s=size)


def _error(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


def _image(size: Size) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(DIM, *size, dtype=torch.float64, generator=generator)


def _same_size(mode: str) -> float:
    weight = synthetic_filter((14, 14))
    return _error(resize_filter(weight, (14, 14), (14, 14), mode), weight)


def _dc_gain(mode: str) -> float:
    weight = synthetic_filter((14, 14))
    return _error(resize_filter(weight, (14, 14), (25, 42), mode)[0, 0], weight[0, 0])


def _tiling(mode: str) -> float:
    weight, x = synthetic_filter((14, 14)), _image((14, 14))
    large = resize_filter(weight, (14, 14), (28, 28), mode)
    expected = _apply(weight, (14, 14), x).repeat(1, 2, 2)
    return _error(_apply(large, (28, 28), x.repeat(1, 2, 2)), expected)


def _up_and_down(mode: str) -> float:
    weight = synthetic_filter((14, 14))
    up = resize_filter(weight, (14, 14), (32, 32), mode)
    return _error(resize_filter(up, (32, 32), (14, 14), mode), weight)


def _twice_is_once(mode: str) -> float:
    weight = synthetic_filter((14, 14))
    middle = resize_filter(weight, (14, 14), (25, 25), mode)
    twice = resize_filter(middle, (25, 25), (50, 84), mode)
    return _error(twice, resize_filter(weight, (14, 14), (50, 84), mode))


def _hermitian_columns(mode: str) -> float:
    resized = resize_filter(synthetic_filter((14, 14)), (14, 14), (25, 42), mode)
    columns = [0, 21]
    return _error(symmetrize_filter(resized, (25, 42))[:, columns], resized[:, columns])


def _vertical_flip(mode: str) -> float:
    weight = synthetic_filter((14, 14))
    weight = (weight + weight.flip(0).roll(1, 0)) / 2
    resized = symmetrize_filter(resize_filter(weight, (14, 14), (25, 42), mode), (25, 42))
    x = _image((25, 42))
    flipped = _apply(resized, (25, 42), x.flip(1)).flip(1)
    return _error(flipped, _apply(resized, (25, 42), x))


def _window(mode: str) -> float:
    weight, x = synthetic_filter((7, 7)), _image((25, 42))
    y = _apply(resize_filter(weight, (7, 7), (25, 42), mode), (25, 42), x)[:, 12, 21]
    return _error(y, _apply(weight, (7, 7), x[:, 9:16, 18:25])[:, 3, 3])


def _small_convolution(mode: str) -> float:
    taps = _image((3, 3))

    def filter_of(size: Size) -> Tensor:
        kernel = torch.zeros(DIM, *size, dtype=torch.float64)
        kernel[:, :3, :3] = taps
        spectrum = torch.fft.rfft2(kernel.roll((-1, -1), dims=(1, 2)))
        return torch.view_as_real(spectrum.permute(1, 2, 0).contiguous())

    resized = resize_filter(filter_of((14, 14)), (14, 14), (40, 40), mode)
    return _error(resized, filter_of((40, 40)))


# For each property, a function from a mode to the relative error with which the mode keeps it
PROPERTIES = {
    "same size: identity": _same_size,
    "gain at DC kept (14x14 to 25x42)": _dc_gain,
    "output on a 2x2 tiling of an image = tiling of the output (14 to 28)": _tiling,
    "up, then down, is the identity (14 to 32 to 14)": _up_and_down,
    "resizing twice = resizing once (14 to 25 to 50x84)": _twice_is_once,
    "self-mirrored columns stay Hermitian (14 to 25x42)": _hermitian_columns,
    "symmetry under vertical flips kept (14 to 25x42)": _vertical_flip,
    "output at a pixel = output for the training window around it (7 to 25x42)": _window,
    "a 3x3 convolution stays that convolution (14 to 40)": _small_convolution,
}


def measure_properties() -> dict[str, dict[str, float]]:
    """Return the relative error (Frobenius norms, float64) by property and by mode."""
    return {
        title: {mode: measure(mode) for mode in FILTER_RESIZE_MODES}
        for title, measure in PROPERTIES.items()
    }


def format_properties(table: dict[str, dict[str, float]]) -> str:
    """Return the errors of :func:`measure_properties` as a Markdown table."""
    rows = [["relative error", *FILTER_RESIZE_MODES]]
    for title, errors in table.items():
        cells = ["0" if e == 0 else f"{e:.0e}" if e < 1e-3 else f"{e:.2g}" for e in errors.values()]
        rows.append([title, *cells])
    return format_table(rows)


def draw_resized_filter(size: Size = (14, 14), new_size: Size = (40, 40)) -> Figure:
    """Draw the gain and the kernel of a synthetic filter before and after resizing in each mode.

    Args:
        size: Map size (h, w) for which the filter is stored.
        new_size: Map size to which it is resized.
    """
    weight = synthetic_filter(size, seed=3)[:, :, :1]
    columns = [(f"stored, {size[0]}x{size[1]}", weight, size)]
    for mode in FILTER_RESIZE_MODES:
        resized = symmetrize_filter(resize_filter(weight, size, new_size, mode), new_size)
        columns.append((f"{mode}, {new_size[0]}x{new_size[1]}", resized, new_size))
    figure = Figure(figsize=(2.6 * len(columns), 5.6), layout="constrained")
    axes = figure.subplots(2, len(columns))
    for (title, filter_, grid), (top, bottom) in zip(columns, axes.T, strict=True):
        kernel = torch.fft.irfft2(torch.view_as_complex(filter_[:, :, 0].contiguous()), s=grid)
        gain = torch.fft.fftshift(torch.fft.fft2(kernel).abs())
        centered = torch.fft.fftshift(kernel)
        kwargs = dict(cmap="viridis", vmin=-1.5, vmax=0.5)
        top.imshow(gain.clamp(min=1e-3).log10(), **kwargs)
        # All panels have the scale of the largest kernel; pixels outside a kernel stay empty.
        limit = float(torch.fft.irfft2(torch.view_as_complex(weight[:, :, 0]), s=size).abs().max())
        frame = np.full(new_size, np.nan)
        y, x = ((n - m) // 2 for n, m in zip(new_size, grid, strict=True))
        frame[y : y + grid[0], x : x + grid[1]] = centered
        bottom.imshow(frame, cmap="RdBu_r", vmin=-0.3 * limit, vmax=0.3 * limit)
        top.set_title(title, fontsize=10)
        for axis in (top, bottom):
            axis.set_xticks([])
            axis.set_yticks([])
    axes[0, 0].set_ylabel("gain |K|, DC in the middle\n(log scale)")
    axes[1, 0].set_ylabel("kernel in pixels,\ncentered")
    return figure
