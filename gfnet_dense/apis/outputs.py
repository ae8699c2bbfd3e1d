"""Writing predictions: overlays for people, label maps and COCO's JSON for programs."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.structures import BaseDataElement

from gfnet_dense.utils.atomic_write import atomic_write
from gfnet_dense.utils.errors import InputError
from gfnet_dense.visualization.overlays import add_legend, overlay_instances, overlay_labels

from .inputs import InputFile

SHOWN_SCORE = 0.3  # of boxes in overlays, as mmdetection's
LEGEND_OF_VIDEO = 8  # names, those of the most pixels


def class_indices(names: Sequence[str], classes: Sequence[str]) -> list[int]:
    """Return the numbers of classes by name.

    Raises:
        InputError: For a name that is none of ``classes``.
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
    metainfo: dict,
    opacity: float,
    shown: Sequence[int] | None = None,
    is_frame: bool = False,
) -> np.ndarray:
    """Return an image with its prediction, and a legend below if that has labels.

    Args:
        image: (H, W, 3), uint8, RGB.
        sample: Of :func:`.predict.predict`.
        metainfo: The model's ``dataset_meta``.
        opacity: Of colors and masks, 0..1.
        shown: Numbers of the classes to draw; all if None.
        is_frame: Of a video, whose legend always has the same height.
    """
    if "pred_instances" in sample:
        instances = sample.pred_instances
        chosen = instances.scores >= SHOWN_SCORE
        if shown is not None:
            chosen &= sum(instances.labels == number for number in shown).bool()
        return overlay_instances(image, instances[chosen], metainfo, opacity)
    labels = label_map(sample)
    overlay = overlay_labels(image, labels, metainfo, opacity, shown)
    numbers, counts = np.unique(labels, return_counts=True)
    present = [i for i in numbers[np.argsort(-counts)] if shown is None or i in shown]
    if is_frame:
        present = present[:LEGEND_OF_VIDEO]
    classes, palette = metainfo["classes"], metainfo["palette"]
    legend = {str(classes[i]): tuple(palette[i]) for i in present if i < len(classes)}
    return add_legend(overlay, legend, LEGEND_OF_VIDEO // 2 if is_frame else None)


def label_map(sample: BaseDataElement) -> np.ndarray:
    """Return the labels (H, W) of a segmented image, uint8, or uint16 above 255."""
    labels = sample.pred_sem_seg.data[0].numpy()
    return labels.astype(np.uint8 if labels.max(initial=0) < 256 else np.uint16)


class CocoResults:
    """The boxes of images in COCO's annotation format (https://cocodataset.org/#format-data), with
    ``score``; categories are numbered from 1 in the order of the model's classes."""

    def __init__(self, classes: Sequence[str]):
        self.images, self.annotations = [], []
        self.categories = [dict(id=i + 1, name=str(name)) for i, name in enumerate(classes)]

    def add(self, photo: InputFile, size: tuple[int, int], instances) -> None:
        """Add what was found in an image of ``size`` (H, W), mmdet's InstanceData."""
        image_id = len(self.images) + 1
        name = photo.name.with_name(photo.path.name)
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
                annotation |= _mask(instances.masks[i])
            self.annotations.append(annotation)

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        with atomic_write(path) as part:
            part.write_text(json.dumps(vars(self)))


def _mask(mask) -> dict:
    """Return a mask (H, W) as COCO's run-length code, and its area."""
    from pycocotools import mask as coco

    code = coco.encode(np.asfortranarray(np.asarray(mask).astype(np.uint8)))
    return dict(
        segmentation=dict(size=list(code["size"]), counts=code["counts"].decode()),
        area=int(coco.area(code)),
    )
