"""Random numbers of the model in an iteration depend on seed, rank and iteration alone."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from gfnet_dense.engine.hooks.seed_hook import SeedHook

PLACE = dict(seed=3, rank=1, iter=7)


def draws(**place):
    """Return a random number of each generator after the hook has run."""
    SeedHook().before_train_iter(SimpleNamespace(**PLACE | place), batch_idx=0)
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_the_same_place_draws_the_same_numbers():
    expected = draws()
    random.random(), np.random.rand(), torch.rand(5)
    assert draws() == expected


@pytest.mark.parametrize("part", PLACE)
def test_each_rank_seed_and_iteration_draws_numbers_of_its_own(part):
    by_value = [draws(**{part: value}) for value in range(8)]
    for numbers in zip(*by_value, strict=True):
        assert len(set(numbers)) == 8
