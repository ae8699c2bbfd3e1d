import os
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from gfnet_dense.datasets.synthetic import writers
from gfnet_dense.utils.tables import format_table
from tests.markdown import read_table

ROOT = Path(__file__).parent.parent
needs_operators = pytest.mark.skipif(
    find_spec("mmcv._ext") is None, reason="mmcv has no compiled operators here"
)
TINY = dict(dims=(8, 16, 24, 32), depths=(1, 2, 1, 1), layer_scale_init_value=0.5)


def pytest_addoption(parser):
    parser.addoption(
        "--write-tables", action="store_true", help="write the tables of docs/input.md anew"
    )


def config_param(name, value=None):
    """Return a parameter of a test for a config, which is skipped if it needs missing operators.

    Args:
        name: Name of the config, the id of the test.
        value: The parameter, by default the name.
    """
    uses_operators = "_coco" in name or name.startswith("mask2former")
    marks = needs_operators if uses_operators else ()
    return pytest.param(name if value is None else value, id=name, marks=marks)


@pytest.fixture(autouse=True)
def seed_torch():
    """Start each test with the same random numbers of PyTorch."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def restore_number_of_threads():
    """Undo a change of the number of threads at the end of a test."""
    number = torch.get_num_threads()
    yield
    torch.set_num_threads(number)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Return an empty folder for the downloads of torch.hub."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    return tmp_path / "home" / "hub" / "checkpoints"


@pytest.fixture
def check_table(request):
    """Return a function that compares a table of docs/input.md with what a test has found.

    Its arguments are the name of the table and its rows, the heading first. With --write-tables it
    writes the table instead.
    """
    from pages import insert_block  # of .dev/, which processes of other tests do not find

    page = ROOT / "docs" / "input.md"

    def check(name, rows):
        rows = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
        if request.config.getoption("--write-tables"):
            with FileLock(request.config.rootpath / ".pytest_cache" / "tables.lock"):
                table = format_table(rows, left=range(len(rows[0])))
                page.write_text(insert_block(page.read_text(), name, table))
        block = page.read_text().partition(f"<!-- {name} -->")[2].partition("<!-- end -->")[0]
        assert read_table(block) == rows, "docs/input.md: run this test with --write-tables"

    return check


@pytest.fixture(scope="session")
def samples() -> Path:
    """Return the folder of real images, which are not part of the repository."""
    folder = os.environ.get("GFNET_DENSE_SAMPLES")
    if not folder:
        pytest.skip("GFNET_DENSE_SAMPLES is not set: no real images here")
    return Path(folder)


@pytest.fixture(scope="session")
def demo_data(tmp_path_factory) -> Path:
    """Write some demo scenes once for all tests, which link the folder and do not write to it."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # the workers' common folder
        folder = folder.parent
    with FileLock(folder / "data.lock"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(writers, "NUM_IMAGES", {"training": 24, "validation": 12})
        patch.setattr(writers, "NUM_COCO_IMAGES", {"train2017": 48, "val2017": 12})
        writers.write_ade20k(folder / "data" / "demo")
        writers.write_coco(folder / "data" / "demo")
    return folder / "data"
