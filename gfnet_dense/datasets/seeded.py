"""Random numbers as a function of seed and place in the training, so that resuming is exact.

A checkpoint keeps no state of random generators: there is one in every process and every worker
of every dataloader. Instead each generator is seeded anew for each sample and for each iteration.
"""

import random
from collections.abc import Iterator

import numpy as np
import torch
from mmengine.dist import get_rank, sync_random_seed
from torch.utils.data import Sampler

from gfnet_dense.registry import DATA_SAMPLERS, DATASETS


def seed_generators(*place: int) -> None:
    """Seed the generators of Python, NumPy and PyTorch by some numbers, such as (seed, epoch)."""
    seed = int(np.random.SeedSequence(place).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def with_seeds(dataloader: dict) -> dict:
    """Return the config of a dataloader whose samples do not depend on the worker that loads them,
    nor on those that it has loaded before."""
    return {
        **dataloader,
        "sampler": dict(type="gfnet_dense.SeededSampler", sampler=dataloader["sampler"]),
        "dataset": dict(type="gfnet_dense.SeededDataset", dataset=dataloader["dataset"]),
    }


class SampleIndex(int):
    """The index of a sample, and in ``place`` what its random numbers depend on."""

    place: tuple[int, ...]


# The second name is the former one.
@DATA_SAMPLERS.register_module(name=["SeededSampler", "NumberedSampler"])
class SeededSampler(Sampler):
    """Gives the indices of another sampler as :class:`SampleIndex`.

    Args:
        sampler: Config of the other one.
        dataset: What is sampled.
        seed: Of the training; if None, one that all processes share.
    """

    def __init__(self, sampler: dict, dataset, seed: int | None = None):
        self.seed = sync_random_seed() if seed is None else seed
        self.sampler = DATA_SAMPLERS.build(
            sampler, default_args=dict(dataset=dataset, seed=self.seed)
        )
        self.first = 0
        if hasattr(self.sampler, "skip"):
            self.skip = self._skip

    def _skip(self, num_samples: int) -> None:
        self.sampler.skip(num_samples)
        self.first = num_samples

    def __iter__(self) -> Iterator[SampleIndex]:
        epoch = getattr(self.sampler, "epoch", 0)
        for number, index in enumerate(self.sampler, self.first):
            sample = SampleIndex(index)
            sample.place = (self.seed, get_rank(), epoch, number)
            yield sample

    def __len__(self) -> int:
        return len(self.sampler)

    def __getattr__(self, name: str):
        if name.startswith("__") or name == "sampler":  # while it is copied or unpickled
            raise AttributeError(name)
        return getattr(self.sampler, name)


@DATASETS.register_module()
class SeededDataset:
    """Loads the samples of another dataset with random numbers that depend on the draw alone.

    In all else, attributes that are set included, it is the other one.

    Args:
        dataset: Config of the other one.
    """

    def __init__(self, dataset: dict):
        self.__dict__["dataset"] = DATASETS.build(dataset)

    def __getitem__(self, index: int):
        if isinstance(index, SampleIndex):
            seed_generators(*index.place)
        return self.dataset[int(index)]

    def __len__(self) -> int:
        return len(self.dataset)

    def __getattr__(self, name: str):
        if name.startswith("__") or name == "dataset":  # while it is copied or unpickled
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __setattr__(self, name: str, value) -> None:
        setattr(self.dataset, name, value)
