"""What test.py writes: one result for each image, under its name, in the numbers that are said."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from gfnet_dense import api
from gfnet_dense.demo import shrink
from gfnet_dense.utils.config import read_config
from tests.commands import error_of, run, tool
from tests.conftest import ROOT

SEG = ROOT / "configs" / "fpn_gfnet-h-ti_ade20k.py"
LONG = "x" * 251  # with a suffix the longest name of a file
IMAGES = ["a/1", "b/1", "b/2", f"b/{LONG}"]  # the first two have one name


@pytest.fixture(scope="module")
def folder(tmp_path_factory, demo_data):
    """Weights, and a copy of some demo data in subfolders."""
    path = tmp_path_factory.mktemp("test")
    (path / "data").symlink_to(demo_data)
    (source,) = {p.parent for p in demo_data.rglob("images/validation/*.jpg")}
    for name, image in zip(IMAGES, sorted(source.glob("*.jpg")), strict=False):
        for kind, suffix in (("images", ".jpg"), ("annotations", ".png")):
            file = source.parents[1] / kind / "validation" / f"{image.stem}{suffix}"
            target = path / "own" / kind / f"{name}{suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
    cfg = read_config(str(SEG))
    shrink(cfg)
    model = api.load_model(cfg, None)
    with torch.no_grad():  # an untrained head predicts the same class everywhere
        for name, parameter in model.named_parameters():
            if "conv_seg" in name:
                parameter.normal_(std=1.0)
    torch.save({"state_dict": model.state_dict(), "meta": {}}, path / "weights.pth")
    return path


def evaluate(folder, *arguments):
    prefix = "test_dataloader.dataset.data_prefix"
    own = ["test_dataloader.dataset.data_root=own", "test_dataloader.num_workers=0",
           f"{prefix}.img_path=images", f"{prefix}.seg_map_path=annotations",
           "test_dataloader.persistent_workers=False"]  # fmt: skip
    return run(
        tool("test", SEG, "weights.pth", "--demo", *arguments, "--cfg-options", *own), folder
    )


def test_images_of_one_name_in_two_folders_have_their_own_results(folder):
    result = evaluate(folder, "--out", "maps", "--show-dir", "shown")
    assert result.returncode == 0, result.stderr[-3000:]
    assert "mIoU" in result.stdout
    maps = {str(p.relative_to(folder / "maps"))[:-4] for p in (folder / "maps").rglob("*.png")}
    shown = {str(p.relative_to(folder / "shown"))[:-4] for p in (folder / "shown").rglob("*.jpg")}
    assert maps == shown == set(IMAGES)

    command = tool("infer", SEG, "weights.pth", "own/images", "--demo", "--out-dir", "out")
    inferred = run([*command, "--device", "cpu"], folder)
    assert inferred.returncode == 0, inferred.stderr
    for name in IMAGES:
        tested = np.asarray(Image.open(folder / "maps" / f"{name}.png"))
        labels = np.asarray(Image.open(folder / "out" / "labels" / f"{name}.png"))
        assert len(np.unique(tested)) > 1 and np.array_equal(tested, labels + 1)
        with Image.open(folder / "own" / "images" / f"{name}.jpg") as image:
            with Image.open(folder / "shown" / f"{name}.jpg") as picture:
                assert picture.width == 2 * image.width and picture.height > image.height

    # Both say what their numbers mean.
    keys = []
    for path, first in (("maps", 1), ("out/labels", 0)):
        lines = (folder / path / "classes.txt").read_text().splitlines()
        numbers, names = zip(*(line.split(" ", 1) for line in lines), strict=True)
        assert list(map(int, numbers)) == list(range(first, first + len(lines)))
        keys.append(names)
    assert keys[0] == keys[1]


def test_averaged_predictions_have_the_same_numbers(folder):
    result = evaluate(folder, "--tta", "--out", "averaged")
    assert result.returncode == 0, result.stderr[-3000:]
    for name in IMAGES:
        assert np.asarray(Image.open(folder / "averaged" / f"{name}.png")).min() >= 1
    assert (folder / "averaged" / "classes.txt").read_text().startswith("1 ")


@pytest.mark.parametrize("option", ["--out", "--show-dir"])
def test_a_folder_that_cannot_be_written_to_is_refused_before_the_test(folder, option):
    (folder / "file").touch()
    error = error_of(evaluate(folder, option, "file/maps"))
    assert error == "error: results cannot be written to file/maps: Not a directory"


def test_a_result_that_cannot_be_written_is_told_after_the_metric(folder):
    (folder / "blocked" / "b" / "2.png").mkdir(parents=True)
    result = evaluate(folder, "--out", "blocked")
    error = error_of(result)
    assert "own/images/b/2.jpg could not be written: Is a directory" in error
    assert error.endswith("the other 3 were written") and "mIoU" in result.stdout
    assert sum(p.is_file() for p in (folder / "blocked").rglob("*.png")) == 3
