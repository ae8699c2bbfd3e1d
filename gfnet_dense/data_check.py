"""Finding what is wrong with the data, and saying where it comes from."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from mmcv.transforms import LoadAnnotations, LoadImageFromFile
from mmengine.config import ConfigDict
from PIL import Image, UnidentifiedImageError

from .errors import InputError

# dataset type: (name, where to get it)
SOURCES = {
    "ADE20KDataset": (
        "ADE20K",
        "http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",
    ),
}

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff"}


def check_dataset_folders(cfg: ConfigDict, splits: tuple[str, ...]) -> None:
    """Raise InputError where a folder of images or label maps of a config is missing or empty.

    Args:
        cfg: A whole config.
        splits: Which dataloaders to look at: 'train', 'val', 'test'.
    """
    for split in splits:
        loader = cfg.get(f"{split}_dataloader")
        if loader is None:
            continue
        for dataset in find_datasets(loader["dataset"]):
            _check_dataset_folders(dataset)


def find_datasets(dataset: ConfigDict) -> list[ConfigDict]:
    """Return the innermost dataset configs inside wrappers such as ConcatDataset."""
    if "dataset" in dataset:
        return find_datasets(dataset["dataset"])
    if "datasets" in dataset:
        return [inner for outer in dataset["datasets"] for inner in find_datasets(outer)]
    return [dataset]


def _check_dataset_folders(dataset: ConfigDict) -> None:
    root = Path(dataset.get("data_root") or "")
    for prefix in dataset.get("data_prefix", {}).values():
        folder = root / prefix
        files = (path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
        if next(files, None) is not None:
            continue
        name, url = SOURCES.get(dataset["type"].rpartition(".")[2], (dataset["type"], None))
        raise InputError(
            f"{name} was not found: {folder} ({folder.absolute()}) "
            f"{'holds no images' if folder.is_dir() else 'does not exist'}; "
            + (f"get it from {url} and unzip it into {root.parent}, " if url else "")
            + "set data_root of the datasets in the config to where it is, "
            "or add --demo, which needs no data"
        )


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
        elif isinstance(transform, LoadAnnotations) and transform.with_seg:
            transforms[i] = _GuardedSegMap(transform, metainfo)
        for inner in getattr(transform, "subroutines", ()):  # TestTimeAug
            _guard_transforms(inner.transforms, metainfo)


class _GuardedImage:
    """LoadImageFromFile whose errors name the file."""

    def __init__(self, transform: Callable):
        self.transform = transform

    def __call__(self, results: dict) -> dict:
        return _read(self.transform, results, results["img_path"], "image")


class _GuardedSegMap:
    """LoadAnnotations that refuses what is no index map of the classes."""

    def __init__(self, transform: Callable, metainfo: dict):
        self.transform = transform
        self.num_classes = len(metainfo["classes"])
        # A subset of the classes: the file has more than the loaded map.
        self.num_classes_in_file = len(metainfo.get("label_map") or metainfo["classes"])

    def __call__(self, results: dict) -> dict:
        path = results["seg_map_path"]
        _read(lambda _: check_seg_map_format(path), results, path, "label map")
        results = _read(self.transform, results, path, "label map")
        check_seg_map(
            results["gt_seg_map"],
            num_classes=self.num_classes,
            num_classes_in_file=self.num_classes_in_file,
            image_size=results["ori_shape"],
            reduce_zero_label=results.get("reduce_zero_label", False),
            path=path,
        )
        return results


def _read(read: Callable, results: dict, path: str, kind: str):
    try:
        return read(results)
    except FileNotFoundError:
        raise InputError(f"the {kind} {path} does not exist") from None
    except UnidentifiedImageError:
        raise InputError(f"{path} cannot be read as {kind}: it is no image file") from None
    # SyntaxError: Pillow's for a broken PNG; AssertionError: mmcv's where OpenCV has no image.
    except (OSError, AssertionError, SyntaxError, ValueError, cv2.error) as e:
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
    image_size: tuple[int, int],
    reduce_zero_label: bool,
    path: str,
) -> None:
    """Raise InputError for a label map of another size than its image, or with unknown classes.

    Args:
        seg_map: (H, W) uint8, as loaded: 255 is ignored, ``reduce_zero_label`` already applied.
        num_classes: Number of classes of the loaded map.
        num_classes_in_file: Number of classes of the file, of which the dataset may take some.
        image_size: (H, W) of the image file.
        reduce_zero_label: Whether index 0 of the file means "ignored" and class 0 is stored as 1.
        path: The file, for the message.
    """
    if seg_map.shape != tuple(image_size):
        raise InputError(
            f"the label map {path} has {seg_map.shape[1]}x{seg_map.shape[0]} pixels, its image "
            f"{image_size[1]}x{image_size[0]}: they must be of the same size"
        )
    wrong = np.setdiff1d(seg_map, [*range(num_classes), 255])
    if wrong.size:
        first = int(reduce_zero_label)
        raise InputError(
            f"the label map {path} holds the index {wrong[0] + first}, accepted are "
            f"{first}..{num_classes_in_file - 1 + first} ({num_classes_in_file} classes)"
            f"{', 0' if reduce_zero_label else ''} and 255 for what is not labelled"
        )
