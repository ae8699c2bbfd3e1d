"""Long runs over many shapes; only with ``pytest -m slow``."""

import os
import random
from pathlib import Path

import pytest
import torch

from gfnet_dense.models import GFNet

NUM_SHAPES = 300


def resident_megabytes():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="/proc is Linux's")
@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_memory_does_not_grow_with_the_number_of_shapes(training):
    """As in detection: the pretraining grid, and a new shape in every step."""
    model = GFNet("h-tiny").train(training)
    generator = random.Random(0)
    sides = range(256, 513, 32)
    shapes = [(a, b) for a in sides for b in range(256, 737, 8)]  # padded batches, and odd maps
    memory = []
    for shape in generator.sample(shapes, NUM_SHAPES):
        with torch.set_grad_enabled(training):
            maps = model(torch.rand(1, 3, *shape))
        if training:
            sum(x.mean() for x in maps).backward()
            model.zero_grad()
        del maps
        memory.append(resident_megabytes())
    early, late = max(memory[: NUM_SHAPES // 3]), max(memory[-NUM_SHAPES // 3 :])
    print(
        f"resident memory, MB: shape 1 {memory[0]:.0f}, most of the first 100 {early:.0f}, ", end=""
    )
    print(f"most of the last 100 {late:.0f}, last {memory[-1]:.0f}")
    assert late < 1.05 * early
