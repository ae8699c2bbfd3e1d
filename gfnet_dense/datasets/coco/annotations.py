"""The annotations of a COCO file as arrays, and their faults.

A fault is a set of annotations with the words for it. mmdetection leaves most of these annotations
out without a word (``CocoDataset.parse_data_info`` and ``LoadAnnotations._process_masks`` in
onedl-mmdetection 3.5.1); pycocotools 2.0.11 counts them as objects that nobody finds.
"""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from .masks import FAR_OUTSIDE, check_mask, is_polygon

# Index of an annotation's image or class: the id is not in the file, or is no whole number.
UNKNOWN, MALFORMED = -2, -3
# Number of annotations whose polygons are looked at together: some tens of megabytes.
CHUNK = 2**15
# Label of a category that is in the file, and whose name is not among the classes of the config.
NOT_A_CLASS = -1

OTHER_CLASSES = "of classes that the config does not name"


class Fault(NamedTuple):
    """Annotations with the same fault.

    Attributes:
        words: The fault, as in 'annotations WORDS'.
        key: Key of the value that is shown as an example.
        flags: (N,) bool, whether each annotation has the fault.
        cure: What to do about it.
    """

    words: str
    key: str
    flags: np.ndarray
    cure: str = ""


class AnnotationArrays:
    """The annotations of a file as arrays of length N.

    Args:
        content: Content of a COCO file whose images and categories are without fault.
        classes: Class names of the config in their order.

    Attributes:
        image_index: Index of each annotation's image in the file, UNKNOWN or MALFORMED.
        label: Index of its class in the config, NOT_A_CLASS, UNKNOWN or MALFORMED.
        sizes: (N, 2) height and width of its image in pixels, 1 if there is none.
        boxes: (N, 4) float64 x, y, width and height in pixels, NaN if they are malformed.
        crowd: Whether it is a crowd region.
        ignore: Whether it has mmdetection's flag ``ignore``.
    """

    def __init__(self, content: dict, classes: Sequence[str]) -> None:
        self.annotations: list[dict] = content["annotations"]
        labels = {name: i for i, name in enumerate(classes)}
        self.image_index = self._look_up(
            "image_id", {image["id"]: i for i, image in enumerate(content["images"])}
        )
        self.label = self._look_up(
            "category_id",
            {each["id"]: labels.get(each["name"], NOT_A_CLASS) for each in content["categories"]},
        )
        # The negative numbers for missing images take the last rows.
        sizes = [(image["height"], image["width"]) for image in content["images"]]
        self.sizes = np.array([*sizes, *[(1, 1)] * 3], dtype=np.float64)[self.image_index]
        self.boxes = read_boxes([each.get("bbox") for each in self.annotations])
        self.crowd = self.flags(lambda each: bool(each.get("iscrowd")))
        self.ignore = self.flags(lambda each: bool(each.get("ignore")))

    def __len__(self) -> int:
        return len(self.annotations)

    def flags(self, test: Callable[[dict], bool]) -> np.ndarray:
        """Return (N,) bool, the result of a test for each annotation."""
        return np.fromiter(map(test, self.annotations), bool, len(self.annotations))

    def num_different(self) -> int:
        """Return the number of annotations that differ in image, class or box."""
        rows = np.column_stack([self.image_index, self.label, self.boxes])
        # A sum with random weights is the same for the same rows, and sorted faster than rows.
        weights = np.random.default_rng(0).random(rows.shape[1])
        return len(np.unique((rows * weights).sum(1)))

    def _look_up(self, key: str, index_of: dict) -> np.ndarray:
        ids = [annotation.get(key) for annotation in self.annotations]
        if set(map(type, ids)) != {int}:
            ids = [each if is_id(each) else None for each in ids]
        found = (MALFORMED if each is None else index_of.get(each, UNKNOWN) for each in ids)
        return np.fromiter(found, np.int64, len(ids))


def is_id(value: Any) -> bool:
    """Return whether a value is a whole number that NumPy holds in 64 bits, such as 1 and 1.0."""
    if type(value) is float:
        return value.is_integer() and abs(value) < 2**53
    return type(value) is int and abs(value) < 2**63


def read_boxes(boxes: list) -> np.ndarray:
    """Return boxes as (N, 4) float64, with NaN for those that are not four finite numbers."""
    # A whole file of good boxes, the usual case, is read in one step.
    if set(map(type, boxes)) == {list} and set(map(len, boxes)) == {4}:
        if set(map(type, chain.from_iterable(boxes))) <= {int, float}:
            try:
                flat = np.fromiter(chain.from_iterable(boxes), np.float64, 4 * len(boxes))
            except OverflowError:
                pass
            else:
                array = flat.reshape(-1, 4)
                return np.where(np.isfinite(array).all(1, keepdims=True), array, np.nan)
    rows = [read_boxes([box])[0] if _is_box(box) else (np.nan,) * 4 for box in boxes]
    return np.array(rows, dtype=np.float64).reshape(-1, 4)


def _is_box(box: Any) -> bool:
    return (
        isinstance(box, list)
        and len(box) == 4
        and all(type(n) in (int, float) and abs(n) < 1e300 for n in box)
    )


def id_faults(arrays: AnnotationArrays, categories: list[dict]) -> list[Fault]:
    """Return the annotations whose image or category cannot be told."""
    known = ", ".join(f"{each['id']} {each['name']}" for each in categories[:10])
    known += ", ..." if len(categories) > 10 else ""
    malformed = "which must be a whole number, without quotes"
    return [
        Fault(f"have no valid image_id, {malformed}", "image_id", arrays.image_index == MALFORMED),
        Fault(f"have no valid category_id, {malformed}", "category_id", arrays.label == MALFORMED),
        Fault(
            f"have a category_id that none of its categories has ({known})",
            "category_id",
            (arrays.label == UNKNOWN) & (arrays.image_index >= 0),
            "they would be left out without a word, and the others may be of wrong classes",
        ),
    ]


def value_faults(arrays: AnnotationArrays) -> list[Fault]:
    """Return the annotations, of the config's classes, with values of a wrong type."""
    of_class = (arrays.label >= 0) & (arrays.image_index >= 0)
    odd_crowd = arrays.flags(lambda each: each.get("iscrowd", 0) not in (0, 1))
    return [
        Fault("have a bbox that is not four numbers", "bbox",
              np.isnan(arrays.boxes[:, 0]) & of_class,
              "boxes are [x, y, width, height] in pixels"),
        Fault("have an iscrowd that is neither 0 nor 1", "iscrowd", odd_crowd & of_class),
    ]  # fmt: skip


def unused(arrays: AnnotationArrays, is_training: bool) -> list[Fault]:
    """Return the annotations that mmdetection leaves out, or that no prediction can match.

    Args:
        arrays: The annotations.
        is_training: Whether they are for training, where boxes of less than a pixel and
            annotations marked ``ignore`` are left out, too.
    """
    x, y, w, h = arrays.boxes.T
    height, width = arrays.sizes.T
    outside = (x >= width) | (y >= height) | (x + w <= 0) | (y + h <= 0)
    missed = "" if is_training else ", which count as missed"
    faults = [
        Fault("of images that are not in the file", "image_id", arrays.image_index < 0),
        Fault(OTHER_CLASSES, "category_id", arrays.label < 0),
        Fault(f"with a width or height of 0 or less{missed}", "bbox", (w <= 0) | (h <= 0)),
        Fault(f"outside of their picture{missed}", "bbox", outside),
    ]
    if is_training:
        faults += [
            Fault("less than a pixel wide or high", "bbox", (w < 1) | (h < 1)),
            Fault("marked with ignore", "ignore", arrays.ignore),
        ]
    return faults


def mask_faults(
    arrays: AnnotationArrays, relevant: np.ndarray, only_polygons: bool
) -> tuple[list[Fault], list[Fault]]:
    """Return annotations whose mask cannot be read, and annotations whose mask is left out.

    Args:
        arrays: The annotations.
        relevant: (N,) bool, annotations that are not left out for other reasons.
        only_polygons: Whether masks in run lengths are left out (``poly2mask=False``).

    Returns:
        Faults at which mmdetection or pycocotools would stop, and faults for which mmdetection
        makes crowd regions of the objects: masks without a polygon of three points.
    """
    missing, broken, thin, runs = (np.zeros(len(arrays), bool) for _ in range(4))
    for start in range(0, len(arrays), CHUNK):
        indices = start + np.flatnonzero(relevant[start : start + CHUNK])
        for i in _doubtful_masks(arrays, indices):
            mask: Any = arrays.annotations[i].get("segmentation")
            size = arrays.sizes[i]
            missing[i] = mask is None or mask == []
            thin[i] = isinstance(mask, list) and not missing[i] and not any(map(is_polygon, mask))
            runs[i] = only_polygons and isinstance(mask, dict)
            if not missing[i] and not thin[i]:
                try:
                    check_mask(mask, (int(size[0]), int(size[1])))
                except (OverflowError, TypeError, ValueError):
                    broken[i] = True
    without = "train a detector without masks, or take these annotations out"
    stops = [
        Fault("have no mask (segmentation)", "segmentation", missing, without),
        Fault(
            "have a mask that cannot be read", "segmentation", broken,
            "masks are polygons [[x1, y1, x2, y2, x3, y3, ...]] or run lengths of the picture's "
            "size",
        ),
    ]  # fmt: skip
    left_out = [
        Fault("with a mask that has no polygon of three points", "segmentation", thin),
        Fault("with a mask in run lengths, which poly2mask=False ignores", "segmentation", runs),
    ]
    return stops, left_out


def _doubtful_masks(arrays: AnnotationArrays, indices: np.ndarray) -> list[int]:
    """Return the indices of annotations whose masks need a look one by one.

    Polygons that are all good, the usual case, are recognized together, ten times as fast.
    """
    masks = [(i, arrays.annotations[i].get("segmentation")) for i in indices.tolist()]
    lists = [(i, mask) for i, mask in masks if isinstance(mask, list) and mask]
    polygons = [polygon for _, mask in lists for polygon in mask]
    if not all(map(is_polygon, polygons)):
        return indices.tolist()
    if not set(map(type, chain.from_iterable(polygons))) <= {int, float}:
        return indices.tolist()
    lengths = [sum(map(len, mask)) for _, mask in lists]
    try:
        numbers = np.fromiter(chain.from_iterable(polygons), np.float64, sum(lengths))
    except OverflowError:
        return indices.tolist()
    limits = FAR_OUTSIDE * arrays.sizes[[i for i, _ in lists]].max(1)
    if not (abs(numbers) <= np.repeat(limits, lengths)).all():
        return indices.tolist()
    return [i for i, mask in masks if not isinstance(mask, list) or not mask]
