"""Checks of the data that a config names: folders, annotation files, class names and numbers.

They run before a training starts, and build no dataset.
"""

import logging
from pathlib import Path

from mmengine.config import ConfigDict
from mmengine.logging import print_log
from mmengine.registry import DATASETS

from gfnet_dense.utils.config import (
    datasets_of,
    evaluators_of,
    is_remote,
    registered_class,
    type_name,
)
from gfnet_dense.utils.decoding import check_image_range
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.images import IMAGE_SUFFIXES

from .ignored_labels import differing_ignore_indices
from .lists import check_list, repeated_names
from .segmentation_heads import check_heads, find_heads

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

# Datasets of mmsegmentation whose class names are in their files, not in the config.
NAMES_IN_FILES = {"DSDLSegDataset"}


def check_dataset_folders(cfg: ConfigDict, splits: tuple[str, ...]) -> None:
    """Check that the folders of images and label maps of a config exist and are not empty.

    Args:
        cfg: A whole config.
        splits: Dataloaders to check, any of 'train', 'val', 'test'.

    Raises:
        InputError: If a folder or an annotation file is missing, a folder is empty, a list of names
            is broken, or datasets differ in ``image_range``.
    """
    check_ranges(cfg, splits)
    for dataset in datasets_of(cfg, *splits):
        check_folders(dataset)
        repeated = repeated_names(dataset)
        if repeated:
            print_log(repeated, logger="current", level=logging.WARNING)


def check_local_data(cfg: ConfigDict) -> None:
    """Check that the datasets of a config lie in folders, for what reads or copies all of them.

    Args:
        cfg: A whole config.

    Raises:
        InputError: If one is read from a remote store.
    """
    for dataset in datasets_of(cfg, "train", "val", "test"):
        if is_remote(dataset):
            raise InputError(
                f"data_root {dataset.get('data_root')} of {type_name(dataset)} is a remote store, "
                "but check_dataset reads folders of this machine: copy the data, or mount them"
            )


def check_ranges(cfg: ConfigDict, splits: tuple[str, ...]) -> None:
    """Check that all datasets of a config have the same ``image_range``.

    mmengine would say of those inside a ConcatDataset that their metainfo differs.

    Args:
        cfg: A whole config.
        splits: Dataloaders to check, any of 'train', 'val', 'test'.

    Raises:
        InputError: If two of them differ.
    """
    ranges = [
        (split, check_image_range((dataset.get("metainfo") or {}).get("image_range")))
        for split in splits
        for dataset in datasets_of(cfg, split)
    ]
    for split, image_range in ranges:
        if image_range != ranges[0][1]:
            raise InputError(
                f"image_range is {ranges[0][1]} in the metainfo of a dataset of {ranges[0][0]}_"
                f"dataloader and {image_range} in one of {split}_dataloader: set the same in all "
                "datasets of the config"
            )


def check_classes(cfg: ConfigDict, splits: tuple[str, ...]) -> None:
    """Check that the datasets of a segmentor name the same classes, and that its heads fit them.

    With another number of classes mmsegmentation trains without an error and ends at an mIoU of 0
    (open-mmlab/mmsegmentation#964, #2081, #2245). See :func:`.segmentation_heads.check_heads`.
    Settings of labels to ignore that differ are logged as warnings, see :mod:`.ignored_labels`.

    Args:
        cfg: A whole config.
        splits: Dataloaders to check, any of 'train', 'val', 'test'.

    Raises:
        InputError: If class names differ, if a head or a loss does not fit them, or if the classes
            of a dataset are invalid.
    """
    if not any(find_heads(cfg.model)):  # a detector's heads are checked by mmdet
        return
    first: tuple[str, list[str]] | None = None
    for split in splits:
        for dataset in datasets_of(cfg, split):
            if type_name(dataset) in NAMES_IN_FILES:
                continue
            named = f"{split}_dataloader", class_names(dataset, cfg.default_scope)
            _check_same_classes(first or named, named)
            first = first or named
            check_heads(cfg.model, named[1])
    for sentence in differing_ignore_indices(cfg, first[1], splits) if first else ():
        print_log(sentence, logger="current", level=logging.WARNING)


def _check_same_classes(first: tuple[str, list[str]], other: tuple[str, list[str]]) -> None:
    """Raise InputError if two datasets name their classes differently.

    A class index would then stand for one class in training and for another in evaluation.

    Args:
        first, other: Key of a dataloader, and the class names of a dataset in it.
    """
    (key, classes), (other_key, other_classes) = first, other
    if classes == other_classes:
        return
    if len(classes) != len(other_classes):
        how = f"{key} has {len(classes)} classes, {other_key} {len(other_classes)}"
    else:
        pairs = enumerate(zip(classes, other_classes, strict=True))
        i, (name, other_name) = next((i, pair) for i, pair in pairs if pair[0] != pair[1])
        how = f"class {i} is {name!r} in {key}, but {other_name!r} in {other_key}"
    raise InputError(
        f"the datasets name different classes: {how}; give all the same metainfo=dict(classes=...),"
        " in the same order"
    )


def check_folders(dataset: ConfigDict) -> None:
    """Check that the folders of one dataset and its annotation file exist.

    Args:
        dataset: Config of one dataset, without wrappers.

    Raises:
        InputError: If a folder or the annotation file is missing, if a folder holds no images with
            the suffix in the config, or if a list of names is broken.
    """
    if is_remote(dataset):  # what is missing is told when it is read
        return
    root = Path(dataset.get("data_root") or "")
    for key, prefix in dataset.get("data_prefix", {}).items():
        if prefix is None:  # a dataset without label maps, for prediction only
            continue
        folder = root / prefix
        suffix_key = SUFFIX_OF.get(key)
        suffix = dataset.get(suffix_key, "")
        other = None
        for path in folder.rglob("*"):
            is_image = path.suffix.lower() in IMAGE_SUFFIXES
            # A suffix in the config, or a transform that reads files of other kinds, is believed.
            if path.name.endswith(suffix) and (is_image or suffix or _reads_others(dataset)):
                break
            other = path if is_image else other
        else:
            _refuse_folder(dataset, folder, suffix_key, other)
    ann_file = dataset.get("ann_file")
    if ann_file and not (root / ann_file).exists():
        raise InputError(
            f"the annotation file {root / ann_file}, ann_file in the config, does not exist: "
            "configs/_base_/datasets tells for each dataset how it is made"
        )
    check_list(dataset)


def _reads_others(dataset: ConfigDict) -> bool:
    """Return whether a dataset has a transform of another library or the user that reads files."""
    names = [type_name(transform) for transform in dataset.get("pipeline", [])]
    return bool(names) and "LoadImageFromFile" not in names


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
    kind = type_name(dataset)
    name, url = SOURCES.get(kind, (f"the data of {kind}", None))
    if (dataset.get("metainfo") or {}).get("classes"):  # somebody's own, in the same layout
        name, url = "your dataset", None
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
    cls, kind = registered_class(DATASETS, dataset, scope), type_name(dataset)
    if cls is None:
        raise InputError(f"{dataset['type']} is no type of dataset that {scope} knows")
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
    twice = [name for i, name in enumerate(classes) if name in classes[:i]]
    if twice and not known:
        raise InputError(
            f"metainfo.classes of {kind} holds {twice[0]!r} twice: name each class once"
        )
    palette = (dataset.get("metainfo") or {}).get("palette") or ()
    if not known and len(palette) not in (0, len(classes)):
        raise InputError(
            f"the palette of {kind} has {len(palette)} colors for {len(classes)} classes: "
            "give one for each, or leave it out"
        )
    return [str(name) for name in classes]


def check_evaluators(cfg: ConfigDict, splits: tuple[str, ...]) -> None:
    """Check that the annotation files of evaluators exist.

    COCO files are checked when they are read, see :mod:`.coco.loading`.

    Args:
        cfg: A whole config.
        splits: Evaluators to check, any of 'val', 'test'.

    Raises:
        InputError: If a file is missing.
    """
    for split in splits:
        for each in evaluators_of(cfg, split):
            path = each.get("ann_file")
            if path and "://" not in str(path) and not Path(path).exists():
                raise InputError(
                    f"the annotation file {path}, ann_file of {split}_evaluator in the config, "
                    "does not exist: most take data_root and ann_file of the dataset together"
                )
