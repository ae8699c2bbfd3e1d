import os
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from gfnet_dense.demo import write_ade20k, write_coco

ROOT = Path(__file__).parent.parent
needs_operators = pytest.mark.skipif(
    find_spec("mmcv._ext") is None, reason="mmcv has no compiled operators here"
)
TINY = dict(dims=(8, 16, 24, 32), depths=(1, 2, 1, 1), layer_scale_init_value=0.5)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def number_of_threads():
    """What a test sets is not for the next one."""
    number = torch.get_num_threads()
    yield
    torch.set_num_threads(number)


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder of real images that is not part of the repository."""
    folder = os.environ.get("GFNET_DENSE_SAMPLES")
    if not folder:
        pytest.skip("GFNET_DENSE_SAMPLES is not set: no real images here")
    return Path(folder)


@pytest.fixture(scope="session")
def demo_data(tmp_path_factory) -> Path:
    """The folder ``data`` with the demo data, drawn once for all tests: link it, do not write."""
    folder = tmp_path_factory.mktemp("demo") / "data"
    write_ade20k(folder / "demo")
    write_coco(folder / "demo")
    return folder
