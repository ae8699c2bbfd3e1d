"""Images with predictions or annotations drawn over them."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

READABLE_WIDTH = 512  # pixels of a picture on which names and scores are written
NOT_LABELED = (0, 0, 0)  # of pixels in overlays


def overlay_labels(
    image: np.ndarray,
    labels: np.ndarray,
    metainfo: dict,
    opacity: float = 0.65,
    shown: Sequence[int] | None = None,
) -> np.ndarray:
    """Return an image with the colors of a label map; dark where there is no label.

    Args:
        image: (H, W, 3), uint8, RGB.
        labels: (H, W), integers from 0.
        metainfo: The dataset's, with ``palette``.
        opacity: Of the colors, 0..1.
        shown: Classes to color, by number; the image stays as it is elsewhere. All if None.
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


def add_legend(image: np.ndarray, legend: dict[str, tuple], rows: int | None = None) -> np.ndarray:
    """Return an image with names and colors on a white strip below.

    Args:
        image: (H, W, 3), uint8, RGB.
        legend: RGB color, 0..255, by name.
        rows: Height of the strip in rows of names; as many as it takes if None.
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
    image: np.ndarray, instances, metainfo: dict, opacity: float = 0.4
) -> np.ndarray:
    """Return an image with boxes, names, scores and masks; a small one is enlarged to be readable.

    Args:
        image: (H, W, 3) uint8, RGB.
        instances: mmdet's InstanceData with ``bboxes`` and ``labels`` and, where they are known,
            ``scores`` and ``masks``.
        metainfo: The dataset's, with ``classes`` and ``palette``.
        opacity: Of the masks, 0..1.
    """
    from mmdet.structures import DetDataSample
    from mmdet.visualization import DetLocalVisualizer

    visualizer = DetLocalVisualizer(line_width=2, alpha=opacity)
    visualizer.dataset_meta = metainfo
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


def _enlarge(instances, factor: int):
    """Return mmdet's InstanceData for an image that is ``factor`` times as large."""
    enlarged = instances.clone()
    enlarged.bboxes = getattr(instances.bboxes, "tensor", instances.bboxes) * factor
    if "masks" in instances:
        masks = instances.masks
        masks = np.asarray(masks if isinstance(masks, torch.Tensor) else masks.to_ndarray())
        enlarged.masks = torch.from_numpy(masks.repeat(factor, 1).repeat(factor, 2))
    return enlarged


def class_colors(metainfo: dict, present: set[int]) -> dict[str, tuple]:
    """Return the colors by name of those classes of a dataset that are ``present``."""
    classes, palette = metainfo["classes"], metainfo["palette"]
    return {classes[i]: tuple(palette[i]) for i in sorted(present) if i < len(classes)}
