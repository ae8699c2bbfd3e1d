import numpy as np
import pytest
from PIL import Image

from tests.commands import CONFIG, error_of, run, tool


def browse(folder, out, *arguments):
    command = tool("browse_dataset", CONFIG, "--demo", "--num", 3, "--out", out, *arguments)
    return run(command, folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, demo_data):
    """A working directory with the demo data."""
    path = tmp_path_factory.mktemp("run")
    (path / "data").symlink_to(demo_data)
    return path


def test_seed_determines_the_samples(folder):
    sheets = []
    for out, seed in (("a.png", 0), ("b.png", 0), ("c.png", 1)):
        result = browse(folder, out, "--seed", seed)
        assert result.returncode == 0, result.stderr
        assert f"contact sheet: {out}" in result.stdout
        sheets.append(np.asarray(Image.open(folder / out).convert("RGB"), np.float32))
    assert np.array_equal(sheets[0], sheets[1])
    assert sheets[0].shape != sheets[2].shape or np.abs(sheets[0] - sheets[2]).mean() > 1
    # Two rows of two pairs of image and annotation; the fourth pair is empty.
    height, width = sheets[0].shape[:2]
    assert sheets[0][: height // 3].std() > 30
    assert sheets[0][height // 2 : int(height * 0.8), width // 2 :].min() == 255


def test_wrong_num_and_missing_data_give_a_one_line_error(folder):
    assert "1 or more" in error_of(browse(folder, "d.png", "--num", 0))
    line = error_of(run(tool("browse_dataset", CONFIG), folder))
    assert "ADE20K was not found" in line and "--demo" in line
