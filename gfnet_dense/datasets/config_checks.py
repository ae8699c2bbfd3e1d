"""Checks of the data that a config names: folders, annotation files, class names and numbers.

They run before a training starts, and build no dataset.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import ConfigDict
from mmengine.registry import DATASETS

from gfnet_dense.utils.config import find_datasets
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.images import IMAGE_SUFFIXES

from .coco_masks import check_annotation

# By dataset type: name of the data set, and the address from which it can be downloaded.
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

# By key of data_prefix: the key of the dataset that holds the suffix of the files.
SUFFIX_OF = {"img_path": "img_suffix", "seg_map_path": "seg_map_suffix"}


def check_dataset_folders(cfg: ConfigDict, splits: tuple[str, ...]) -> None:
    """Check that the folders of images and label maps of a config exist and are not empty.

    Args:
        cfg: A whole config.
        splits: Dataloaders to check, any of 'train', 'val', 'test'.

    Raises:
        InputError: If a folder or an annotation file is missing, or a folder is empty.
    """
    for dataset in _datasets_of(cfg, splits):
        check_folders(dataset)


def check_classes(cfg: ConfigDict, splits: tuple[str, ...]) -> None:
    """Check that the heads of a segmentor have as many classes as the datasets.

    With another number of classes mmsegmentation trains without an error and ends at an mIoU of 0
    (open-mmlab/mmsegmentation#964, #2081, #2245).

    Args:
        cfg: A whole config.
        splits: Dataloaders to check, any of 'train', 'val', 'test'.

    Raises:
        InputError: If the numbers of classes differ, or the classes of a dataset are invalid.
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


def check_folders(dataset: ConfigDict) -> None:
    """Check that the folders of one dataset and its annotation file exist.

    Args:
        dataset: Config of one dataset, without wrappers.

    Raises:
        InputError: If a folder or the annotation file is missing, or if a folder holds no images
            with the suffix in the config.
    """
    root = Path(dataset.get("data_root") or "")
    for key, prefix in dataset.get("data_prefix", {}).items():
        if prefix is None:  # a dataset without label maps, for prediction only
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
    """Raise the InputError for a folder without usable images.

    Args:
        dataset: Config of one dataset.
        folder: The folder.
        suffix_key: Key of ``dataset`` with the suffix of the files, None if it has none.
        other: An image in the folder that has another suffix, None if there are no images.
    """
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
    """Return the class names of a dataset from its config, without building it.

    Args:
        dataset: Config of one dataset, without wrappers.
        scope: Library that registers its type: ``default_scope`` of the whole config.

    Raises:
        InputError: If the type is unknown, if there are no class names or unknown ones, or if the
            palette has another number of colors.
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
            f"the palette of {kind} has {len(palette)} colors for {len(classes)} classes: "
            "give one for each, or leave it out"
        )
    return [str(name) for name in classes]


def check_evaluators(cfg: ConfigDict, splits: tuple[str, ...]) -> None:
    """Check the annotation files of COCO evaluators.

    An evaluator reads all annotations of its file, also those that the dataset leaves out. It would
    fail, or crash, at the end of the first validation only.

    Args:
        cfg: A whole config.
        splits: Evaluators to check, any of 'val', 'test'.

    Raises:
        InputError: If an annotation file cannot be evaluated.
    """
    for split in splits:
        evaluators = cfg.get(f"{split}_evaluator") or []
        for each in evaluators if isinstance(evaluators, (list, tuple)) else [evaluators]:
            if each.get("ann_file"):
                check_coco_file(Path(each["ann_file"]), with_masks="segm" in each.get("metric", ()))


def check_coco_file(path: Path, with_masks: bool) -> None:
    """Check that COCO's evaluation can read all images and annotations of a JSON file.

    Args:
        path: Path of the file (https://cocodataset.org/#format-data).
        with_masks: Whether masks are evaluated, too.

    Raises:
        InputError: If the file cannot be read, is no COCO file, or has a broken annotation.
    """
    try:
        content = json.loads(path.read_text())
        sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
        annotations = list(content["annotations"])
        [category["id"] for category in content["categories"]]  # only to raise KeyError
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
    """Check that every head in a segmentor's config has as many classes as the dataset.

    Args:
        model: Config of the segmentor.
        classes: Class names of the dataset.

    Raises:
        InputError: If ``num_classes`` or ``class_weight`` of a head is for another number.
    """
    head = model.get("decode_head")
    weights = head.get("loss_cls", {}).get("class_weight") if isinstance(head, dict) else None
    if weights is not None and len(weights) != len(classes) + 1:
        raise InputError(
            f"model.decode_head.loss_cls.class_weight has {len(weights)} weights, but there are "
            f'{len(classes)} classes and "no object": set it to [1.0] * {len(classes)} + [0.1], '
            f"and num_classes to {len(classes)}"
        )
    for name, value in _num_classes_of_heads(model):
        # A head for two classes may have a single output, with a sigmoid.
        if value != len(classes) and (value, len(classes)) != (1, 2):
            raise InputError(
                f"{name} is {value}, but the dataset has {len(classes)} classes "
                f"({', '.join(classes[:3])}{', ...' if len(classes) > 3 else ''}): "
                f"set it to {len(classes)}"
            )


def _num_classes_of_heads(model: ConfigDict) -> Iterator[tuple[str, int]]:
    for key in ("decode_head", "auxiliary_head"):
        yield from _find_num_classes(model.get(key), f"model.{key}")


def _find_num_classes(node: Any, name: str) -> Iterator[tuple[str, int]]:
    """Yield dotted key and value of every ``num_classes`` in a head or a list of heads.

    Heads may be nested: heads inside a head are searched, too.
    """
    if isinstance(node, (list, tuple)):
        for i, each in enumerate(node):
            yield from _find_num_classes(each, f"{name}[{i}]")
    elif isinstance(node, dict):
        for key, value in node.items():
            if key == "num_classes":
                yield f"{name}.{key}", value
            else:
                yield from _find_num_classes(value, f"{name}.{key}")
