"""Finding what is wrong with the data, and saying where it comes from."""

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from mmcv.transforms import LoadAnnotations, LoadImageFromFile
from mmengine.config import ConfigDict
from mmengine.registry import DATASETS
from PIL import Image, UnidentifiedImageError
from PIL.Image import DecompressionBombError as TooLarge

from .errors import InputError
from .masks import check_annotation, check_mask

# dataset type: (name, where to get it)
SOURCES = {
    "ADE20KDataset": (
        "ADE20K",
        "http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",
    ),
    "CityscapesDataset": (
        "Cityscapes",
        "https://www.cityscapes-dataset.com/downloads (leftImg8bit and gtFine)",
    ),
    "CocoDataset": (
        "COCO 2017",
        "https://cocodataset.org/#download (train2017, val2017, annotations)",
    ),
    "PascalVOCDataset": (
        "Pascal VOC 2012",
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
    ),
}

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff"}
# Of one image: 16384x16384. OpenCV's own limit is four times that, Pillow's two thirds.
MAX_PIXELS = 2**28
# Above some megapixels, of a byte of the file: twice what PNG makes of a blank image of one bit.
MAX_PIXELS_PER_BYTE = 2**14
SUFFIX_OF = {"img_path": "img_suffix", "seg_map_path": "seg_map_suffix"}


def check_dataset_folders(cfg: ConfigDict, splits: tuple[str, ...]) -> None:
    """Raise InputError where a folder of images or label maps of a config is missing or empty.

    Args:
        cfg: A whole config.
        splits: Which dataloaders to look at: 'train', 'val', 'test'.
    """
    for dataset in _datasets_of(cfg, splits):
        check_folders(dataset)


def check_classes(cfg: ConfigDict, splits: tuple[str, ...]) -> None:
    """Raise InputError where a head of a segmentor is not for the classes of a dataset.

    Such a head trains without a word and ends at an mIoU of 0 (open-mmlab/mmsegmentation 964, 2081,
    2245). No dataset is built, which takes long for large ones.

    Args:
        cfg: A whole config.
        splits: Which dataloaders to look at: 'train', 'val', 'test'.
    """
    if not any(_num_classes_of_heads(cfg.model)):  # a detector's heads are checked by mmdet
        return
    for dataset in _datasets_of(cfg, splits):
        check_num_classes(cfg.model, class_names(dataset, cfg.default_scope))


def _datasets_of(cfg: ConfigDict, splits: tuple[str, ...]) -> Iterator[ConfigDict]:
    for split in splits:
        loader = cfg.get(f"{split}_dataloader")
        if loader is not None:
            yield from find_datasets(loader["dataset"])


def find_datasets(dataset: ConfigDict) -> list[ConfigDict]:
    """Return the innermost dataset configs inside wrappers such as ConcatDataset."""
    if "dataset" in dataset:
        return find_datasets(dataset["dataset"])
    if "datasets" in dataset:
        return [inner for outer in dataset["datasets"] for inner in find_datasets(outer)]
    return [dataset]


def check_folders(dataset: ConfigDict) -> None:
    """Raise InputError where a folder or list of files of one dataset is missing or empty."""
    root = Path(dataset.get("data_root") or "")
    for key, prefix in dataset.get("data_prefix", {}).items():
        if prefix is None:  # no label maps, to predict alone
            continue
        folder = root / prefix
        suffix_key = SUFFIX_OF.get(key)
        suffix = dataset.get(suffix_key, "")
        other = None
        for path in folder.rglob("*"):
            if path.suffix.lower() in IMAGE_SUFFIXES:
                if path.name.endswith(suffix):
                    break
                other = path
        else:
            _refuse_folder(dataset, folder, suffix_key, other)
    ann_file = dataset.get("ann_file")
    if ann_file and not (root / ann_file).exists():
        raise InputError(
            f"the annotation file {root / ann_file}, ann_file in the config, does not exist: "
            "configs/_base_/datasets tells for each dataset how it is made"
        )


def _refuse_folder(
    dataset: ConfigDict, folder: Path, suffix_key: str | None, other: Path | None
) -> None:
    """Raise InputError for a folder without usable files; ``other`` has another suffix."""
    if other is not None:
        raise InputError(
            f"{folder} holds no file that ends in {dataset[suffix_key]!r}, the {suffix_key} in the "
            f"config, but {other.name}: set {suffix_key} to what the names end in"
        )
    kind = dataset["type"].rpartition(".")[2]
    name, url = SOURCES.get(kind, (f"the data of {kind}", None))
    raise InputError(
        f"{name} was not found: {folder} ({folder.absolute()}) "
        f"{'holds no images' if folder.is_dir() else 'does not exist'}; "
        + (f"get it from {url} and put it there, " if url else "")
        + "set data_root of the datasets in the config to where it is, "
        "or add --demo, which needs no data"
    )


def class_names(dataset: ConfigDict, scope: str) -> list[str]:
    """Return the class names of a dataset's config, without building it.

    Args:
        dataset: Config of one dataset, without wrappers.
        scope: The library that knows its type, default_scope of the whole config.

    Raises:
        InputError: Where the type is unknown, or the class list is none.
    """
    kind = dataset["type"]
    cls = DATASETS.get(kind if "." in kind else f"{scope}.{kind}")
    if cls is None:
        raise InputError(f"{kind} is no type of dataset that {scope} knows")
    classes = cls._load_metainfo(dataset.get("metainfo")).get("classes")
    if not classes or isinstance(classes, str):
        raise InputError(
            f"{kind} needs a list of class names, metainfo=dict(classes=['road', 'car']), "
            f"got {classes!r}"
        )
    known = cls.METAINFO.get("classes")
    unknown = [name for name in classes if known and name not in known]
    if unknown:
        raise InputError(
            f"{kind} has no class {unknown[0]!r}; classes of your own need type='BaseSegDataset'"
        )
    palette = (dataset.get("metainfo") or {}).get("palette") or ()
    if not known and len(palette) not in (0, len(classes)):
        raise InputError(
            f"the palette of {kind} has {len(palette)} colours for {len(classes)} classes: "
            "give one for each, or leave it out"
        )
    return [str(name) for name in classes]


def check_evaluators(cfg: ConfigDict, splits: tuple[str, ...]) -> None:
    """Raise InputError where an evaluator of COCO's would stop, or crash, at the end of the first
    validation: it reads all annotations of its file, also those that the dataset leaves out.

    Args:
        cfg: A whole config.
        splits: Whose evaluators to look at: 'val', 'test'.
    """
    for split in splits:
        evaluators = cfg.get(f"{split}_evaluator") or []
        for each in evaluators if isinstance(evaluators, (list, tuple)) else [evaluators]:
            if each.get("ann_file"):
                check_coco_file(Path(each["ann_file"]), with_masks="segm" in each.get("metric", ()))


def check_coco_file(path: Path, with_masks: bool) -> None:
    """Raise InputError unless all images and annotations of a COCO JSON can be evaluated.

    Args:
        path: The file (https://cocodataset.org/#format-data).
        with_masks: Whether masks are evaluated, too.
    """
    try:
        content = json.loads(path.read_text())
        sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
        annotations = list(content["annotations"])
        [category["id"] for category in content["categories"]]
    except OSError as e:
        raise InputError(f"the annotation file {path} cannot be read: {e.strerror}") from None
    except (LookupError, RecursionError, TypeError, ValueError) as e:
        raise InputError(
            f"{path} is no COCO file, of images, annotations and categories: "
            f"{type(e).__name__}: {e}"
        ) from None
    for number, annotation in enumerate(annotations):
        try:
            check_annotation(annotation, sizes, with_masks)
        except (LookupError, OverflowError, TypeError, ValueError) as e:
            raise InputError(
                f"annotation number {number} of {path} is broken: {type(e).__name__}: {e}"
            ) from None


def check_num_classes(model: ConfigDict, classes: list[str]) -> None:
    """Raise InputError unless every head of a segmentor's config is for so many classes."""
    head = model.get("decode_head")
    weights = head.get("loss_cls", {}).get("class_weight") if isinstance(head, dict) else None
    if weights is not None and len(weights) != len(classes) + 1:
        raise InputError(
            f"model.decode_head.loss_cls.class_weight has {len(weights)} weights, but there are "
            f'{len(classes)} classes and "no object": set it to [1.0] * {len(classes)} + [0.1], '
            f"and num_classes to {len(classes)}"
        )
    for name, value in _num_classes_of_heads(model):
        # Of two classes, one sigmoid is enough.
        if value != len(classes) and (value, len(classes)) != (1, 2):
            raise InputError(
                f"{name} is {value}, but the dataset has {len(classes)} classes "
                f"({', '.join(classes[:3])}{', ...' if len(classes) > 3 else ''}): "
                f"set it to {len(classes)}"
            )


def _num_classes_of_heads(model: ConfigDict) -> Iterator[tuple[str, int]]:
    for key in ("decode_head", "auxiliary_head"):
        yield from _find_num_classes(model.get(key), f"model.{key}")


def _find_num_classes(node, name: str) -> Iterator[tuple[str, int]]:
    """Yield name and value of every ``num_classes`` in a head, a list of heads, heads in a head."""
    if isinstance(node, (list, tuple)):
        for i, each in enumerate(node):
            yield from _find_num_classes(each, f"{name}[{i}]")
    elif isinstance(node, dict):
        for key, value in node.items():
            if key == "num_classes":
                yield f"{name}.{key}", value
            else:
                yield from _find_num_classes(value, f"{name}.{key}")


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


def check_header(path: str | Path) -> None:
    """Raise InputError for an image that would fill the memory, whose file may be small; reads the
    headers only, and takes what Pillow does not know."""
    try:
        with Image.open(path) as image:
            pixels = image.width * image.height
    except TooLarge as e:
        pixels = int(re.search(r"\d+", str(e))[0])
    except FileNotFoundError:
        return  # told by who reads it
    except Exception:  # whatever a broken header makes Pillow raise
        pixels = 0
    if pixels > MAX_PIXELS:
        raise InputError(
            f"{path} unpacks to {pixels / 1e6:.0f} million pixels, at most "
            f"{MAX_PIXELS / 1e6:.0f} are read: cut it into tiles"
        )
    num_bytes = os.path.getsize(path)
    if pixels > max(MAX_PIXELS_PER_BYTE * num_bytes, 2**24):
        raise InputError(
            f"{path}, of {num_bytes} bytes, would unpack to {pixels / 1e6:.0f} million pixels: no "
            "image is that empty, the file is damaged or made to fill the memory"
        )
    _check_png(path, num_bytes)


def _check_png(path: str | Path, num_bytes: int) -> None:
    """Raise InputError for a PNG with a part that is longer than the file: OpenCV would take the
    memory for it first, up to 4 GB (https://www.w3.org/TR/png-3/#5Chunk-layout)."""
    with open(path, "rb") as file:
        if file.read(8) != b"\x89PNG\r\n\x1a\n":
            return
        while len(head := file.read(8)) == 8:
            end = file.tell() + int.from_bytes(head[:4], "big")
            if end > num_bytes:
                raise InputError(f"{path} is damaged or truncated: a part is longer than the file")
            if head[4:] == b"IEND":
                break
            file.seek(end + 4)  # behind the checksum


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

    mmsegmentation would take a wider index modulo 256 and stop at a colour image without a name.
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
            f"{', 0' if reduce_zero_label else ''} and 255 for what is not labelled"
        )
