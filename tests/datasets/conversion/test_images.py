"""Pictures of a conversion: EXIF orientations, names, suffixes, duplicates, splits of folders."""

import base64
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gfnet_dense.datasets.conversion.convert import plan_conversion
from gfnet_dense.datasets.conversion.images import DOUBTFUL, UNTAGGED, UNTOLD, unique_names
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


# ---------------------------------------------------------------------------- folders of splits


def rectangle():
    return dict(shape_attributes=dict(name="rect", x=1, y=1, width=9, height=9))


def write_voc(image):
    image.with_suffix(".xml").write_text(
        f"<annotation><filename>{image.name}</filename><size><width>24</width><height>16</height>"
        "</size><object><name>thing</name><bndbox><xmin>2</xmin><ymin>3</ymin><xmax>12</xmax>"
        "<ymax>9</ymax></bndbox></object></annotation>"
    )


def write_via(folder, names):
    regions = [dict(rectangle(), region_attributes=dict(kind="thing"))]
    content = {name: dict(filename=name, size=1, regions=regions) for name in names}
    (folder / "via_region_data.json").write_text(json.dumps(content))


def coco_file(path, names):
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [dict(id=i, file_name=n, height=16, width=24) for i, n in enumerate(names, 1)]
    annotations = [
        dict(id=i, image_id=i, category_id=1, bbox=[1, 1, 9, 9], area=81, iscrowd=0)
        for i in range(1, len(names) + 1)
    ]
    categories = [dict(id=1, name="thing")]
    path.write_text(json.dumps(dict(images=images, annotations=annotations, categories=categories)))


def write_split(format, source, split):
    """Write two images of one split in its folder, and their annotation, which does not tell it."""
    below = source / "images" / split if format in ("yolo", "masks") else source / split
    names = [f"{split}{i}.png" for i in range(2)]
    images = [photo(below / name) for name in names]
    if format == "via":
        write_via(below, names)
    for image in images:
        labels = source / ("masks" if format == "masks" else "labels") / split / image.name
        if format in ("yolo", "masks"):
            labels.parent.mkdir(parents=True, exist_ok=True)
        if format == "voc":
            write_voc(image)
        elif format == "labelme":
            labelme(image, (24, 16))
        elif format == "yolo":
            labels.with_suffix(".txt").write_text("0 .5 .5 .2 .2\n")
            (source / "classes.txt").write_text("thing\n")
        elif format == "masks":
            Image.fromarray(np.eye(16, 24, dtype=np.uint8)).save(labels)
    if format == "coco":
        path = source / "labels.json"
        before = json.loads(path.read_text())["images"] if path.is_file() else []
        coco_file(path, [each["file_name"] for each in before] + [f"{split}/{n}" for n in names])


@pytest.mark.parametrize("format", ["voc", "labelme", "yolo", "via", "coco", "masks"])
@pytest.mark.parametrize("folders", [("train", "valid", "test"), ("Training", "val2017", "test")])
def test_folders_tell_splits(format, folders, tmp_path):
    for folder in folders:
        write_split(format, tmp_path / "in", folder)
    to = "masks" if format == "masks" else "coco"
    convert(tmp_path / "in", tmp_path / "out", to, val=None)
    for folder, split in zip(folders, ("train", "val", "test"), strict=True):
        written = (tmp_path / "out/images" / split).rglob("*.png")
        assert sorted(path.name for path in written) == [f"{folder}0.png", f"{folder}1.png"]


def test_names_of_files_and_folders_above_the_source_tell_no_split(tmp_path):
    root = tmp_path / "train/in"
    for name in ("train", "test", "val", "a"):
        labelme(photo(root / f"{name}.jpg"), (24, 16))
    plan = plan_conversion(root, tmp_path / "out", "coco", val=0.5)
    assert sorted(image.split for image in plan.source.images) == ["train", "train", "val", "val"]


def test_folders_that_tell_the_splits_of_some_images_alone_are_refused(tmp_path):
    for name in ("train/a", "val/b", "more/c"):
        labelme(photo(tmp_path / f"in/{name}.jpg"), (24, 16))
    with pytest.raises(InputError, match=r"1 images, first .*more/c.jpg, in no split: sort all"):
        plan_conversion(tmp_path / "in", tmp_path / "out", "coco")


# ------------------------------------------------------------- photos that may be the wrong ones


def test_an_image_in_the_folder_of_another_split_is_none(tmp_path):
    for split, names in (("train", "ab"), ("val", "abc")):
        for name in names:
            photo(tmp_path / f"in/images/{split}/{name}.png")
        coco_file(tmp_path / f"in/annotations/{split}.json", [f"{n}.png" for n in "abc"])
    (sentence,) = faults(tmp_path / "in", tmp_path / "out")
    assert "train.json names the image c.png, which is not there" in sentence
    # A name with its folder says which one it is.
    coco_file(tmp_path / "in/annotations/train.json", ["train/a.png", "train/b.png"])
    coco_file(tmp_path / "in/annotations/val.json", ["val/a.png", "val/b.png", "val/c.png"])
    convert(tmp_path / "in", tmp_path / "out", "coco", val=None)
    source = tmp_path / "in/images/val/a.png"
    assert (tmp_path / "out/images/val/val/a.png").read_bytes() == source.read_bytes()


def test_an_image_of_voc_in_another_split_is_none(tmp_path):
    for folder in ("train", "valid"):
        write_voc(photo(tmp_path / "in" / folder / "a.png"))
    (tmp_path / "in/train/a.png").unlink()
    (sentence,) = faults(tmp_path / "in", tmp_path / "out")
    assert "train/a.xml names the image a.png, which is not there" in sentence


def test_the_embedded_image_goes_before_one_of_its_name_in_another_folder(tmp_path):
    image = photo(tmp_path / "in/A/a.png")
    data = image.read_bytes()
    embedded = base64.b64encode(data).decode()
    labelme(image, (24, 16))
    content = json.loads(image.with_suffix(".json").read_text())
    image.with_suffix(".json").write_text(json.dumps({**content, "imageData": embedded}))
    image.unlink()
    Image.new("RGB", (24, 16)).save(photo(tmp_path / "in/B/a.png"))
    convert(tmp_path / "in", tmp_path / "out", "coco")
    assert (tmp_path / "out/images/train/a.png").read_bytes() == data
    options = dict(images=tmp_path / "in/B")  # the user's word goes before
    convert(tmp_path / "in", tmp_path / "other", "coco", **options)
    other = (tmp_path / "other/images/train/a.png").read_bytes()
    assert other == (tmp_path / "in/B/a.png").read_bytes() != data


def test_an_image_elsewhere_that_has_nothing_but_the_name_is_refused_or_told(tmp_path):
    for name in "ab":
        labelme(photo(tmp_path / f"in/A/{name}.png"), (24, 16))
    (tmp_path / "in/B").mkdir()
    (tmp_path / "in/A/b.png").rename(tmp_path / "in/B/b.png")
    (sentence,) = faults(tmp_path / "in", tmp_path / "out")
    assert "A/b.json names an image that is not beside it, as others are" in sentence
    (tmp_path / "in/A/a.png").rename(tmp_path / "in/B/a.png")  # now all are in one other folder
    plan = convert(tmp_path / "in", tmp_path / "out", "coco")
    words = "images are taken from another folder by their name"
    assert plan.source.notes == {words: (2, str(tmp_path / "in/A/a.json"))}


@pytest.mark.parametrize("format", ["yolo", "via", "labelme"])
def test_labels_without_a_size_leave_a_turned_photo_in_doubt(format, tmp_path):
    write_split(format, tmp_path / "in", "train")
    place = tmp_path / "in" / ("images/train" if format == "yolo" else "train")
    photo(place / "train0.png", orientation=6)
    if format == "labelme":
        path = place / "train0.json"
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, "imageHeight": None, "imageWidth": None}))
    plan = convert(tmp_path / "in", tmp_path / "out", "coco")
    assert plan.source.notes[UNTOLD] == (1, str(place / "train0.png"))
    assert "YOLO" in UNTOLD
    sizes = {image.path.name: image.size for image in plan.source.images}
    assert sizes == {"train0.png": (24, 16), "train1.png": (16, 24)}


def test_images_of_16_bits_are_refused_before_they_would_lose_some(tmp_path):
    labelme(photo(tmp_path / "in/a.jpg"), (24, 16))
    deep = photo(tmp_path / "in/b.png")
    labelme(deep, (24, 16))
    values = np.arange(24 * 16, dtype=np.uint16).reshape(16, 24) * 170
    Image.fromarray(values).save(deep)
    convert(tmp_path / "in", tmp_path / "out", "masks")  # it is a PNG already
    assert (tmp_path / "out/images/train/b.png").read_bytes() == deep.read_bytes()
    netpbm = b"P6 24 16 4095\n" + np.zeros((16, 24, 3), ">u2").tobytes()
    for suffix in (".tif", ".ppm"):
        image = deep.with_suffix(suffix)
        image.write_bytes(netpbm) if suffix == ".ppm" else Image.fromarray(values).save(image)
        deep.unlink()
        labelme(image, (24, 16))
        with pytest.raises(InputError, match=f"b{suffix} has more than 8 bits per channel"):
            plan_conversion(tmp_path / "in", tmp_path / "o", "masks", val=0)
        deep = image


def test_an_image_of_another_folder_than_most_is_told(tmp_path):
    folder = tmp_path / "in/Annotations"
    folder.mkdir(parents=True)
    for name in ("JPEGImages/a", "JPEGImages/b", "more/c", "more/d"):
        image = photo(tmp_path / f"in/{name}.png")
        write_voc(image)
        image.with_suffix(".xml").rename(folder / f"{image.stem}.xml")
    (folder / "d.xml").unlink()
    plan = convert(tmp_path / "in", tmp_path / "out", "coco")
    words = "images are taken by name from another folder than most"
    assert plan.source.notes[words] == (1, str(tmp_path / "in/more/c.png"))
    assert len(objects(tmp_path / "out")) == 3
