"""Mended copies: each fault is put into clean data, and the copy is compared with them."""

import copy
import hashlib
import json

import numpy as np
import pytest
from PIL import Image

from gfnet_dense.datasets.fixing import copy as fixing
from gfnet_dense.datasets.fixing.copy import format_plan, plan_copy, write_copy
from gfnet_dense.datasets.survey.survey import survey
from gfnet_dense.utils.config_options import merge_options
from gfnet_dense.utils.errors import InputError
from tests.commands import error_of, run, tool
from tests.conftest import needs_operators
from tests.small_data import (
    HEIGHT,
    ORIENTATION,
    WIDTH,
    annotation,
    clean_content,
    coco_config,
    label_config,
    write_coco,
    write_labels,
    write_maps,
    write_picture,
)


def fingerprint(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def pixels(path):
    with Image.open(path) as image:
        assert image.getexif().get(ORIENTATION, 1) == 1
        return np.asarray(image)


def fix(cfg, out):
    """Write the mended copy; return its plan and the errors that its survey finds."""
    plan = plan_copy(cfg, out)
    if not plan.mended:
        return plan, None
    write_copy(plan, format_plan(plan))
    cfg = copy.deepcopy(cfg)
    merge_options(cfg, plan.options)
    return plan, [problem.sentence for report in survey(cfg) for problem in report.errors]


# --- detection


@pytest.fixture
def coco(tmp_path):
    import mmdet.datasets  # noqa: F401  # registers the datasets

    write_coco(tmp_path / "source")
    return tmp_path / "source"


def each(key, change):
    def alter(content, folder):
        for entry in content["annotations"]:
            if change is None:
                del entry[key]
            else:
                entry[key] = change(entry[key])

    return alter


def first(**values):
    return lambda content, folder: content["annotations"][0].update(values)


def added(*box, **more):
    def alter(content, folder):
        content["annotations"].append(annotation(5, 2, 2, list(box), **more))

    return alter


def size(width, height):
    def alter(content, folder):
        content["images"][0].update(width=width, height=height)

    return alter


def turned(orientation):
    def alter(content, folder):
        write_picture(folder / "train" / "1.jpg", orientation, seed=1)

    return alter


def alter_categories(*categories, order=None):
    def alter(content, folder):
        content["categories"] = [
            dict(zip(("id", "name", "supercategory"), c, strict=False)) for c in categories
        ]

    return alter


def as_text(content, folder):
    for entry in content["images"] + content["categories"] + content["annotations"]:
        for key in {"id", "image_id", "category_id"} & set(entry):
            entry[key] = str(entry[key])


def cut(content, folder):
    path = folder / "train" / "3.jpg"
    path.write_bytes(path.read_bytes()[:500])


def in_folders(content, folder):
    (folder / "train" / "part").mkdir()
    (folder / "train" / "1.jpg").rename(folder / "train" / "part" / "1.jpg")
    content["images"][0]["file_name"] = "part\\1.jpg"


def wide_boxes(content, folder):
    for i in (1, 3):  # boxes at the border of their picture
        box = content["annotations"][i]["bbox"]
        box[2] += 5


def wrong_proven(content, folder):
    content["images"][0].update(width=WIDTH // 2, height=HEIGHT // 2)


def with_runs(content, folder):
    wrong_proven(content, folder)
    counts = [WIDTH * HEIGHT // 4]
    content["annotations"][0]["segmentation"] = dict(size=[24, 32], counts=counts)


def without_3(content):
    """The clean content without its third image."""
    content["images"].pop()
    content["annotations"].pop()


def part_name(content):
    content["images"][0]["file_name"] = "part/1.jpg"


SAME = None
TAG = "its labels are for the stored picture: written without the tag"
# (fault, how it is made, what the copy has, how the copy differs from clean data), or
# (fault, how it is made, why it is not mended: a part of the sentence, the word for the table)
MENDED = [
    ("iscrowd is missing", each("iscrowd", None), "0", SAME),
    ("area is missing", each("area", None), "area of mask or box", SAME),
    ("area is 0", each("area", lambda _: 0), "area of mask or box", SAME),
    ("annotation ids from 0", each("id", lambda i: i - 1), "numbered from 1", SAME),
    ("annotation ids twice", each("id", lambda _: 7), "numbered from 1", SAME),
    ("annotations without id", each("id", None), "numbered from 1", SAME),
    ("ids as text", as_text, "numbers", SAME),
    (
        "categories in another order",
        alter_categories((2, "blob"), (1, "disc")),
        "in the order of the config",
        SAME,
    ),
    (
        "unused root category with the name of a class",
        alter_categories((0, "disc", "none"), (1, "disc", "disc"), (2, "blob", "disc")),
        "taken out",
        "supercategory",
    ),
    (
        "unused root category with another name",
        alter_categories((0, "things", "none"), (1, "disc", "things"), (2, "blob", "things")),
        "taken out",
        "supercategory",
    ),
    ("box without width", added(3, 3, 0, 5), "taken out", SAME),
    ("box with negative height", added(3, 9, 5, -5), "taken out", SAME),
    ("box outside of its picture", added(70, 3, 5, 5), "taken out", SAME),
    ("box with text", added("3", 3, 5, 5, area=25), "taken out", SAME),
    ("box of three numbers", first(bbox=[1, 2, 3]), "taken out", lambda c: c["annotations"].pop(0)),
    ("box that reaches out of its picture", wide_boxes, "clipped", SAME),
    ("annotation of an image that is not in the file", first(image_id=9), "taken out",
     lambda c: c["annotations"].pop(0)),
    ("width and height missing", size(None, None), "those of the picture", SAME),
    ("half of the size, passed by boxes", wrong_proven, "size of the picture", SAME),
    ("photo turned by 90 degrees, size as stored", turned(6), "picture without its tag", SAME),
    ("broken picture", cut, "left out", without_3),
    ("picture is missing", lambda c, f: (f / "train" / "3.jpg").unlink(), "left out", without_3),
    ("file_name with backslashes", in_folders, "with /", part_name),
]  # fmt: skip
UNMENDED = [
    (
        "class with another spelling",
        alter_categories((1, "Disc"), (2, "blob")),
        "it has 'Disc', and names are compared",
        "another class may be meant",
    ),
    (
        "category ids off by one",
        each("category_id", lambda i: i - 1),
        "have a category_id that none of its categories has",
        "which names are right is not known",
    ),
    (
        "all boxes between 0 and 1",
        each("bbox", lambda b: [b[0] / WIDTH, b[1] / HEIGHT, b[2] / WIDTH, b[3] / HEIGHT]),
        "lie between 0 and 1",
        "x and y may be corners or centers",
    ),
    (
        "boxes as corners",
        each("bbox", lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]]),
        "would lie inside as corners",
        "a likely meaning, not the only one",
    ),
    ("photo mirrored or turned by 180 degrees", turned(3), "nothing tells whether its boxes are",
     "the size does not tell"),
    ("twice the size", size(2 * WIDTH, 2 * HEIGHT), "do not prove", "boxes fit both sizes"),
    ("width and height exchanged, boxes fit both", size(HEIGHT, WIDTH), "do not prove",
     "boxes fit both sizes"),
    ("half of the size, mask in run lengths", with_runs, "do not prove", "the mask has that size"),
]  # fmt: skip


def prepare(coco, alter):
    content = clean_content()
    if alter is UNMENDED[6][1]:  # boxes that fit both sizes
        content["annotations"][1]["bbox"] = [20, 20, 10, 10]
    alter(content, coco)
    (coco / "train.json").write_text(json.dumps(content))
    return coco_config(coco)


@needs_operators
@pytest.mark.parametrize("case", MENDED, ids=lambda case: case[0])
def test_a_mended_coco_file_is_the_clean_one(coco, tmp_path, case):
    _, alter, _, difference = case
    cfg = prepare(coco, alter)
    before = fingerprint(coco)
    plan, errors = fix(cfg, tmp_path / "out")
    assert plan.mended and not plan.left and not errors, format_plan(plan)
    assert fingerprint(coco) == before
    found = json.loads((tmp_path / "out/annotations/train.json").read_text())
    expected = clean_content()
    if callable(difference):
        difference(expected)
    for entry in found["categories"]:
        assert ("supercategory" in entry) == (difference == "supercategory")
        entry.pop("supercategory", None)
    assert found == expected
    for image in expected["images"]:
        path = tmp_path / "out/images/train" / image["file_name"]
        write_picture(tmp_path / "clean.jpg", seed=image["id"])
        assert np.array_equal(pixels(path), pixels(tmp_path / "clean.jpg"))
    assert len(list((tmp_path / "out/images/train").rglob("*.jpg"))) == len(expected["images"])


@needs_operators
@pytest.mark.parametrize("case", UNMENDED, ids=lambda case: case[0])
def test_what_would_be_a_guess_is_said_and_not_mended(coco, tmp_path, case):
    _, alter, sentence, _ = case
    plan = plan_copy(prepare(coco, alter), tmp_path / "out")
    assert any(sentence in problem.sentence for problem in plan.left), format_plan(plan)
    assert not plan.mended and not (tmp_path / "out").exists()


# --- segmentation


@pytest.fixture
def maps(tmp_path):
    from mmseg.utils import register_all_modules

    register_all_modules()
    write_maps(tmp_path / "source")
    return tmp_path / "source"


def labels_as(kind):
    return lambda folder: write_labels(folder / "labels/train/1.png", kind)


def rename(kind, old, new):
    return lambda folder: (folder / kind / "train" / old).rename(folder / kind / "train" / new)


def remove(kind, name):
    return lambda folder: (folder / kind / "train" / name).unlink()


def cut_file(kind, name):
    def alter(folder):
        path = folder / kind / "train" / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return alter


def turn(orientation, square=False):
    def alter(folder):
        size = (HEIGHT, HEIGHT) if square else (WIDTH, HEIGHT)
        write_picture(folder / "images/train/1.jpg", orientation, seed=1, size=size)
        write_labels(folder / "labels/train/1.png", size=size)

    return alter


def colored(folder):
    colors = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    Image.fromarray(colors).save(folder / "labels/train/1.png")


def deep(folder):
    Image.fromarray(np.full((HEIGHT, WIDTH), 1000, np.uint16)).save(folder / "labels/train/1.png")


def masks(folder):
    for split in ("train", "val"):
        for i in (1, 2):
            write_labels(folder / f"labels/{split}/{i}.png", values=(0, 255))


def as_png(folder):
    path = folder / "images/train/1.jpg"
    with Image.open(path) as image:
        image.save(path.with_suffix(".png"))
    path.unlink()


MENDED_MAPS = [
    ("label map of 16 bits, values below 256", labels_as("I;16"), "8 bits", 2),
    ("label map RGB with equal channels", labels_as("RGB"), "one channel", 2),
    ("label map RGBA with equal channels", labels_as("RGBA"), "one channel", 2),
    ("label map gray with alpha", labels_as("LA"), "one channel", 2),
    ("photo turned by 90 degrees, label map as stored", turn(6), "image without its tag", 2),
    ("image .JPG where .jpg is set", rename("images", "1.jpg", "1.JPG"), "renamed", 2),
    ("image .jpeg where .jpg is set", rename("images", "1.jpg", "1.jpeg"), "renamed", 2),
    ("label map .PNG where .png is set", rename("labels", "1.png", "1.PNG"), "renamed", 2),
    ("broken image", cut_file("images", "1.jpg"), "left out with its label map", 1),
    ("broken label map", cut_file("labels", "1.png"), "left out with its image", 1),
    ("image without label map", remove("labels", "1.png"), "left out", 1),
]
UNMENDED_MAPS = [
    ("label map of colors", colored, "which class a color stands for", "colors are not known"),
    ("label map of 16 bits, larger values", deep, "no indices of 8 bits", "no class indices"),
    ("label maps of 0 and 255 alone", masks, "only their author knows", "255 means not labeled"),
    (
        "index of no class",
        lambda f: write_labels(f / "labels/train/1.png", values=(0, 7)),
        "holds the index 7",
        "its class is not known",
    ),
    (
        "label map smaller than its image",
        lambda f: write_labels(f / "labels/train/1.png", size=(32, 24)),
        "has 32x24 pixels, its image 64x48",
        "which one was scaled is not known",
    ),
    ("photo mirrored or turned by 180 degrees", turn(3), "nothing tells", "the size does not tell"),
    ("square photo turned by 90 degrees", turn(6, True), "nothing tells", "the size does not tell"),
    ("image .png where .jpg is set", as_png, "img_suffix is '.jpg'", "another format"),
]


@pytest.mark.parametrize("case", MENDED_MAPS, ids=lambda case: case[0])
def test_a_mended_label_map_is_the_clean_one(maps, tmp_path, case):
    _, alter, _, count = case
    alter(maps)
    before = fingerprint(maps)
    plan, errors = fix(label_config(maps), tmp_path / "out")
    assert plan.mended and not plan.left and not errors, format_plan(plan)
    assert fingerprint(maps) == before
    names = sorted(path.name for path in (tmp_path / "out/images/train").iterdir())
    assert names == ["1.jpg", "2.jpg"][-count:]
    assert len(list((tmp_path / "out/labels/train").iterdir())) == count
    for name in names:
        stem = name[0]
        write_picture(tmp_path / "clean.jpg", seed=int(stem))
        write_labels(tmp_path / "clean.png", seed=int(stem))
        assert np.array_equal(
            pixels(tmp_path / f"out/images/train/{name}"), pixels(tmp_path / "clean.jpg")
        )
        with Image.open(tmp_path / f"out/labels/train/{stem}.png") as label_map:
            assert label_map.mode == "L"
            assert np.array_equal(np.asarray(label_map), pixels(tmp_path / "clean.png"))


@pytest.mark.parametrize("case", UNMENDED_MAPS, ids=lambda case: case[0])
def test_a_guess_about_a_label_map_is_said_and_not_made(maps, tmp_path, case):
    _, alter, sentence, _ = case
    alter(maps)
    plan = plan_copy(label_config(maps), tmp_path / "out")
    assert any(sentence in problem.sentence for problem in plan.left), format_plan(plan)
    assert not plan.mended and not (tmp_path / "out").exists()


def test_the_table_of_the_page(check_table):
    """Its rows are the cases of the tests above."""
    rows = [["data", "fault", "in the copy", "or why it is not mended"]]
    for data, mended, left in (
        ("detection", MENDED, UNMENDED),
        ("segmentation", MENDED_MAPS, UNMENDED_MAPS),
    ):
        rows += [[data, fault, what, ""] for fault, _, what, _ in mended]
        rows += [[data, fault, "", why] for fault, _, _, why in left]
    check_table("what --fix mends", rows)


# --- both


def test_an_interrupted_copy_leaves_nothing(maps, tmp_path, monkeypatch):
    labels_as("I;16")(maps)
    plan = plan_copy(label_config(maps), tmp_path / "out")
    before = sorted(tmp_path.iterdir())

    def stop(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(fixing.shutil, "copyfile", stop)
    with pytest.raises(KeyboardInterrupt):
        write_copy(plan, "")
    assert sorted(tmp_path.iterdir()) == before


def test_a_folder_with_files_or_in_the_data_is_refused(maps, tmp_path):
    for out in (maps, maps / "images/train/1.jpg"):
        with pytest.raises(InputError, match="writes into a new folder, but .* is there already"):
            plan_copy(label_config(maps), out)
    with pytest.raises(InputError, match="outside of .*/images/train"):
        plan_copy(label_config(maps), maps / "images/train/mended")
    (tmp_path / "empty").mkdir()
    labels_as("I;16")(maps)
    assert fix(label_config(maps), tmp_path / "empty")[1] == []


@needs_operators
def test_the_command_writes_the_copy_checks_it_and_prints_the_settings(coco, tmp_path):
    content = clean_content()
    each("area", lambda _: 0)(content, coco)
    (coco / "train.json").write_text(json.dumps(content))
    cfg = coco_config(coco)
    cfg.work_dir = str(tmp_path / "work")
    cfg.dump(tmp_path / "own.py")
    result = run(tool("check_dataset", "own.py", "--fix", "out"), tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr[-2000:]
    assert "4 areas" in result.stdout and "not mended: nothing" in result.stdout
    assert "train_dataloader.dataset.data_root='out'" in result.stdout
    assert "val_evaluator.ann_file='out/annotations/val.json'" in result.stdout
    assert "out/annotations/train.json: 4 annotations, 4 objects are used" in result.stdout
    assert "errors: none" in result.stdout
    assert "4 areas" in (tmp_path / "out/mended.txt").read_text()
    assert error_of(run(tool("check_dataset", "own.py", "--fix", "out"), tmp_path))
