"""tools/convert_dataset.py as users run it."""

import json
import re

from gfnet_dense.utils.types import LABEL_FORMATS
from tests import labeling_tools as tools
from tests.commands import error_of, run, tool

NAMES = ["person", "car"]


def test_it_converts_and_tells_how_to_use_the_result(tmp_path):
    scenes = tools.draw_scenes(6)
    tools.write_labelme(tmp_path / "labeled", scenes)
    (tmp_path / "labeled/package.json").write_text("{}")
    result = run(tool("convert_dataset", "labeled", "data/own", "--to", "masks"), tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("labelme; train: 5 images, val: 1 images\n")
    rows = dict(re.findall(r"^(car|person) +(\d+ +\d+ +\d+ +\S+)$", result.stdout, re.M))
    for name in NAMES:
        train, _, val, _ = rows[name].split()
        number = sum(each.name == name for scene in scenes for each in tools.things(scene))
        assert int(train) + int(val) == number
    assert "1 JSON files of something else than labelme (first labeled/package.json)" in (
        result.stdout
    )
    assert re.search(r"overlaps: \d\.\d\d% of the pixels of objects", result.stdout)
    assert result.stdout.endswith(
        'set in the config:\n  data_root = "data/own"\n'
        '  classes = ["background", "car", "person"]\n'
        '  suffixes = dict(img_suffix=".jpg", seg_map_suffix=".png")\n'
        "and check it: python tools/check_dataset.py configs/my_dataset.py\n"
    )
    files = sorted(
        p.relative_to(tmp_path / "data/own").as_posix() for p in rglob(tmp_path / "data")
    )
    assert len(files) == 13 and files[0] == "classes.txt"
    assert {name.rpartition("/")[0] for name in files[1:]} == {
        "images/train", "images/val", "labels/train", "labels/val"
    }  # fmt: skip


def rglob(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_problems_are_listed_with_an_exit_code_and_nothing_is_written(tmp_path):
    tools.write_labelme(tmp_path / "labeled", tools.draw_scenes(2) * 6)
    for path in (tmp_path / "labeled").glob("*.json"):
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, "shapes": [dict(label="")]}))
    result = run(tool("convert_dataset", "labeled", "out", "--to", "coco"), tmp_path)
    error = "error: 12 problems in labeled: nothing is written"
    assert error_of(result) == error and result.returncode == 1
    assert "FILE: shape 1 has no label (12 files):" in result.stdout
    assert "labeled/0007.json" in result.stdout and "labeled/0008.json" not in result.stdout
    assert "... and 4 more" in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["labeled"]


def test_the_formats_are_those_of_the_package(tmp_path):
    result = run(tool("convert_dataset", "--help"), tmp_path)
    assert f"{{{','.join(LABEL_FORMATS)}}}" in result.stdout


def test_a_source_that_cannot_be_read_at_all_is_one_sentence(tmp_path):
    result = run(tool("convert_dataset", "gone", "out", "--to", "coco"), tmp_path)
    assert error_of(result) == "error: gone does not exist"


def test_images_without_objects_are_counted(tmp_path):
    tools.write_labelme(tmp_path / "in", tools.draw_scenes(3))
    path = tmp_path / "in/0001.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "shapes": []}))
    result = run(tool("convert_dataset", "in", "out", "--to", "coco", "--val", "0"), tmp_path)
    assert result.stdout.startswith("labelme; train: 3 images (1 without objects)\n")


def test_colors_groups_and_classes_as_arguments(tmp_path):
    tools.write_color_masks(tmp_path / "in", tools.draw_scenes(6))
    options = "--to masks --colors in/colors.txt --classes sky tree --val 0.4 --group-by".split()
    options.append(r"(\d)\.jpg")
    result = run(tool("convert_dataset", "in", "out", *options), tmp_path)
    assert result.returncode == 0, result.stderr
    assert 'classes = ["background", "sky", "tree"]' in result.stdout
    assert (tmp_path / "out/classes.txt").read_text() == "background\nsky\ntree\n"
