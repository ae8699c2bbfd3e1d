"""Sizes of pictures in a COCO file against the pictures, and pictures that are missing."""

import logging
import re
from copy import deepcopy

import pytest
from PIL import Image

from gfnet_dense.datasets.loading_guards import guard_pipeline
from gfnet_dense.utils.errors import InputError
from tests.coco_files import HEIGHT, WIDTH, content_of, read_split, write_data, write_pictures
from tests.conftest import needs_operators

pytestmark = needs_operators

ORIENTATION = 0x0112  # tag of EXIF
TURN_BACK = {  # what undoes an orientation (https://exif.org/Exif2-2.PDF, page 18)
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def resized(width, height):
    return lambda picture, path: picture.resize((width, height)).save(path)


def with_tag(orientation, suffix=".jpg"):
    """Save the picture with a tag, the labels are for the stored pixels."""

    def save(picture, path):
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        picture.save(path, suffix[1:].replace("jpg", "jpeg"), exif=exif)

    return save


def turned(orientation):
    """Save the picture so that it looks as before when the tag turns it."""

    def save(picture, path):
        with_tag(orientation)(picture.transpose(TURN_BACK[orientation]), path)

    return save


# (way, how a picture is saved, size in the file, what happens)
WAYS = [
    ("equal", None, (WIDTH, HEIGHT), "used"),
    ("exchanged in the file", None, (HEIGHT, WIDTH), "width and height are exchanged"),
    ("halved in the file", None, (WIDTH // 2, HEIGHT // 2), "at wrong places"),
    ("one pixel more in the file", None, (WIDTH, HEIGHT + 1), "at wrong places"),
    ("picture made smaller", resized(80, 64), (WIDTH, HEIGHT), "80x64 pixels, but 160x128"),
    *(
        (f"orientation {n}, labels as stored", with_tag(n), (WIDTH, HEIGHT), "a warning")
        for n in (2, 3, 4)
    ),
    *(
        (f"orientation {n}, labels as stored", with_tag(n), (WIDTH, HEIGHT), f"orientation {n} t")
        for n in (5, 6, 7, 8)
    ),
    *(
        (f"orientation {n}, labels as shown", turned(n), (WIDTH, HEIGHT), "used")
        for n in (5, 6, 7, 8)
    ),
    *(
        (f"PNG, orientation {n}, labels as stored", with_tag(n, ".png"), (WIDTH, HEIGHT), text)
        for n, text in ((3, "a warning"), (6, "orientation 6 t"))
    ),
    ("TIFF, orientation 6, labels as stored", with_tag(6, ".tiff"), (WIDTH, HEIGHT), "orientat"),
]


def save_pictures(folder, save):
    """Write the data; the first and the last picture are saved by a function."""
    folder.mkdir()
    write_data(folder)
    for name in ("00.png", "05.png") if save else ():
        with Image.open(folder / "images" / name) as picture:
            save(picture.copy(), folder / "images" / name)


def read(folder, split):
    """Read a split; return 'used', the refusal or the warning."""
    try:
        _, _, messages = read_split(folder, split)
    except InputError as e:
        return f"refused: {e}"
    warnings = [text for level, text in messages if level == logging.WARNING]
    return f"a warning: {warnings[0]}" if warnings else "used"


def cell_of(found):
    """Return the words of a message for a table, without the folder and the cure."""
    if found.startswith("a warning"):
        return "a warning"
    return re.sub(r"[^ ]*/", "", found).partition("; ")[0]


def test_sizes_are_compared_before_the_first_iteration(tmp_path, check_table):
    rows = [["picture and file", "what happens"]]
    for i, (way, save, size, expected) in enumerate(WAYS):
        folder = tmp_path / str(i)
        save_pictures(folder, save)
        content = content_of()
        for image in content["images"] if save is None else ():
            image.update(width=size[0], height=size[1])
        write_data(folder, content)
        found = [read(folder, split) for split in ("train", "val")]
        assert all(expected in each for each in found), (way, found)
        cells = {cell_of(each).replace("val.json", "train.json") for each in found}
        rows.append([way, *cells])
    check_table("picture sizes", rows)


@pytest.mark.parametrize("number, with_labels", [(1, True), (4, True), (4, False)])
def test_a_size_that_the_sample_does_not_see_is_found_when_the_picture_is_loaded(
    number, with_labels, tmp_path
):
    """Sixteen of many pictures are looked at beforehand, every one when it is loaded.

    Pictures that are evaluated are often loaded without their labels.
    """
    pipeline = [dict(type="LoadImageFromFile"), dict(type="LoadAnnotations", with_bbox=True)]
    pipeline = pipeline if with_labels else pipeline[:1]
    content = content_of(40)
    folder = tmp_path / "data"
    write_pictures(folder / "images", content)
    wrong = deepcopy(content)
    wrong["images"][number].update(width=HEIGHT, height=WIDTH)
    write_data(folder, wrong)
    dataset, _, _ = read_split(folder, "val", pipeline=pipeline)
    guard_pipeline(dataset)
    dataset[0]
    with pytest.raises(InputError, match="160x128 pixels, but 128x160.*width and height are exch"):
        dataset[number]
    with_tag(8)(Image.new("RGB", (WIDTH, HEIGHT)), folder / "images" / f"{number:02d}.png")
    write_data(folder, content)
    dataset, _, _ = read_split(folder, "val", pipeline=pipeline)
    guard_pipeline(dataset)
    with pytest.raises(InputError, match="128x160 pixels, but 160x128.*EXIF orientation 8"):
        dataset[number]


def test_a_reader_that_does_not_turn_photos_takes_the_stored_size(tmp_path):
    save_pictures(tmp_path / "data", with_tag(6))
    load = dict(type="LoadImageFromFile", color_type="color_ignore_orientation")
    pipeline = [load, dict(type="LoadAnnotations", with_bbox=True)]
    dataset, _, messages = read_split(tmp_path / "data", "train", pipeline=pipeline)
    guard_pipeline(dataset)
    assert dataset[0]["img"].shape[:2] == (HEIGHT, WIDTH)
    assert [level for level, _ in messages] == [logging.INFO]


@pytest.mark.parametrize(
    "name, prefix, message",
    [
        (
            "gone.png",
            "images",
            "names the picture gone.png, and there is no .*images/gone.png: set",
        ),
        (r"images\00.png", "", r"write its folders with / instead of \\"),
        ("images/00.png", "images", "but .*data/images/00.png: set data_prefix.img .* to .*data"),
        ("other/00.png", "images", "but .*images/00.png: leave out the folders of file_name"),
    ],
)
def test_a_missing_picture_is_named_with_what_may_be_wrong(name, prefix, message, tmp_path):
    content = content_of()
    content["images"][0]["file_name"] = name
    folder = write_data(tmp_path / "data", content) if (tmp_path / "data").mkdir() is None else None
    with pytest.raises(InputError, match=message):
        read_split(folder, "train", data_prefix=dict(img=prefix))
