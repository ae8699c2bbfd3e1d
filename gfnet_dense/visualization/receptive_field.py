"""The effective receptive field of the outputs of a backbone."""

from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from gfnet_dense.models.backbones.base import GFNetBackbone

from .figures import save_figure


def receptive_field(backbone: GFNetBackbone, images: Tensor) -> list[Tensor]:
    """Return how much each pixel of an image matters for the middle of each output.

    The absolute gradient of the middle output position, summed over colors, averaged over images,
    with 1 as its largest value (Luo et al., https://arxiv.org/abs/1701.04128). Of the channels a
    random sum is taken: behind a fresh norm the plain one does not depend on the image.

    Args:
        backbone: In evaluation mode.
        images: (B, 3, H, W), normalized.

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
