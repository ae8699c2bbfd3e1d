"""What a GFNet has learned: its filters, how far its outputs see, what they tell apart."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from .models.base import GFNetBackbone
from .models.gfnet_isotropic import PATCH_SIZE, IsotropicGFNet
from .models.global_filter import GlobalFilter
from .models.resample import Size
from .pictures import save_figure

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of ImageNet, RGB, 0..255
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
    """Return the convolution kernel of a filter, (dim, h, w), the centre in the middle."""
    response = layer.response(layer.size, torch.float64)
    return torch.fft.fftshift(torch.fft.irfft2(response, s=layer.size), dim=(1, 2))


def receptive_field(backbone: GFNetBackbone, images: Tensor) -> list[Tensor]:
    """Return how much each pixel of an image matters for the middle of each output.

    The absolute gradient of the middle output position, summed over colours, averaged over images,
    with 1 as its largest value (Luo et al., https://arxiv.org/abs/1701.04128). Of the channels a
    random sum is taken: behind a fresh norm the plain one does not depend on the image.

    Args:
        backbone: In evaluation mode.
        images: (B, 3, H, W), normalised.

    Returns:
        (H, W) of each output.
    """
    fields, generator = [], torch.Generator().manual_seed(0)
    images = images.detach().requires_grad_(True)
    outputs = backbone(images)
    for i, out in enumerate(outputs):
        middle = out[:, :, out.shape[2] // 2, out.shape[3] // 2]
        weights = torch.randn(middle.shape, generator=generator).to(middle)
        last = i == len(outputs) - 1
        (gradient,) = torch.autograd.grad((middle * weights).sum(), images, retain_graph=not last)
        field = gradient.abs().sum(1).mean(0)
        fields.append(field / field.max())
    return fields


def reach(field: Tensor, share: float = 0.5) -> float:
    """Return which part of the image the pixels have that make up ``share`` of a field's sum."""
    values = field.flatten().double().sort(descending=True).values.cumsum(0)
    return (int((values < share * values[-1]).sum()) + 1) / field.numel()


def principal_components(out: Tensor) -> Tensor:
    """Return the first three principal components of a map as colours.

    Args:
        out: (dim, H, W).

    Returns:
        (H, W, 3), 0..1, each component stretched between its 1st and 99th percentile.
    """
    dim, H, W = out.shape
    pixels = out.flatten(1).t().double()
    pixels = pixels - pixels.mean(0)
    _, vectors = torch.linalg.eigh(pixels.t() @ pixels)  # ascending
    parts = pixels @ vectors[:, -3:].flip(1)
    # Which way a component points is chance: its largest weight is positive.
    largest = vectors[:, -3:].flip(1).abs().argmax(0)
    parts = parts * vectors[:, -3:].flip(1)[largest, torch.arange(parts.shape[1])].sign()
    low, high = parts.quantile(torch.tensor([0.01, 0.99], dtype=parts.dtype), dim=0)
    scaled = ((parts - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
    scaled = F.pad(scaled, (0, 3 - scaled.shape[1]))
    return scaled.reshape(H, W, 3)


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
            "kernel in pixels: red positive, blue negative, centre in the middle",
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


def draw_receptive_fields(
    fields: Sequence[Tensor], strides: Sequence[int], title: str, path: Path
) -> None:
    """Draw the receptive field of each output, on a logarithmic scale."""
    H, W = fields[0].shape
    figure = Figure(figsize=(3.6 * len(fields) + 0.9, 3.6 * H / W + 1.1), layout="constrained")
    axes = figure.subplots(1, len(fields), squeeze=False)[0]
    for axis, field, stride in zip(axes, fields, strides, strict=True):
        shades = (field.double().clamp(min=1e-4)).log10()
        image = axis.imshow(shades, cmap="magma", vmin=-4, vmax=0)
        axis.set_title(f"stride {stride}\nhalf of it in {reach(field):.1%} of the pixels")
        axis.set(xticks=[], yticks=[])
    bar = figure.colorbar(image, ax=list(axes), fraction=0.03, pad=0.01)
    bar.set_label("gradient over its maximum, log10")
    figure.suptitle(title)
    save_figure(figure, path)


def draw_features(
    images: Sequence[np.ndarray],
    outputs: Sequence[Sequence[Tensor]],
    strides: Sequence[int],
    title: str,
    path: Path,
) -> None:
    """Draw images beside the principal components of each output.

    Args:
        images: (H, W, 3), uint8, RGB.
        outputs: Of each image the maps (dim, H, W).
        strides: Of the maps.
        title: What the picture says it is of.
        path: The PNG file.
    """
    ratio = np.median([image.shape[0] / image.shape[1] for image in images])
    columns = len(strides) + 1
    figure = Figure(figsize=(3 * columns, 3 * ratio * len(images) + 0.9), layout="constrained")
    axes = figure.subplots(len(images), columns, squeeze=False)
    for axis, name in zip(axes[0], ["image", *(f"stride {s}" for s in strides)], strict=True):
        axis.set_title(name)
    for row, image, maps in zip(axes, images, outputs, strict=True):
        row[0].imshow(image)
        for axis, out in zip(row[1:], maps, strict=True):
            axis.imshow(principal_components(out), interpolation="nearest")
    for axis in axes.flat:
        axis.set_axis_off()
    figure.suptitle(title)
    save_figure(figure, path)


def normalise(image: np.ndarray, size: Size | None = None) -> Tensor:
    """Return an image (H, W, 3), uint8, RGB, as a normalised (1, 3, H, W), resized if wanted."""
    x = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
    if size is not None and size != tuple(x.shape[2:]):
        x = F.interpolate(x, size=size, mode="bilinear", antialias=True)
    return (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def strides_of(backbone: GFNetBackbone) -> list[int]:
    """Return the strides of the outputs of a backbone."""
    if isinstance(backbone, IsotropicGFNet):
        return [PATCH_SIZE] * len(backbone.out_indices)
    return [4 * 2**i for i in backbone.out_indices]
