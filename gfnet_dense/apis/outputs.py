"""Detections of many images in COCO's JSON format."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.structures import InstanceData
from torch import Tensor

from gfnet_dense.utils.atomic_write import atomic_write
from gfnet_dense.utils.types import Size

from .inputs import InputFile


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
