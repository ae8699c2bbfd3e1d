"""Pictures of a conversion: EXIF orientations, names, suffixes, duplicates, splits of folders."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gfnet_dense.datasets.conversion.convert import plan_conversion
from gfnet_dense.datasets.conversion.images import DOUBTFUL, UNTAGGED, unique_names
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.images import read_image
from tests import labeling_tools as tools
from tests.datasets.conversion.results import convert, faults, label_map, objects

POLYGON = [[2, 3], [12, 3], [12, 9], [2, 9]]


def photo(path, size=(24, 16), orientation=1):
    """Write an image of noise, (width, height) as it is stored."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(list(path.name.encode())).integers(
        0, 255, (*size[::-1], 3), np.uint8
    )
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)
    return path


def labelme(image, size, points=POLYGON, label="thing", **more):
    """Write the JSON of labelme beside an image, for a picture of (width, height)."""
    shape = dict(label=label, points=points, shape_type="polygon", group_id=None)
    content = dict(
        shapes=[shape], imagePath=image.name, imageData=None, imageWidth=size[0],
        imageHeight=size[1], **more,
    )  # fmt: skip
    image.with_suffix(".json").write_text(json.dumps(content))


def test_a_photo_that_was_labeled_turned_stays_as_it_is(tmp_path):
    image = photo(tmp_path / "in/a.jpg", orientation=6)
    labelme(image, (16, 24))
    convert(tmp_path / "in", tmp_path / "out", "masks")
    assert (tmp_path / "out/images/train/a.jpg").read_bytes() == image.read_bytes()
    assert label_map(tmp_path / "out", "a").shape == read_image(image).shape[:2] == (24, 16)


def test_a_photo_that_was_labeled_as_stored_loses_its_tag_and_no_pixel(tmp_path):
    image = photo(tmp_path / "in/a.jpg", orientation=6)
    labelme(image, (24, 16))
    plan = convert(tmp_path / "in", tmp_path / "out", "masks")
    assert plan.source.notes == {UNTAGGED: (1, str(image))}
    written = read_image(tmp_path / "out/images/train/a.jpg")
    assert (written == np.asarray(Image.open(image).convert("RGB"))).all()
    assert label_map(tmp_path / "out", "a")[3:9, 2:12].all()


@pytest.mark.parametrize("orientation, size", [(3, (24, 16)), (6, (16, 16))])
def test_an_orientation_that_the_size_does_not_tell_is_told(orientation, size, tmp_path):
    image = photo(tmp_path / "in/a.jpg", size, orientation)
    labelme(image, size)
    plan = convert(tmp_path / "in", tmp_path / "out", "coco")
    assert plan.source.notes == {DOUBTFUL: (1, str(image))}


def test_an_image_of_another_size_is_named(tmp_path):
    labelme(photo(tmp_path / "in/a.jpg"), (240, 160))
    (sentence,) = faults(tmp_path / "in", tmp_path / "out")
    assert "a.jpg has 24x16 pixels, but 240x160 in" in sentence
    labelme(photo(tmp_path / "in/a.jpg"), (16, 24))
    assert "width and height are exchanged" in faults(tmp_path / "in", tmp_path / "out")[0]


def test_a_broken_image_is_named_and_nothing_is_written(tmp_path):
    image = photo(tmp_path / "in/a.jpg")
    labelme(image, (24, 16))
    image.write_bytes(image.read_bytes()[:-200])
    (sentence,) = faults(tmp_path / "in", tmp_path / "out")
    assert "a.jpg cannot be read as image" in sentence
    assert os.listdir(tmp_path) == ["in"]


@pytest.mark.parametrize(
    "paths, names",
    [
        (["in/a.jpg", "in/b.jpg"], ["a.jpg", "b.jpg"]),
        (["in/x/a.jpg", "in/y/a.jpg"], ["x/a.jpg", "y/a.jpg"]),
        (["in/x/img/a.jpg", "in/y/img/a.jpg"], ["x/img/a.jpg", "y/img/a.jpg"]),
        (["in/x/a.jpg", "in/y/A.png"], ["x/a.jpg", "y/A.png"]),  # labels would be one file
        (["in/a.jpg", "in/a.png"], ["a.jpg", "a_png.png"]),
        (["in/a.jpg", "in/A.jpg"], ["a_jpg.jpg", "A.jpg"]),  # one file on Windows
    ],
)
def test_names_are_as_short_as_they_can_be_and_unique(paths, names):
    assert unique_names([Path(path) for path in paths]) == names


def test_images_of_several_folders_keep_their_folders(tmp_path):
    for folder in ("x", "y"):
        labelme(photo(tmp_path / f"in/{folder}/a.jpg"), (24, 16), label=folder)
    plan = convert(tmp_path / "in", tmp_path / "out", "masks")
    assert plan.classes == ["background", "x", "y"]
    for value, folder in enumerate(("x", "y"), start=1):
        labels = label_map(tmp_path / "out", f"{folder}/a")
        assert set(np.unique(labels)) == {0, value}
        copy = tmp_path / f"out/images/train/{folder}/a.jpg"
        assert copy.read_bytes() == (tmp_path / f"in/{folder}/a.jpg").read_bytes()


def test_jpeg_files_get_one_suffix_without_a_change(tmp_path):
    for name in ("a.jpg", "b.JPG", "c.jpeg"):
        labelme(photo(tmp_path / "in" / name), (24, 16))
    plan = convert(tmp_path / "in", tmp_path / "out", "masks")
    assert plan.suffix == ".jpg" and not plan.source.notes
    for name in ("a.jpg", "b.JPG", "c.jpeg"):
        copy = tmp_path / "out/images/train" / f"{name[0]}.jpg"
        assert copy.read_bytes() == (tmp_path / "in" / name).read_bytes()
    convert(tmp_path / "in", tmp_path / "coco", "coco")
    assert sorted(objects(tmp_path / "coco")) == ["a.jpg", "b.JPG", "c.jpeg"]


def test_files_of_several_formats_become_png_with_the_same_pixels(tmp_path):
    for name in ("a.jpg", "b.png"):
        labelme(photo(tmp_path / "in" / name), (24, 16))
    plan = convert(tmp_path / "in", tmp_path / "out", "masks")
    assert plan.suffix == ".png"
    ((words, (count, first)),) = plan.source.notes.items()
    assert "written as PNG" in words and count == 1 and first.endswith("a.jpg")
    for name in ("a.jpg", "b.png"):
        written = read_image(tmp_path / "out/images/train" / f"{name[0]}.png")
        assert (written == read_image(tmp_path / "in" / name)).all()


def test_the_same_pictures_are_in_one_split(tmp_path):
    scenes = tools.draw_scenes(8)
    tools.write_labelme(tmp_path / "in", scenes + scenes)  # 16 files, each picture twice
    plan = plan_conversion(tmp_path / "in", tmp_path / "out", "coco", val=0.3)
    split = {image.path.stem: image.split for image in plan.source.images}
    assert set(split.values()) == {"train", "val"}
    assert all(split[f"{i:04d}"] == split[f"{i + 8:04d}"] for i in range(8))
    assert any("same as another one" in words for words in plan.source.notes)


def test_groups_that_share_a_picture_are_joined(tmp_path):
    for name in ("A/0", "A/1", "B/2", "B/3", "C/4", "D/5"):
        labelme(photo(tmp_path / f"in/{name}.jpg"), (24, 16))
    (tmp_path / "in/B/3.jpg").write_bytes((tmp_path / "in/A/0.jpg").read_bytes())
    options = dict(val=0.4, group_by="^[A-D]")
    plan = plan_conversion(tmp_path / "in", tmp_path / "out", "coco", **options)
    split = {image.path.parent.name: image.split for image in plan.source.images}
    assert split["A"] == split["B"] and set(split.values()) == {"train", "val"}


def test_hidden_files_and_loops_of_links_do_no_harm(tmp_path):
    labelme(photo(tmp_path / "in/a.jpg"), (24, 16))
    (tmp_path / "in/loop").symlink_to(tmp_path / "in", target_is_directory=True)
    (tmp_path / "elsewhere").mkdir()
    labelme(photo(tmp_path / "elsewhere/b.jpg"), (24, 16))
    (tmp_path / "in/linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    for name in ("._a.json", ".DS_Store", "._a.jpg"):
        (tmp_path / "in" / name).write_bytes(b"\0\5\26\7")
    convert(tmp_path / "in", tmp_path / "out", "coco")
    assert sorted(objects(tmp_path / "out")) == ["a.jpg", "b.jpg"]


def test_an_image_with_two_annotation_files_is_named(tmp_path):
    image = photo(tmp_path / "in/a.jpg")
    labelme(image, (24, 16))
    (tmp_path / "in/b.json").write_text(image.with_suffix(".json").read_text())
    (sentence,) = faults(tmp_path / "in", tmp_path / "out")
    assert "a.jpg is there twice, with labels in" in sentence and "b.json" in sentence


def test_the_folder_of_the_result_is_new_and_outside_of_the_source(tmp_path):
    labelme(photo(tmp_path / "in/a.jpg"), (24, 16))
    with pytest.raises(InputError, match="OUT is a new folder, but .* is there already"):
        plan_conversion(tmp_path / "in", tmp_path / "in", "coco")
    with pytest.raises(InputError, match="lies in the source"):
        plan_conversion(tmp_path / "in", tmp_path / "in/out", "coco")
    (tmp_path / "out").mkdir()
    convert(tmp_path / "in", tmp_path / "out", "coco")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]
