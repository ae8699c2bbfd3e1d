"""Classes with few pixels: how often each one occurs, weights for a loss, and a sampler."""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from mmengine.dataset import InfiniteSampler

from gfnet_dense.registry import DATA_SAMPLERS
from gfnet_dense.utils.errors import InputError

from .loading_guards import GuardedSegMap, inner_datasets, loads_annotations
from .survey.contents import in_parallel


def count_pixels(dataset: Any) -> np.ndarray:
    """Count the pixels of each class in each label map, and show the progress on stderr.

    Args:
        dataset: A built dataset of mmsegmentation, alone or joined to others by ConcatDataset.

    Returns:
        (images, classes) int64, in the order of the dataset, without pixels that have no label.

    Raises:
        InputError: If a dataset has no label maps, if it is in a wrapper that changes its length,
            or if a label map is broken.
    """
    parts = list(inner_datasets(dataset))
    if sum(map(len, parts)) != len(dataset):
        raise InputError(
            f"pixels are counted in a dataset of mmsegmentation, or in several of them joined by "
            f"ConcatDataset, not in {type(dataset).__name__}, which changes the number of images"
        )
    counts: list[np.ndarray] = []
    for part in parts:
        load = _label_loader(part)
        count = partial(_count, part, load, len(part.metainfo["classes"]))
        counts += in_parallel(count, range(len(part)), "pixels of each class")
    return np.stack(counts)


def _label_loader(dataset: Any) -> GuardedSegMap:
    """Return the transform that loads the label maps of a dataset without wrappers."""
    for transform in getattr(getattr(dataset, "pipeline", None), "transforms", ()):
        if isinstance(transform, GuardedSegMap):
            return transform
        if loads_annotations(transform, "mmseg"):
            return GuardedSegMap(transform, dataset.metainfo)
    raise InputError(
        f"{type(dataset).__name__} has no LoadAnnotations of mmsegmentation in its pipeline, so "
        "pixels of classes cannot be counted: leave out what needs them"
    )


def _count(dataset: Any, load: GuardedSegMap, num_classes: int, i: int) -> np.ndarray:
    labels = load(dataset.get_data_info(i))["gt_seg_map"]
    return np.bincount(labels.ravel(), minlength=num_classes)[:num_classes]


def class_weights(counts: Sequence[int]) -> list[float]:
    """Return a weight for each class, between 1.4 and 50.5: 1 / ln(1.02 + share of its pixels).

    This is the formula of ENet (https://arxiv.org/abs/1606.02147, section 5.1).

    Args:
        counts: Number of pixels of each class.
    """
    shares = np.asarray(counts, float) / max(1, sum(counts))
    return [float(f"{weight:.4g}") for weight in 1 / np.log(1.02 + shares)]


def class_probabilities(counts: Sequence[int], temperature: float) -> np.ndarray:
    """Return how often an image is drawn for each class: softmax((1 - share) / temperature).

    This is the rare class sampling of DAFormer (https://arxiv.org/abs/2111.14887, equation 8).
    Classes without pixels are never drawn.

    Args:
        counts: Number of pixels of each class, of which one has pixels.
        temperature: The lower, the more often rare classes are drawn.
    """
    shares = np.asarray(counts, float) / sum(counts)
    lowest = shares[shares > 0].min()
    weights = np.exp(np.where(shares > 0, (lowest - shares) / temperature, -np.inf))
    return weights / weights.sum()


@DATA_SAMPLERS.register_module()
class RareClassSampler(InfiniteSampler):
    """Endless sampler for trainings in iterations that draws images of rare classes more often.

    For each sample a class is drawn by :func:`class_probabilities`, and one of the images that show
    it. All label maps are read once, when the sampler is built. The stream of indices depends on
    the seed alone, and is dealt to the processes in turn. It overrides a private method of
    mmengine's InfiniteSampler, as seen in onedl-mmengine 0.10.12.

    Args:
        dataset: See :func:`count_pixels`.
        temperature: See :func:`class_probabilities`; 0.01 is DAFormer's.
        seed: Seed of the stream. If None, all processes agree on a random one.

    Raises:
        InputError: If ``temperature`` is not positive, or pixels cannot be counted.
    """

    def __init__(self, dataset: Any, temperature: float = 0.01, seed: int | None = None) -> None:
        if not (temperature > 0 and math.isfinite(temperature)):
            raise InputError(f"temperature of RareClassSampler is above 0, got {temperature}")
        counts = count_pixels(dataset)
        if not counts.any():
            raise InputError("RareClassSampler finds no labeled pixel in the training data")
        self.probabilities = class_probabilities(counts.sum(0), temperature)
        self.images = [np.flatnonzero(column) for column in counts.T]
        super().__init__(dataset, seed=seed)

    def _infinite_indices(self) -> Iterator[int]:
        generator = np.random.default_rng(self.seed)
        while True:
            images = self.images[generator.choice(len(self.images), p=self.probabilities)]
            yield int(images[generator.integers(len(images))])
