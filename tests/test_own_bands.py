"""The lines for several bands in docs/own_data.md, added to the config for own data."""

import numpy as np
import pytest
from PIL import Image

from tests.commands import error_of, run, tool
from tests.conftest import ROOT


@pytest.fixture
def folder(tmp_path):
    """Write a data set of NumPy files of four bands, and its config as the page says."""
    page = (ROOT / "docs" / "own_data.md").read_text()
    lines = page.partition("<!-- bands -->\n```python\n")[2].partition("```")[0]
    config = (ROOT / "configs" / "fpn_gfnet-h-ti_own-data.py").read_text()
    config = config.replace('"./_base_', f'"{ROOT}/configs/_base_').replace('".jpg"', '".npy"')
    (tmp_path / "my_bands.py").write_text(config + lines)
    data, generator = tmp_path / "data" / "my_dataset", np.random.default_rng(0)
    for split, count in (("train", 3), ("val", 2)):
        for kind in ("images", "labels"):
            (data / kind / split).mkdir(parents=True)
        for i in range(count):
            image = generator.integers(0, 4096, (48, 64, 4), np.uint16)
            np.save(data / "images" / split / f"{i:04d}.npy", image)
            labels = generator.integers(0, 3, (48, 64), np.uint8)
            Image.fromarray(labels).save(data / "labels" / split / f"{i:04d}.png")
    return tmp_path


def test_the_data_are_checked_and_drawn(folder):
    result = run(tool("check_dataset", "my_bands.py"), folder)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "train: 3 images" in result.stdout and "errors: none" in result.stdout
    assert (folder / "work_dirs" / "my_bands" / "dataset_train.png").exists()


def test_what_does_not_fit_together_is_refused_as_the_page_says(folder):
    def refusal(*options):
        return error_of(run(tool("train", "my_bands.py", "--cfg-options", *options), folder))

    page = (ROOT / "docs" / "own_data.md").read_text()
    five = "model.backbone.in_channels=5"
    assert refusal(five) in page
    fives = [f"model.data_preprocessor.{key}=[1,1,1,1,1]" for key in ("mean", "std")]
    assert refusal(five, *fives, "model.backbone.init_cfg=None") in page


def test_an_image_of_another_number_of_bands_is_an_error_of_the_check(folder):
    path = folder / "data" / "my_dataset" / "images" / "val" / "0001.npy"
    np.save(path, np.zeros((48, 64, 3), np.uint16))
    result = run(tool("check_dataset", "my_bands.py"), folder)
    assert result.returncode == 1
    assert "images/val/0001.npy is loaded with 3 bands, model.backbone.in_channels is 4" in (
        result.stdout
    )
