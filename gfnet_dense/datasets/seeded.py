"""Random numbers that depend on seed and place in the training alone, so that resuming is exact.

Each process and each worker of a dataloader has random generators of its own, and checkpoints do
not hold their states. Therefore the generators are seeded anew for each sample, and for each
iteration.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank, sync_random_seed
from torch.utils.data import Sampler

from gfnet_dense.registry import DATA_SAMPLERS, DATASETS


def seed_generators(*place: int) -> None:
    """Seed the generators of Python, NumPy and PyTorch.

    Args:
        place: Non-negative integers, such as seed, rank and iteration. All of them decide the seed.
    """
    seed = int(np.random.SeedSequence(place).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@contextmanager
def seeded(*place: int) -> Iterator[None]:
    """Seed the generators as :func:`seed_generators` does, and put their states back at the end."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    seed_generators(*place)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def with_seeds(dataloader: dict) -> dict:
    """Return the config of a dataloader with seeded samples.

    Random numbers of a sample then depend neither on the worker that loads it, nor on the samples
    that this worker has loaded before.

    Args:
        dataloader: Config of a dataloader with ``sampler`` and ``dataset``; it is not changed.
    """
    return {
        **dataloader,
        "sampler": dict(type="gfnet_dense.SeededSampler", sampler=dataloader["sampler"]),
        "dataset": dict(type="gfnet_dense.SeededDataset", dataset=dataloader["dataset"]),
    }


class SampleIndex(int):
    """Index of a sample in its dataset, with the numbers that seed its random generators.

    Attributes:
        place: (seed, rank, epoch, position of the sample in the epoch).
    """

    place: tuple[int, ...]


# NumberedSampler is its former name, which older configs have.
@DATA_SAMPLERS.register_module(name=["SeededSampler", "NumberedSampler"])
class SeededSampler(Sampler):
    """Wrapper of a sampler that yields its indices as :class:`SampleIndex`.

    Args:
        sampler: Config of the wrapped sampler.
        dataset: The dataset, which the wrapped sampler gets as well.
        seed: Seed of the training. If None, all processes agree on a random one.
    """

    def __init__(self, sampler: dict, dataset: Any, seed: int | None = None) -> None:
        self.seed = sync_random_seed() if seed is None else seed
        self.sampler = DATA_SAMPLERS.build(
            sampler, default_args=dict(dataset=dataset, seed=self.seed)
        )
        self.first = 0
        if hasattr(self.sampler, "skip"):  # mmengine asks for the method to skip samples quickly
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

    def __getattr__(self, name: str) -> Any:
        # copy and pickle ask for these before attributes are set: that would recurse endlessly.
        if name.startswith("__") or name == "sampler":
            raise AttributeError(name)
        return getattr(self.sampler, name)


@DATASETS.register_module()
class SeededDataset:
    """Wrapper of a dataset that seeds the random generators before a sample is loaded.

    The seed is the place of the :class:`SampleIndex`; a plain int seeds nothing. All attributes are
    read from, and set on, the wrapped dataset.

    Args:
        dataset: Config of the wrapped dataset.
    """

    def __init__(self, dataset: dict) -> None:
        self.__dict__["dataset"] = DATASETS.build(dataset)  # past __setattr__ below

    def __getitem__(self, index: int) -> Any:
        if isinstance(index, SampleIndex):
            seed_generators(*index.place)
        return self.dataset[int(index)]

    def __len__(self) -> int:
        return len(self.dataset)

    def __getattr__(self, name: str) -> Any:
        # copy and pickle ask for these before attributes are set: that would recurse endlessly.
        if name.startswith("__") or name == "dataset":
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.dataset, name, value)
