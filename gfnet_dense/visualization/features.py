"""Figures of backbone outputs: their principal components as colors."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from gfnet_dense.models.backbones.base import FilterBackbone
from gfnet_dense.models.backbones.isotropic import PATCH_SIZE, IsotropicGFNet
from gfnet_dense.utils.types import Size

from .figures import save_figure

# ImageNet's mean and standard deviation of RGB values in 0..255
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def principal_components(out: Tensor) -> Tensor:
    """Return the first three principal components of a feature map as colors.

    Args:
        out: Feature map, (dim, H, W).

    Returns:
        (H, W, 3), float64, 0..1: each component is scaled so that its 1st and 99th percentile
        become 0 and 1, then clipped. With fewer than three channels the rest is 0.
    """
    _, H, W = out.shape
    pixels = out.flatten(1).t().double()
    pixels = pixels - pixels.mean(0)
    _, vectors = torch.linalg.eigh(pixels.t() @ pixels)
    axes = vectors[:, -3:].flip(1)  # eigh sorts eigenvalues in ascending order
    parts = pixels @ axes
    # The sign of an eigenvector is arbitrary: its largest weight is made positive.
    largest = axes.abs().argmax(0)
    parts = parts * axes[largest, torch.arange(parts.shape[1])].sign()
    low, high = parts.quantile(torch.tensor([0.01, 0.99], dtype=parts.dtype), dim=0)
    scaled = ((parts - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
    scaled = F.pad(scaled, (0, 3 - scaled.shape[1]))
    return scaled.reshape(H, W, 3)


def draw_features(
    images: Sequence[np.ndarray],
    outputs: Sequence[Sequence[Tensor]],
    strides: Sequence[int],
    title: str,
    path: Path,
) -> None:
    """Draw a row for each image: the image, then the principal components of each feature map.

    Args:
        images: Images (H, W, 3), uint8, RGB.
        outputs: For each image, the feature maps (dim, h, w) of a backbone.
        strides: Strides of the feature maps, for the titles of the columns.
        title: Title of the figure.
        path: The PNG file to write.
    """
    ratio = float(np.median([image.shape[0] / image.shape[1] for image in images]))
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


def normalize(image: np.ndarray, size: Size | None = None) -> Tensor:
    """Normalize an image, after resizing it if a size is given.

    RGB is normalized as for ImageNet models; other numbers of bands, each by its own mean and
    standard deviation in the image, since a file of weights does not tell those of the training.

    Args:
        image: (H, W, bands), three of which are RGB, uint8.
        size: Size to resize to, (H, W).

    Returns:
        (1, bands, H, W), float32.
    """
    x = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
    if size is not None and size != tuple(x.shape[2:]):
        x = F.interpolate(x, size=size, mode="bilinear", antialias=True)
    if x.shape[1] != 3:
        std, mean = torch.std_mean(x, dim=(2, 3), keepdim=True)
        return (x - mean) / std.clamp(min=1e-6)
    return (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def strides_of(backbone: FilterBackbone) -> list[int]:
    """Return the stride of each output of a backbone, in pixels."""
    if isinstance(backbone, IsotropicGFNet):
        return [PATCH_SIZE] * len(backbone.out_indices)
    return [4 * 2**i for i in backbone.out_indices]
