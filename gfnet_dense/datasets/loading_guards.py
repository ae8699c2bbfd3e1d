"""Guards around loading transforms: files are read once, errors name them, labels are checked.

The private ``_load_seg_map`` of mmcv's LoadAnnotations is looked at here, as seen in onedl-mmcv
2.3.6.
"""

from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import LoadAnnotations, LoadImageFromFile
from mmengine import fileio

from gfnet_dense.utils.decoding import (
    Range,
    check_image_range,
    decode_image,
    decode_label_map,
)
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.image_headers import check_header, naming
from gfnet_dense.utils.images import read_bytes
from gfnet_dense.utils.users_code import places_in_users_code

from .bands import LoadImageBands
from .coco.masks import check_mask
from .coco.pictures import check_size

NOT_LABELED = 255  # index of ignored pixels by default, and of the label 0 that is reduced


def guard_pipeline(dataset: Any, ignored: int | None = None) -> None:
    """Wrap the loading transforms of a built dataset, in place.

    A wrapped transform raises InputError with the path of a file that is missing or broken. Images
    in color and label maps are decoded by :mod:`gfnet_dense.utils.decoding`, as all commands do,
    with the ``image_range`` of the dataset's metainfo. Transforms with a decoding of their own keep
    it. The configs keep the original transforms, because the inferencers of mmsegmentation and
    mmdetection look for their names.

    Args:
        dataset: An OpenMMLab dataset, possibly inside wrappers such as ConcatDataset.
        ignored: Index that label maps may hold beside classes and 255, ``ignore_index`` of the head
            (:func:`.checks.ignored_labels.ignored_by_head`).

    Raises:
        InputError: If an ``image_range`` is not two numbers.
    """
    for inner in inner_datasets(dataset):
        if hasattr(getattr(inner, "pipeline", None), "transforms"):  # not in all libraries
            _guard_transforms(inner.pipeline.transforms, inner.metainfo, ignored)


def inner_datasets(dataset: Any) -> Iterator[Any]:
    """Yield the built datasets inside wrappers such as ConcatDataset, or the dataset itself."""
    inner = getattr(dataset, "datasets", None) or [getattr(dataset, "dataset", None)]
    if inner == [None]:
        yield dataset
    else:
        for each in inner:
            yield from inner_datasets(each)


def _guard_transforms(transforms: list, metainfo: dict, ignored: int | None = None) -> None:
    for i, transform in enumerate(transforms):
        if isinstance(transform, LoadImageFromFile):
            transforms[i] = GuardedImage(transform, metainfo)
        elif loads_annotations(transform, "mmseg"):
            transforms[i] = GuardedSegMap(transform, metainfo, ignored)
        elif loads_annotations(transform, "mmdet"):
            transforms[i] = _GuardedInstances(transform)
        for inner in getattr(transform, "subroutines", ()):  # TestTimeAug
            _guard_transforms(inner.transforms, metainfo, ignored)


def loads_annotations(transform: Any, library: str) -> bool:
    """Return whether a transform is the LoadAnnotations of a library, or a subclass of it.

    Only the label maps of mmsegmentation hold class indices.
    """
    return isinstance(transform, LoadAnnotations) and any(
        base.__module__.startswith(f"{library}.") for base in type(transform).__mro__
    )


class GuardedImage:
    """LoadImageFromFile that reads the file once, and names it in its errors.

    A turned image gets the key ``exif_orientation`` in its results, one of 16 bits ``used_bits``.

    Args:
        transform: The transform of mmcv, or a subclass.
        metainfo: Metainfo of the dataset.

    Attributes:
        is_own: Whether the transform decodes images itself, since it is not for color images of 8
            bits, or a subclass.
        image_range: See :func:`gfnet_dense.utils.decoding.decode_image`.
    """

    path_key = "img_path"

    def __init__(self, transform: LoadImageFromFile, metainfo: dict) -> None:
        self.transform = transform
        self.image_range: Range | None = check_image_range(metainfo.get("image_range"))
        self.is_own = (
            type(transform).transform is not LoadImageFromFile.transform
            or transform.color_type != "color"
            or transform.imdecode_backend not in ("cv2", "pillow", "turbojpeg")
        )

    def __call__(self, results: dict) -> dict | None:
        path = results.get(self.path_key)
        if isinstance(self.transform, LoadImageBands):  # which names the file itself
            loaded = self.transform(results)
            if loaded is not None:
                _check_labeled_size(loaded)
            return loaded
        try:
            if self.is_own or path is None:
                return _read(self.transform, results, path, "image")
            decoded = decode_image(self.content(path), path, self.image_range)
        except InputError:
            if self.transform.ignore_empty:
                return None
            raise
        image = cv2.cvtColor(decoded.pixels, cv2.COLOR_RGB2BGR)  # as mmcv gives it
        results["img"] = image.astype(np.float32) if self.transform.to_float32 else image
        results["img_shape"] = results["ori_shape"] = image.shape[:2]
        if decoded.orientation != 1:
            results["exif_orientation"] = decoded.orientation
        if decoded.used_bits is not None:
            results["used_bits"] = decoded.used_bits
        # Pictures that are evaluated are often loaded without their annotations.
        if path == results.get("img_path"):
            _check_labeled_size(results)
        return results

    def content(self, path: str) -> bytes:
        """Return the content of the file of an image."""
        return _content(self.transform, path, "image")


class GuardedSegMap:
    """LoadAnnotations of mmsegmentation that refuses label maps with other values than classes."""

    path_key = "seg_map_path"

    def __init__(self, transform: Any, metainfo: dict, ignored: int | None = None):
        self.transform = transform
        self.ignored = ignored
        self.num_classes = len(metainfo["classes"])
        # If the dataset uses a subset of the classes, label_map has all classes of the files.
        self.num_classes_in_file = len(metainfo.get("label_map") or metainfo["classes"])
        kind = type(transform)
        self.is_own = (
            not kind._load_seg_map.__module__.startswith("mmseg.")
            or kind.transform is not LoadAnnotations.transform
            or transform.imdecode_backend not in ("cv2", "pillow")
        )

    def __call__(self, results: dict) -> dict:
        path = results.get(self.path_key)
        if path is None:
            raise InputError(
                f"{results['img_path']} has no label map: set data_prefix.seg_map_path of the "
                "dataset in the config"
            )
        if self.is_own:
            results = _read(self.transform, results, path, "label map")
        else:
            results["gt_seg_map"] = self.class_indices(results)
            results["seg_fields"].append("gt_seg_map")
        check_seg_map(
            results["gt_seg_map"],
            num_classes=self.num_classes,
            num_classes_in_file=self.num_classes_in_file,
            image_size=results.get("ori_shape"),
            reduce_zero_label=results.get("reduce_zero_label", False),
            path=path,
            orientation=results.get("exif_orientation", 1),
            ignored=self.ignored,
        )
        return results

    def class_indices(self, results: dict) -> np.ndarray:
        """Return the class indices of a sample, (H, W) uint8, from what its dataset knows of it."""
        path = results[self.path_key]
        reduces, of_dataset = self.transform.reduce_zero_label, results["reduce_zero_label"]
        if reduces not in (None, of_dataset):
            raise InputError(
                f"reduce_zero_label is {reduces} in LoadAnnotations and {of_dataset} in the "
                "dataset: set it in the dataset alone"
            )
        indices = decode_label_map(_content(self.transform, path, "label map"), path)
        return class_indices(indices, of_dataset, results.get("label_map"))


class _GuardedInstances:
    """LoadAnnotations of mmdetection that names the image in its errors.

    The image must have the size in the annotation file, or its boxes would be at wrong places.
    """

    def __init__(self, transform: Any) -> None:
        self.transform = transform

    def __call__(self, results: dict) -> dict:
        path = results["img_path"]
        _check_labeled_size(results)
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
            if places_in_users_code(e):  # a transform of the user's own
                raise
            raise InputError(
                f"the annotations of {path} are broken: {type(e).__name__}: {e}"
            ) from None
        if not finite:
            raise InputError(f"the annotations of {path} hold a box that is not finite")
        return results


def _check_labeled_size(results: dict) -> None:
    """Raise InputError if a loaded image has another size than its dataset of boxes says."""
    labeled = results.get("height", 0), results.get("width", 0)
    if "ori_shape" in results and all(labeled):
        orientation = results.get("exif_orientation", 1)
        path = results["img_path"]
        check_size(path, results["ori_shape"], labeled, "its annotation file", orientation)


def _content(transform: Any, path: str, kind: str) -> bytes:
    """Return the content of a file through the file backend of a loading transform."""
    if transform.file_client_args is None:
        return read_bytes(path, kind, transform.backend_args)
    with naming(path, kind):  # the former name of backend_args
        return fileio.FileClient.infer_client(transform.file_client_args, path).get(path)


def _read(read: Callable[[dict], Any], results: dict, path: str | None, kind: str) -> Any:
    """Return ``read(results)``, or raise an InputError that names the file it reads.

    Args:
        read: Loading transform with a decoding of its own.
        results: Argument of ``read``.
        path: The file, whose header is checked before; None for an array that is no file.
        kind: 'image' or 'label map', for the message.
    """
    if path is None:
        return read(results)
    check_header(read_bytes(path, kind, getattr(read, "backend_args", None)), path)
    with naming(path, kind):
        return read(results)


def class_indices(
    indices: np.ndarray, reduce_zero_label: bool, label_map: dict[int, int] | None
) -> np.ndarray:
    """Return the class indices of a label map as mmsegmentation's LoadAnnotations does.

    Args:
        indices: (H, W) uint8, as they are stored.
        reduce_zero_label: Whether 0 means "ignored", 255, and class 0 is stored as 1.
        label_map: Indices to replace, after that, and their replacements.
    """
    if not reduce_zero_label and not label_map:
        return indices
    table = np.arange(256, dtype=np.uint8)
    if reduce_zero_label:
        table -= 1  # 0 becomes 255
        table[255] = 255
    reduced = table.copy()
    for old, new in (label_map or {}).items():
        table[reduced == old] = new
    return table[indices]


def check_seg_map(
    seg_map: np.ndarray,
    num_classes: int,
    num_classes_in_file: int,
    image_size: tuple[int, int] | None,
    reduce_zero_label: bool,
    path: str,
    orientation: int = 1,
    ignored: int | None = None,
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
        orientation: EXIF orientation of the image, for the message.
        ignored: Index that stands for ignored pixels beside 255, if there is one.

    Raises:
        InputError: If the sizes differ, or if an index is neither a class nor for ignored pixels.
    """
    if image_size is not None and seg_map.shape != tuple(image_size):
        turned = orientation > 4 and seg_map.shape == tuple(image_size)[::-1]
        raise InputError(
            f"the label map {path} has {seg_map.shape[1]}x{seg_map.shape[0]} pixels, its image "
            f"{image_size[1]}x{image_size[0]}: they must be of the same size"
            + (f", and the image is turned by its EXIF orientation {orientation}" if turned else "")
        )
    found = np.flatnonzero(np.bincount(seg_map.ravel()))  # faster than np.unique, which sorts
    allowed = NOT_LABELED if ignored is None else ignored
    wrong = np.setdiff1d(found, [*range(num_classes), allowed, NOT_LABELED])
    if wrong.size:
        first = int(reduce_zero_label)
        raise InputError(
            f"the label map {path} holds the index {wrong[0] + first}, accepted are "
            f"{first}..{num_classes_in_file - 1 + first} ({num_classes_in_file} classes)"
            f"{', 0' if reduce_zero_label else ''} and {allowed} for what is not labeled"
        )
