"""Pictures of global filters, in frequency and in space."""

from pathlib import Path
from textwrap import fill

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from gfnet_dense.models.backbones.base import GFNetBackbone
from gfnet_dense.models.layers.global_filter import GlobalFilter

from .figures import save_figure

CELL = 0.9  # inches of a filter
CHARACTER = 0.09  # inches of a letter of a caption


@torch.no_grad()
def magnitude(layer: GlobalFilter) -> Tensor:
    """Return the gain of every frequency, |K|, (dim, h, w), frequency 0 in the middle."""
    h, w = layer.size
    half = layer.response(layer.size, torch.float64)
    columns = torch.arange(w)
    mirrored = columns > w // 2  # K[-r, -c] = conj K[r, c]
    full = half[..., torch.where(mirrored, w - columns, columns)]
    rows = -torch.arange(h) % h
    full = torch.where(mirrored, full[:, rows], full)
    return torch.fft.fftshift(full.abs(), dim=(1, 2))


@torch.no_grad()
def kernel(layer: GlobalFilter) -> Tensor:
    """Return the convolution kernel of a filter, (dim, h, w), the center in the middle."""
    response = layer.response(layer.size, torch.float64)
    return torch.fft.fftshift(torch.fft.irfft2(response, s=layer.size), dim=(1, 2))


def named_filters(backbone: GFNetBackbone) -> list[tuple[str, GlobalFilter]]:
    """Return the filters of a backbone with ``stage 2, block 1``, or ``block 3``."""
    filters = []
    for name, module in backbone.named_modules():
        if isinstance(module, GlobalFilter):
            numbers = [int(part) + 1 for part in name.split(".") if part.isdigit()]
            words = ("stage", "block") if len(numbers) == 2 else ("block",)
            label = ", ".join(f"{w} {n}" for w, n in zip(words, numbers, strict=True))
            filters.append((label, module))
    return filters


def draw_filters(backbone: GFNetBackbone, title: str, path: Path, channels: int = 8) -> None:
    """Draw some filters of every layer, in frequency and in space.

    Args:
        backbone: Whose filters.
        title: What the picture says it is of.
        path: The PNG file.
        channels: How many of each layer, evenly spaced.
    """
    filters = named_filters(backbone)
    captions = [  # as broad as their columns
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
