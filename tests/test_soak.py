"""Long runs over many shapes; only with ``pytest -m slow``."""

import os
import random
import sys
from pathlib import Path

import pytest
import torch

from gfnet_dense.cli import ONEDNN_CACHE
from gfnet_dense.models import GFNet
from tests.tools.test_train import run

NUM_SHAPES = 300


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="/proc is Linux's")
@pytest.mark.parametrize("kind", ["evaluation", "training"])
def test_memory_does_not_grow_with_the_number_of_shapes(kind, tmp_path, monkeypatch):
    """As in detection: the pretraining grid, and a new shape in every step."""
    for name, value in ONEDNN_CACHE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))
    result = run([sys.executable, "-m", "tests.test_soak", kind], tmp_path)
    assert result.returncode == 0, result.stderr
    print(result.stdout)
    memory = [float(line) for line in result.stdout.split()]
    assert len(memory) == NUM_SHAPES
    middle, last = max(memory[100:200]), max(memory[200:])
    assert last < 1.05 * middle


def soak(training):
    """Print the resident memory in MB after each of many shapes."""
    model = GFNet("h-tiny").train(training)
    sides = range(256, 513, 32)
    shapes = [(a, b) for a in sides for b in range(256, 737, 8)]  # padded batches, and odd maps
    for shape in random.Random(0).sample(shapes, NUM_SHAPES):
        with torch.set_grad_enabled(training):
            maps = model(torch.rand(1, 3, *shape))
        if training:
            sum(x.mean() for x in maps).backward()
            model.zero_grad()
        del maps
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        print(round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20), flush=True)


if __name__ == "__main__":
    soak(sys.argv[1] == "training")
