"""Loading transforms whose errors name the file, and checks of label maps while they are loaded."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from mmcv.transforms import LoadAnnotations, LoadImageFromFile
from PIL import Image, UnidentifiedImageError
from PIL.Image import DecompressionBombError as TooLarge

from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.images import check_header

from .coco_masks import check_mask


def guard_pipeline(dataset) -> None:
    """Make the loading transforms of a dataset name the file when something is wrong with it.

    Works on the built dataset, so that configs keep the stock transforms, by whose names the
    libraries' inferencers find them.

    Args:
        dataset: An OpenMMLab dataset, possibly inside wrappers.
    """
    inner = getattr(dataset, "datasets", None) or [getattr(dataset, "dataset", None)]
    if inner != [None]:
        for each in inner:
            guard_pipeline(each)
        return
    _guard_transforms(dataset.pipeline.transforms, dataset.metainfo)


def _guard_transforms(transforms: list, metainfo: dict) -> None:
    for i, transform in enumerate(transforms):
        if isinstance(transform, LoadImageFromFile):
            transforms[i] = _GuardedImage(transform)
        elif _is_of(transform, "mmseg"):
            transforms[i] = _GuardedSegMap(transform, metainfo)
        elif _is_of(transform, "mmdet"):
            transforms[i] = _GuardedInstances(transform)
        for inner in getattr(transform, "subroutines", ()):  # TestTimeAug
            _guard_transforms(inner.transforms, metainfo)


def _is_of(transform, library: str) -> bool:
    """Tell whether a transform loads annotations as a library does: indices of mmsegmentation are
    classes, those of mmdetection are not."""
    return isinstance(transform, LoadAnnotations) and any(
        base.__module__.startswith(f"{library}.") for base in type(transform).__mro__
    )


class _GuardedImage:
    """LoadImageFromFile whose errors name the file."""

    path_key = "img_path"

    def __init__(self, transform: Callable):
        self.transform = transform

    def __call__(self, results: dict) -> dict:
        return _read(self.transform, results, results[self.path_key], "image")


class _GuardedSegMap:
    """LoadAnnotations that refuses what is no index map of the classes."""

    path_key = "seg_map_path"

    def __init__(self, transform: Callable, metainfo: dict):
        self.transform = transform
        self.num_classes = len(metainfo["classes"])
        # A subset of the classes: the file has more than the loaded map.
        self.num_classes_in_file = len(metainfo.get("label_map") or metainfo["classes"])

    def __call__(self, results: dict) -> dict:
        path = results.get(self.path_key)
        if path is None:
            raise InputError(
                f"{results['img_path']} has no label map: set data_prefix.seg_map_path of the "
                "dataset in the config"
            )
        _read(lambda _: check_seg_map_format(path), results, path, "label map")
        results = _read(self.transform, results, path, "label map")
        check_seg_map(
            results["gt_seg_map"],
            num_classes=self.num_classes,
            num_classes_in_file=self.num_classes_in_file,
            image_size=results.get("ori_shape"),
            reduce_zero_label=results.get("reduce_zero_label", False),
            path=path,
        )
        return results


class _GuardedInstances:
    """LoadAnnotations of mmdetection, whose errors name the image."""

    def __init__(self, transform: Callable):
        self.transform = transform

    def __call__(self, results: dict) -> dict:
        path = results["img_path"]
        try:
            if self.transform.with_mask:
                for instance in results.get("instances", []):
                    if instance.get("mask") is not None:
                        check_mask(instance["mask"], results["ori_shape"])
            results = self.transform(results)
            boxes = results.get("gt_bboxes")
            numbers = [] if boxes is None else getattr(boxes, "tensor", boxes)
            finite = np.isfinite(np.asarray(numbers)).all()
        except Exception as e:  # whatever mmdetection and pycocotools make of other types
            raise InputError(
                f"the annotations of {path} are broken: {type(e).__name__}: {e}"
            ) from None
        if not finite:
            raise InputError(f"the annotations of {path} hold a box that is not finite")
        return results


def _read(read: Callable, results: dict, path: str, kind: str):
    if Path(path).exists() and not Path(path).is_file():  # a device or a pipe would never end
        raise InputError(f"the {kind} {path} is not a file")
    try:
        check_header(path)
        return read(results)
    except FileNotFoundError:
        raise InputError(f"the {kind} {path} does not exist") from None
    except UnidentifiedImageError:
        raise InputError(f"{path} cannot be read as {kind}: it is no image file") from None
    # What Pillow raises for broken files, mmcv (AssertionError) where OpenCV has no image, and
    # mmsegmentation (TypeError) for a label map of one pixel.
    except (
        OSError, AssertionError, IndexError, SyntaxError, TypeError, ValueError,
        TooLarge, cv2.error,
    ) as e:  # fmt: skip
        if isinstance(e, InputError):
            raise
        raise InputError(f"{path} cannot be read as {kind}: {e}") from None


def check_seg_map_format(path: str) -> None:
    """Raise InputError unless a label map is an 8-bit image of one channel; reads the header only.

    mmsegmentation would take a wider index modulo 256 and stop at a color image without a name.
    """
    with Image.open(path) as image:
        if image.mode not in ("L", "P", "1"):
            raise InputError(
                f"the label map {path} is a {image.mode} image, expected one channel of 8 bits "
                "that holds the class index of each pixel"
            )


def check_seg_map(
    seg_map: np.ndarray,
    num_classes: int,
    num_classes_in_file: int,
    image_size: tuple[int, int] | None,
    reduce_zero_label: bool,
    path: str,
) -> None:
    """Raise InputError for a label map of another size than its image, or with unknown classes.

    Args:
        seg_map: (H, W) uint8, as loaded: 255 is ignored, ``reduce_zero_label`` already applied.
        num_classes: Number of classes of the loaded map.
        num_classes_in_file: Number of classes of the file, of which the dataset may take some.
        image_size: (H, W) of the image file, None where that cannot be read.
        reduce_zero_label: Whether index 0 of the file means "ignored" and class 0 is stored as 1.
        path: The file, for the message.
    """
    if image_size is not None and seg_map.shape != tuple(image_size):
        raise InputError(
            f"the label map {path} has {seg_map.shape[1]}x{seg_map.shape[0]} pixels, its image "
            f"{image_size[1]}x{image_size[0]}: they must be of the same size"
        )
    found = np.flatnonzero(np.bincount(seg_map.ravel()))  # faster than to sort the pixels
    wrong = np.setdiff1d(found, [*range(num_classes), 255])
    if wrong.size:
        first = int(reduce_zero_label)
        raise InputError(
            f"the label map {path} holds the index {wrong[0] + first}, accepted are "
            f"{first}..{num_classes_in_file - 1 + first} ({num_classes_in_file} classes)"
            f"{', 0' if reduce_zero_label else ''} and 255 for what is not labeled"
        )
