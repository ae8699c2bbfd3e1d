"""Figures of global filters: frequency responses and convolution kernels."""

from pathlib import Path
from textwrap import fill

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from gfnet_dense.models.backbones.base import FilterBackbone
from gfnet_dense.models.layers.base_filter import BaseFilter

from .figures import save_figure

CELL = 0.9  # width and height of the picture of one filter, in inches
CHARACTER = 0.09  # average width of a character in a caption, in inches


@torch.no_grad()
def magnitude(layer: BaseFilter) -> Tensor:
    """Return the magnitude |K| of a filter's frequency response, with frequency 0 in the middle.

    Args:
        layer: A global filter that is stored for maps of h x w.

    Returns:
        (dim, h, w), float64: all frequencies, not only the half spectrum that is stored.
    """
    h, w = layer.size
    half = layer.response(layer.size, torch.float64)
    columns = torch.arange(w)
    # Columns outside the half spectrum: K[-r, -c] is the complex conjugate of K[r, c].
    mirrored = columns > w // 2
    full = half[..., torch.where(mirrored, w - columns, columns)]
    rows = -torch.arange(h) % h
    full = torch.where(mirrored, full[:, rows], full)
    return torch.fft.fftshift(full.abs(), dim=(1, 2))


@torch.no_grad()
def kernel(layer: BaseFilter) -> Tensor:
    """Return the convolution kernel of a filter, with its center in the middle.

    Args:
        layer: A global filter that is stored for maps of h x w.

    Returns:
        (dim, h, w), float64.
    """
    response = layer.response(layer.size, torch.float64)
    return torch.fft.fftshift(torch.fft.irfft2(response, s=layer.size), dim=(1, 2))


def named_filters(backbone: FilterBackbone) -> list[tuple[str, BaseFilter]]:
    """Return labels and filters of a backbone; a label is ``stage 2, block 1``, or ``block 3``."""
    filters = []
    for name, module in backbone.named_modules():
        if isinstance(module, BaseFilter):
            numbers = [int(part) + 1 for part in name.split(".") if part.isdigit()]
            words = ("stage", "block") if len(numbers) == 2 else ("block",)
            label = ", ".join(f"{w} {n}" for w, n in zip(words, numbers, strict=True))
            filters.append((label, module))
    return filters


def draw_filters(backbone: FilterBackbone, title: str, path: Path, channels: int = 8) -> None:
    """Draw some channels of every global filter: frequency responses left, kernels right.

    Args:
        backbone: The backbone whose filters are drawn, one row for each block.
        title: Title of the figure.
        path: The PNG file to write.
        channels: Number of channels to draw of each filter, evenly spaced; 2 or more.
    """
    filters = named_filters(backbone)
    captions = [  # wrapped to the width of the columns below
        fill(text, max(int(channels * CELL / CHARACTER), 12))
        for text in (
            "gain of each frequency, |K|: 0 in the middle, dark is 0",
            "kernel in pixels: red positive, blue negative, center in the middle",
        )
    ]
    header = 0.75 + 0.2 * max(text.count("\n") + 1 for text in captions)
    width, height = (2 * channels + 2.6) * CELL, len(filters) * CELL + header + 0.25
    figure = Figure(figsize=(width, height))
    axes = figure.subplots(
        len(filters),
        2 * channels + 1,
        squeeze=False,
        width_ratios=[1] * channels + [0.4] + [1] * channels,
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for row, (label, layer) in zip(axes, filters, strict=True):
        gains, kernels = magnitude(layer), kernel(layer)
        chosen = np.linspace(0, layer.dim - 1, channels).round().astype(int)
        for i, channel in enumerate(chosen):
            row[i].imshow(gains[channel], cmap="viridis", vmin=0)
            limit = float(kernels[channel].abs().max()) or 1.0
            row[channels + 1 + i].imshow(kernels[channel], cmap="RdBu_r", vmin=-limit, vmax=limit)
        h, w = layer.size
        row[0].text(
            -0.15, 0.5, f"{label}\n{h}x{w}", transform=row[0].transAxes, ha="right", va="center"
        )
    left, right, top = 1.9 * CELL / width, 0.995, 1 - header / height
    figure.subplots_adjust(left=left, right=right, top=top, bottom=0.02, wspace=0.06, hspace=0.06)
    figure.suptitle(title, y=1 - 0.12 / height, va="top", fontsize=14)
    for first, text in zip((0, channels + 1), captions, strict=True):
        begin, end = (axes[0][i].get_position() for i in (first, first + channels - 1))
        figure.text((begin.x0 + end.x1) / 2, top + 0.1 / height, text, ha="center", va="bottom")
    save_figure(figure, path)
