"""Writing predictions: overlays for people, label maps and COCO's JSON for programs."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.structures import BaseDataElement, InstanceData
from torch import Tensor

from gfnet_dense.utils.atomic_write import atomic_write
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.types import Size
from gfnet_dense.visualization.overlays import add_legend, overlay_instances, overlay_labels

from .inputs import InputFile

SHOWN_SCORE = 0.3  # minimum score of the boxes in overlays, as in mmdetection
LEGEND_OF_VIDEO = 8  # maximum number of classes in the legend of a frame, most frequent first


def class_indices(names: Sequence[str], classes: Sequence[str]) -> list[int]:
    """Return the index in ``classes`` of each name.

    Raises:
        InputError: If a name is not in ``classes``.
    """
    unknown = [name for name in names if name not in classes]
    if unknown:
        raise InputError(
            f"the model has no class {unknown[0]!r}, it has: {', '.join(map(str, classes))}"
        )
    return [list(classes).index(name) for name in names]


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
        sample: The prediction, as :func:`.inference.predict` yields it.
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
            chosen &= sum(instances.labels == index for index in shown).bool()
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


def label_map(sample: BaseDataElement) -> np.ndarray:
    """Return the class indices (H, W) of a segmented image, uint8, or uint16 if any exceeds 255."""
    labels = sample.pred_sem_seg.data[0].numpy()
    return labels.astype(np.uint8 if labels.max(initial=0) < 256 else np.uint16)


class CocoResults:
    """Detections in COCO's annotation format (https://cocodataset.org/#format-data).

    Annotations have a ``score`` in addition. Categories are numbered from 1, in the order of the
    model's classes.

    Args:
        classes: Names of the model's classes.
    """

    def __init__(self, classes: Sequence[str]):
        # The attributes are the keys of the file.
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.categories = [dict(id=i + 1, name=str(name)) for i, name in enumerate(classes)]

    def add(self, file: InputFile, size: Size, instances: InstanceData) -> None:
        """Add an image and its detections.

        Args:
            file: The image.
            size: Size of the image, (H, W).
            instances: Detections with ``bboxes`` in pixels of the image, ``labels``, ``scores`` and
                perhaps ``masks``.
        """
        image_id = len(self.images) + 1
        name = file.name.with_name(file.path.name)
        self.images.append(dict(id=image_id, file_name=str(name), height=size[0], width=size[1]))
        for i, (box, label, score) in enumerate(
            zip(instances.bboxes, instances.labels, instances.scores, strict=True)
        ):
            x1, y1, x2, y2 = (round(float(n), 2) for n in box)
            annotation = dict(
                id=len(self.annotations) + 1,
                image_id=image_id,
                category_id=int(label) + 1,
                bbox=[x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)],
                area=round((x2 - x1) * (y2 - y1), 2),
                score=round(float(score), 4),
                iscrowd=0,
            )
            if "masks" in instances:
                annotation |= _encode_mask(instances.masks[i])
            self.annotations.append(annotation)

    def write(self, path: Path) -> None:
        """Write the JSON file, whole or not at all."""
        with atomic_write(path) as part:
            part.write_text(json.dumps(vars(self)))


def _encode_mask(mask: Tensor | np.ndarray) -> dict[str, Any]:
    """Return the run-length encoding of a mask (H, W) as ``segmentation``, and its ``area``."""
    from pycocotools import mask as coco

    code = coco.encode(np.asfortranarray(np.asarray(mask).astype(np.uint8)))
    return dict(
        segmentation=dict(size=list(code["size"]), counts=code["counts"].decode()),
        area=int(coco.area(code)),
    )
