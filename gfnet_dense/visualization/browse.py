"""Browsing the dataset of a config: augmented samples with their annotations."""

from copy import deepcopy
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS

from gfnet_dense.datasets.checks.ignored_labels import ignore_index_of
from gfnet_dense.datasets.loading_guards import guard_pipeline
from gfnet_dense.datasets.seeded import seeded
from gfnet_dense.utils.channels import channels_of, shown_input
from gfnet_dense.utils.errors import InputError, building
from gfnet_dense.utils.scope import default_scope

from .overlays import NOT_LABELED, class_colors, overlay_instances, overlay_labels
from .sheets import draw_sheet


def browse_dataset(cfg: Config, split: str, num: int, seed: int, path: Path) -> None:
    """Draw random samples of a dataset, each as the model gets it and with its annotation.

    Args:
        cfg: A complete config for mmsegmentation or mmdetection.
        split: 'train', 'val' or 'test'.
        num: Number of samples; a smaller dataset is drawn as a whole.
        seed: Seed of the choice of samples and of their augmentation.
        path: The PNG file to write.

    Raises:
        InputError: If ``num`` is less than 1, the dataset cannot be built or is empty, or a file
            cannot be read.
    """
    if num < 1:
        raise InputError(f"the number of samples is 1 or more, got {num}")
    with building(f"the dataset of {split}"), default_scope(cfg.default_scope):
        dataset = DATASETS.build(deepcopy(cfg[f"{split}_dataloader"].dataset))
    if len(dataset) == 0:
        raise InputError(f"the dataset of {split} has no images")
    guard_pipeline(dataset, ignore_index_of(cfg.model))
    metainfo = dataset.metainfo
    with seeded(seed):  # the transforms use the global generators
        samples = [dataset[int(i)] for i in np.random.permutation(len(dataset))[:num]]
    cells: list[np.ndarray] = []
    present: set[int] = set()
    for sample in samples:
        image = shown_input(sample["inputs"].permute(1, 2, 0).numpy(), channels_of(cfg.model))
        annotated = sample["data_samples"]
        if "gt_sem_seg" in annotated:
            labels = annotated.gt_sem_seg.data[0].numpy()
            cells += [image, overlay_labels(image, labels, metainfo)]
            present |= set(np.unique(labels))
        else:
            cells += [image, overlay_instances(image, annotated.gt_instances, metainfo)]
    per_row = 4 if len(cells) > 2 else 2
    rows = [tuple(cells[i : i + per_row]) for i in range(0, len(cells), per_row)]
    titles = ("image", "annotation") * (per_row // 2)
    legend = class_colors(metainfo, present)
    if 255 in present:
        legend["not labeled"] = NOT_LABELED
    draw_sheet(rows, titles, legend, path, dpi=150)
