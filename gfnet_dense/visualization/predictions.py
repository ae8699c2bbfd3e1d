"""Predictions as files: label maps, their key, and overlays."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.structures import BaseDataElement

from gfnet_dense.utils.atomic_write import atomic_write

from .overlays import add_legend, overlay_instances, overlay_labels

SHOWN_SCORE = 0.3  # minimum score of the boxes in overlays, as in mmdetection
LEGEND_OF_VIDEO = 8  # maximum number of classes in the legend of a frame, most frequent first


def without_logits(sample: BaseDataElement) -> BaseDataElement:
    """Return ground truth and prediction of a sample on the CPU, without its logits.

    Args:
        sample: mmseg's SegDataSample or mmdet's DetDataSample with ``img_path``.
    """
    kept = BaseDataElement(metainfo=dict(img_path=sample.img_path))
    for name in ("gt_sem_seg", "pred_sem_seg", "gt_instances", "pred_instances"):
        if name in sample:
            setattr(kept, name, getattr(sample, name))
    return kept.cpu()


def draw(
    image: np.ndarray,
    sample: BaseDataElement,
    metainfo: dict[str, Any],
    opacity: float,
    shown: Sequence[int] | None = None,
    is_frame: bool = False,
) -> np.ndarray:
    """Draw a prediction over its image; a segmentation gets a legend below.

    Args:
        image: (H, W, 3), uint8, RGB.
        sample: The prediction, as :func:`gfnet_dense.predict` yields it.
        metainfo: The model's ``dataset_meta``.
        opacity: Opacity of colors and masks, 0..1.
        shown: Indices of the classes to draw; all if None.
        is_frame: Whether the image is a frame of a video: all frames of a video need the same size,
            so the legend has a fixed height and at most ``LEGEND_OF_VIDEO`` classes.

    Returns:
        (H', W', 3), uint8, RGB; higher than the image with a legend, and a multiple of the image's
        size where small images with boxes are enlarged.
    """
    if "pred_instances" in sample:
        instances = sample.pred_instances
        chosen = instances.scores >= SHOWN_SCORE
        if shown is not None:
            chosen &= torch.isin(instances.labels, instances.labels.new_tensor(list(shown)))
        return overlay_instances(image, instances[chosen], metainfo, opacity)
    labels = label_map(sample)
    overlay = overlay_labels(image, labels, metainfo, opacity, shown)
    indices, counts = np.unique(labels, return_counts=True)
    present = [i for i in indices[np.argsort(-counts)] if shown is None or i in shown]
    if is_frame:
        present = present[:LEGEND_OF_VIDEO]
    classes, palette = metainfo["classes"], metainfo["palette"]
    legend = {str(classes[i]): tuple(palette[i]) for i in present if i < len(classes)}
    return add_legend(overlay, legend, LEGEND_OF_VIDEO // 2 if is_frame else None)


def label_map(sample: BaseDataElement, first: int = 0) -> np.ndarray:
    """Return the label map (H, W) of a segmented image, uint8, or uint16 if a number exceeds 255.

    Args:
        sample: mmseg's SegDataSample with ``pred_sem_seg``.
        first: Number of the first class.
    """
    labels = sample.pred_sem_seg.data[0].cpu().numpy() + first
    return labels.astype(np.uint8 if labels.max(initial=0) < 256 else np.uint16)


def write_key(classes: Sequence[str], path: Path, first: int = 0) -> None:
    """Write the numbers of a label map and the classes that they mean, one on each line.

    Args:
        classes: Names of the classes.
        path: The text file.
        first: Number of the first class.
    """
    with atomic_write(path) as part:
        lines = [f"{number} {name}\n" for number, name in enumerate(classes, first)]
        part.write_text("".join(lines), encoding="utf-8")
