import os
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
TINY = dict(dims=(8, 16, 24, 32), depths=(1, 2, 1, 1), layer_scale_init_value=0.5)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder of real images that is not part of the repository."""
    folder = os.environ.get("GFNET_DENSE_SAMPLES")
    if not folder:
        pytest.skip("GFNET_DENSE_SAMPLES is not set: no real images here")
    return Path(folder)
