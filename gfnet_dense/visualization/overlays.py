"""Images with predictions or annotations drawn over them."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.structures import InstanceData
from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]  # RGB, 0..255
READABLE_WIDTH = 512  # narrower images are enlarged up to this width to write on them, in pixels
NOT_LABELED = (0, 0, 0)  # RGB color of pixels without label in overlays


def overlay_labels(
    image: np.ndarray,
    labels: np.ndarray,
    metainfo: dict[str, Any],
    opacity: float = 0.65,
    shown: Sequence[int] | None = None,
) -> np.ndarray:
    """Blend an image with the colors of its label map.

    Pixels whose label has no color in the palette, such as the ignore index 255, become darker.

    Args:
        image: (H, W, 3), uint8, RGB.
        labels: Class indices, (H, W), integers of 0 and more.
        metainfo: Metainfo of the dataset, with ``palette``.
        opacity: Opacity of the colors, 0..1.
        shown: Indices of the classes to color; all other pixels keep their color. All if None.

    Returns:
        (H, W, 3), uint8, RGB.
    """
    colors = metainfo["palette"]
    count = max(int(labels.max(initial=0)) + 1, len(colors))
    palette = np.full((count, 3), NOT_LABELED, np.uint8)
    palette[: len(colors)] = colors
    image = np.ascontiguousarray(image)
    colored = cv2.addWeighted(palette[labels], opacity, image, 1 - opacity, 0)
    if shown is None:
        return colored
    return np.where(np.isin(labels, shown)[..., None], colored, image)


def add_legend(image: np.ndarray, legend: dict[str, Color], rows: int | None = None) -> np.ndarray:
    """Append a white strip with a legend below an image.

    Args:
        image: (H, W, 3), uint8, RGB.
        legend: RGB colors, 0..255, by name.
        rows: Height of the strip, as a number of rows of names; as high as needed if None.

    Returns:
        (H + height of the strip, W, 3), uint8, RGB.
    """
    width = image.shape[1]
    size = int(np.clip(width / 50, 12, 48))
    font = ImageFont.load_default(size)
    cell = int(max((font.getlength(name) for name in legend), default=0)) + 3 * size
    columns = max(width // cell, 1)
    if rows is None:
        rows = -(-len(legend) // columns)
    strip = Image.new("RGB", (width, int((rows + 0.5) * 1.5 * size)), "white")
    draw = ImageDraw.Draw(strip)
    for i, (name, color) in enumerate(legend.items()):
        x, y = i % columns * cell + size // 2, int((i // columns + 0.25) * 1.5 * size)
        box = (x, y + size // 8, x + size, y + size + size // 8)
        draw.rectangle(box, fill=color, outline="black")
        draw.text((x + 1.5 * size, y), name, fill="black", font=font)
    return np.concatenate([image, np.asarray(strip)])


def overlay_instances(
    image: np.ndarray, instances: InstanceData, metainfo: dict[str, Any], opacity: float = 0.4
) -> np.ndarray:
    """Draw boxes, class names, scores and masks over an image.

    Args:
        image: (H, W, 3), uint8, RGB.
        instances: Instances with ``bboxes`` in pixels of the image, ``labels``, and optionally
            ``scores`` and ``masks``.
        metainfo: Metainfo of the dataset, with ``classes`` and ``palette``.
        opacity: Opacity of the masks, 0..1.

    Returns:
        (n * H, n * W, 3), uint8, RGB; n is 1, or larger for narrow images, so that names and scores
        can be read.
    """
    from mmdet.structures import DetDataSample
    from mmdet.visualization import DetLocalVisualizer

    visualizer = DetLocalVisualizer(line_width=2, alpha=opacity)
    visualizer.dataset_meta = dict(metainfo)
    if isinstance(metainfo.get("palette"), (list, tuple)):  # or the name of one of mmdet's
        # mmdet draws boxes in colors that are tuples alone, and JSON has lists.
        visualizer.dataset_meta["palette"] = [tuple(color) for color in metainfo["palette"]]
    factor = max(1, READABLE_WIDTH // image.shape[1])
    predicted = "scores" in instances
    enlarged = {("pred" if predicted else "gt") + "_instances": _enlarge(instances, factor)}
    visualizer.add_datasample(
        "",
        image.repeat(factor, 0).repeat(factor, 1),
        DetDataSample(**enlarged),
        draw_gt=not predicted,
        draw_pred=predicted,
    )
    return visualizer.get_image()


def _enlarge(instances: InstanceData, factor: int) -> InstanceData:
    """Return a copy of instances for an image that is ``factor`` times as large."""
    enlarged = instances.clone()
    enlarged.bboxes = getattr(instances.bboxes, "tensor", instances.bboxes) * factor
    if "masks" in instances:
        masks = instances.masks
        masks = np.asarray(masks if isinstance(masks, torch.Tensor) else masks.to_ndarray())
        enlarged.masks = torch.from_numpy(masks.repeat(factor, 1).repeat(factor, 2))
    return enlarged


def class_colors(metainfo: dict[str, Any], present: set[int]) -> dict[str, Color]:
    """Return the RGB colors, by name, of the classes whose indices are in ``present``."""
    classes, palette = metainfo["classes"], metainfo["palette"]
    return {classes[i]: tuple(palette[i]) for i in sorted(present) if i < len(classes)}
