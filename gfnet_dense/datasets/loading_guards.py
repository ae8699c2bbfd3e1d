"""Guards around loading transforms: errors name the file, and label maps are checked."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import LoadAnnotations, LoadImageFromFile
from PIL import Image, UnidentifiedImageError
from PIL.Image import DecompressionBombError as TooLarge

from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.images import check_header

from .coco_masks import check_mask


def guard_pipeline(dataset: Any) -> None:
    """Wrap the loading transforms of a built dataset, in place.

    A wrapped transform raises InputError with the path of a file that is missing or broken. The
    configs keep the original transforms, because the inferencers of mmsegmentation and mmdetection
    look for their names.

    Args:
        dataset: An OpenMMLab dataset, possibly inside wrappers such as ConcatDataset.
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


def _is_of(transform: Any, library: str) -> bool:
    """Return whether a transform is the LoadAnnotations of a library, or a subclass of it.

    Only the label maps of mmsegmentation hold class indices.
    """
    return isinstance(transform, LoadAnnotations) and any(
        base.__module__.startswith(f"{library}.") for base in type(transform).__mro__
    )


class _GuardedImage:
    """LoadImageFromFile that names the file in its errors."""

    path_key = "img_path"

    def __init__(self, transform: Callable):
        self.transform = transform

    def __call__(self, results: dict) -> dict:
        return _read(self.transform, results, results[self.path_key], "image")


class _GuardedSegMap:
    """LoadAnnotations of mmsegmentation that refuses label maps with other values than classes."""

    path_key = "seg_map_path"

    def __init__(self, transform: Callable, metainfo: dict):
        self.transform = transform
        self.num_classes = len(metainfo["classes"])
        # If the dataset uses a subset of the classes, label_map has all classes of the files.
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
    """LoadAnnotations of mmdetection that names the image in its errors."""

    def __init__(self, transform: Any) -> None:
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
        except Exception as e:  # mmdetection and pycocotools may raise anything at wrong types
            raise InputError(
                f"the annotations of {path} are broken: {type(e).__name__}: {e}"
            ) from None
        if not finite:
            raise InputError(f"the annotations of {path} hold a box that is not finite")
        return results


def _read(read: Callable[[dict], Any], results: dict, path: str, kind: str) -> Any:
    """Return ``read(results)``, or raise an InputError that names the file it reads.

    Args:
        read: Loading transform or check that reads the file.
        results: Argument of ``read``.
        path: The file, checked before it is read.
        kind: 'image' or 'label map', for the message.
    """
    if Path(path).exists() and not Path(path).is_file():  # reading a pipe might never end
        raise InputError(f"the {kind} {path} is not a file")
    try:
        check_header(path)
        return read(results)
    except FileNotFoundError:
        raise InputError(f"the {kind} {path} does not exist") from None
    except UnidentifiedImageError:
        raise InputError(f"{path} cannot be read as {kind}: it is no image file") from None
    # Pillow raises many types for broken files, mmcv an AssertionError if OpenCV reads no image,
    # mmsegmentation a TypeError for a label map of one pixel.
    except (
        OSError, AssertionError, IndexError, SyntaxError, TypeError, ValueError,
        TooLarge, cv2.error,
    ) as e:  # fmt: skip
        if isinstance(e, InputError):
            raise
        raise InputError(f"{path} cannot be read as {kind}: {e}") from None


def check_seg_map_format(path: str) -> None:
    """Check from its header that a label map is an 8-bit image of one channel.

    mmsegmentation would take a wider index modulo 256, and would fail at a color image without
    naming the file.

    Raises:
        InputError: If the image has another mode.
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
    """Check that a loaded label map has the size of its image and holds class indices only.

    Args:
        seg_map: (H, W) uint8 class indices with 255 for ignored pixels, after
            ``reduce_zero_label`` was applied.
        num_classes: Number of classes of the dataset.
        num_classes_in_file: Number of classes in the file, more if the dataset uses a subset.
        image_size: (H, W) of the image, None if it could not be loaded.
        reduce_zero_label: Whether 0 in the file means "ignored", and class 0 is stored as 1.
        path: Path of the label map, for the message.

    Raises:
        InputError: If the sizes differ, or if an index is neither a class nor 255.
    """
    if image_size is not None and seg_map.shape != tuple(image_size):
        raise InputError(
            f"the label map {path} has {seg_map.shape[1]}x{seg_map.shape[0]} pixels, its image "
            f"{image_size[1]}x{image_size[0]}: they must be of the same size"
        )
    found = np.flatnonzero(np.bincount(seg_map.ravel()))  # faster than np.unique, which sorts
    wrong = np.setdiff1d(found, [*range(num_classes), 255])
    if wrong.size:
        first = int(reduce_zero_label)
        raise InputError(
            f"the label map {path} holds the index {wrong[0] + first}, accepted are "
            f"{first}..{num_classes_in_file - 1 + first} ({num_classes_in_file} classes)"
            f"{', 0' if reduce_zero_label else ''} and 255 for what is not labeled"
        )
