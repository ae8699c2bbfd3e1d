"""Effective receptive fields of the outputs of a backbone."""

from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from gfnet_dense.models.backbones.base import FilterBackbone

from .figures import save_figure


def receptive_field(backbone: FilterBackbone, images: Tensor) -> list[Tensor]:
    """Return the effective receptive field of the middle position of each output.

    The field is the absolute gradient with respect to the image, summed over bands, averaged over
    images, and divided by its maximum (Luo et al., https://arxiv.org/abs/1701.04128). The gradient
    is of a sum of all channels with random weights: the plain sum is constant after a LayerNorm
    that is not trained yet, and has no gradient.

    Args:
        backbone: A backbone in evaluation mode.
        images: Normalized images, (B, bands, H, W).

    Returns:
        For each output, (H, W), 0..1.
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
    """Return the smallest fraction of all pixels whose values add up to ``share`` of the total.

    Args:
        field: A receptive field, (H, W).
        share: Fraction of the sum of the field, 0..1.

    Returns:
        A fraction of H * W pixels, 0..1; the smaller, the more local the field.
    """
    values = field.flatten().double().sort(descending=True).values.cumsum(0)
    return (int((values < share * values[-1]).sum()) + 1) / field.numel()


def draw_receptive_fields(
    fields: Sequence[Tensor], strides: Sequence[int], title: str, path: Path
) -> None:
    """Draw receptive fields side by side, on a logarithmic scale from 1e-4 to 1.

    Args:
        fields: Receptive fields (H, W), as returned by :func:`receptive_field`.
        strides: Stride of each output, for the titles.
        title: Title of the figure.
        path: The PNG file to write.
    """
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
