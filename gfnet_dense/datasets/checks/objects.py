"""Check that a detector's data set has objects of the classes of its config.

The readers of VOC, CrowdHuman and other files leave out objects with other names without a word:
the training then runs with losses of 0. COCO files are checked when they are read, see
:mod:`gfnet_dense.datasets.coco.loading`.
"""

import logging
import sys
from collections import Counter
from typing import Any

from mmcv.transforms import LoadAnnotations
from mmengine.logging import print_log
from mmengine.registry import DATASETS

from gfnet_dense.datasets.coco.names import list_names
from gfnet_dense.datasets.loading_guards import inner_datasets
from gfnet_dense.utils.errors import InputError

# Number of images whose objects are counted: a second. Of larger data sets one object is enough.
MAX_IMAGES = 20_000


def check_objects(dataset: Any) -> None:
    """Check that a training has objects, and log a warning about classes without any.

    Args:
        dataset: Built dataset, possibly inside wrappers; other ones than mmdetection's pass.

    Raises:
        InputError: If a dataset whose annotations are loaded has none.
    """
    if "mmdet" not in sys.modules:  # else the look-up would import it
        return
    base = DATASETS.get("mmdet.BaseDetDataset")
    for inner in inner_datasets(dataset):
        if base is not None and isinstance(inner, base) and _loads_annotations(inner):
            _check(inner)


def _loads_annotations(dataset: Any) -> bool:
    return any(isinstance(each, LoadAnnotations) for each in dataset.pipeline.transforms)


def _check(dataset: Any) -> None:
    """Raise InputError if a dataset has no object, or log its classes without objects."""
    kind = type(dataset).__name__
    # The warning about the classes of a COCO file comes from the file.
    is_coco = isinstance(dataset, DATASETS.get("mmdet.CocoDataset"))
    classes = list(dataset.metainfo.get("classes") or ())
    if not classes:  # those of models that are told their classes by text
        return
    is_counted = len(dataset) <= MAX_IMAGES and not is_coco
    counts: Counter = Counter()
    for i in range(len(dataset)):
        instances = dataset.get_data_info(i).get("instances", ())
        counts.update(each.get("bbox_label") for each in instances)
        if counts and not is_counted:
            return
    if not counts:
        raise InputError(
            f"{kind} {dataset.ann_file} has no object of {list_names(classes)} in its "
            f"{len(dataset)} pictures: the names in metainfo=dict(classes=...) must be those of "
            "the annotations, letter by letter"
        )
    without = [name for i, name in enumerate(classes) if not counts[i]]
    if without:
        print_log(
            f"{kind} {dataset.ann_file} has no object of {list_names(without)}: names are compared "
            "letter by letter",
            logger="current",
            level=logging.WARNING,
        )
