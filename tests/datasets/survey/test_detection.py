"""Survey of detection data: counts, sizes and problems, against data whose truth is known."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from gfnet_dense.datasets.survey.report import format_report
from gfnet_dense.datasets.survey.survey import survey
from gfnet_dense.visualization.data_sheet import choose_examples, draw_data_sheet
from tests.commands import run, tool
from tests.conftest import needs_operators
from tests.small_data import (
    HEIGHT,
    WIDTH,
    annotation,
    clean_content,
    coco_config,
    write_coco,
    write_picture,
)

pytestmark = needs_operators


@pytest.fixture
def coco(tmp_path):
    import mmdet.datasets  # noqa: F401  # registers the datasets

    write_coco(tmp_path / "data")
    return tmp_path / "data"


def problems(reports, kind):
    return [problem.sentence for report in reports for problem in getattr(report, kind)]


def test_clean_data_are_counted_and_nothing_is_said(coco):
    reports = survey(coco_config(coco))
    assert [report.split for report in reports] == ["train", "val, test"]
    assert problems(reports, "errors") == problems(reports, "warnings") == []
    train = reports[0]
    assert train.num_images == 3 and train.counts == {"disc": 2, "blob": 2}
    assert train.images == {"disc": 2, "blob": 2}
    # boxes of 20x10, 34x28, 10x10 and 24x12 pixels, two of them in one picture
    assert "areas of objects: 4 small (below 32x32 pixels), 0 medium, 0 large" in train.notes[1]
    assert train.notes[2] == "objects in a picture: median 1, at most 2; 0 pictures without"
    table = format_report(reports).split("\n\n")[1].splitlines()
    assert table[0].split() == "class train: objects images val, test: objects images".split()
    assert [row.split() for row in table[1:]] == [["disc", *"2222"], ["blob", *"2222"]]


def test_areas_at_the_limits_of_coco(coco):
    content = clean_content()
    areas = [32**2 - 1, 32**2, 96**2 - 1, 96**2]
    for entry, area in zip(content["annotations"], areas, strict=True):
        entry["area"] = area
    (coco / "train.json").write_text(json.dumps(content))
    assert (
        "1 small (below 32x32 pixels), 2 medium, 1 large" in survey(coco_config(coco))[0].notes[1]
    )


def test_what_is_left_out_filled_in_and_absent_is_said(coco):
    content = clean_content()
    for entry in content["annotations"]:
        entry["area"] = 0
    content["annotations"].append(annotation(5, 2, 2, [3, 3, 0, 5]))
    content["images"].append(dict(id=4, file_name="4.jpg", width=WIDTH, height=HEIGHT))
    content["categories"].append(dict(id=7, name="cube"))
    content["annotations"].append(annotation(6, 2, 7, [3, 3, 9, 5]))
    write_picture(coco / "train/4.jpg", seed=4)
    (coco / "train.json").write_text(json.dumps(content))
    reports = survey(coco_config(coco))
    train = reports[0]
    assert train.counts == {"disc": 2, "blob": 2} and train.num_images == 4
    assert any("filled in when it is read: 4 areas" in note for note in train.notes)
    assert "1 annotations of classes that the config does not name" in train.notes
    assert train.notes[-1].endswith("1 pictures without")
    (warning,) = [line for line in problems(reports, "warnings") if "are not used, first" in line]
    assert "with a width or height of 0 or less" in warning
    assert "annotation 5 of 2.jpg, bbox [3, 3, 0, 5]" in warning
    assert problems(reports, "errors") == []


def test_pictures_are_compared_with_the_file_and_with_each_other(coco):
    train, val = coco / "train", coco / "val"
    write_picture(train / "1.jpg", orientation=6, seed=1)  # has the size of the file, as stored
    write_picture(train / "2.jpg", orientation=3, seed=2)
    (train / "3.jpg").unlink()
    shutil.copy(train / "2.jpg", val / "1.jpg")  # under another name
    shutil.copy(coco / "train/2.jpg", train / "nowhere.jpg")
    with Image.open(val / "2.jpg") as image:
        image.resize((WIDTH // 2, HEIGHT)).save(val / "2.jpg")
    (val / "3.jpg").write_bytes(b"no picture")
    reports = survey(coco_config(coco))
    errors, warnings = problems(reports, "errors"), problems(reports, "warnings")
    assert len(errors) == 4
    assert f"{train}/1.jpg has {HEIGHT}x{WIDTH} pixels, but {WIDTH}x{HEIGHT} in" in errors[0]
    assert "its EXIF orientation 6 turns it" in errors[0]
    assert errors[1] == f"the image {train}/3.jpg does not exist"
    assert f"{val}/2.jpg has {WIDTH // 2}x{HEIGHT} pixels, but {WIDTH}x{HEIGHT} in" in errors[2]
    assert f"{val}/3.jpg cannot be read as image" in errors[3]
    assert any(f"{train}/2.jpg is turned when it is read" in line for line in warnings)
    assert f"the picture {val}/1.jpg is in the training, too, as {train}/2.jpg" in warnings
    assert f"the picture {train}/nowhere.jpg is in no annotation file" in warnings


def test_a_picture_that_was_stored_anew_is_found_by_its_name(coco):
    with Image.open(coco / "train/1.jpg") as image:
        image.save(coco / "val/1.jpg", quality=80)
    warnings = problems(survey(coco_config(coco)), "warnings")
    assert warnings == [f"the picture {coco}/val/1.jpg is in the training, too"]


def test_pictures_of_16_bits_that_are_read_black_are_an_error(coco):
    content = clean_content()
    rng = np.random.default_rng(0)
    for image in content["images"]:
        image["file_name"] = image["file_name"].replace("jpg", "png")
        values = rng.integers(0, 4096, (HEIGHT, WIDTH)).astype(np.uint16)
        Image.fromarray(values).save(coco / "train" / image["file_name"])
    (coco / "train.json").write_text(json.dumps(content))
    (error,) = problems(survey(coco_config(coco))[:1], "errors")
    assert "12 of its 16 bits" in error and "image_range=(0, 4095)" in error
    cfg = coco_config(coco)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.metainfo.image_range = (0, 4095)
    assert problems(survey(cfg)[:1], "errors") == []


def test_errors_of_a_file_or_of_the_heads_do_not_stop_the_others(coco):
    (coco / "val.json").write_text("{")
    cfg = coco_config(coco)
    reports = survey(cfg)
    assert reports[0].num_images == 3 and not reports[0].errors
    assert all("holds no JSON" in line for line in problems(reports[1:], "errors"))
    cfg.model.bbox_head.num_classes = 80
    reports = survey(cfg)
    assert "bbox_head.num_classes is 80" in problems(reports, "errors")[0]
    assert reports[0].num_images == 3


def test_other_data_sets_are_counted_and_said_not_to_be_examined(coco):
    """Pascal VOC has an XML file for each picture."""
    for folder in ("Annotations", "JPEGImages"):
        (coco / "VOC2007" / folder).mkdir(parents=True)
    for i in (1, 2):
        shutil.copy(coco / f"train/{i}.jpg", coco / f"VOC2007/JPEGImages/{i}.jpg")
        boxes = "<bndbox><xmin>3</xmin><ymin>4</ymin><xmax>30</xmax><ymax>20</ymax></bndbox>"
        (coco / f"VOC2007/Annotations/{i}.xml").write_text(
            f"<annotation><size><width>{WIDTH}</width><height>{HEIGHT}</height></size><object>"
            f"<name>cat</name><difficult>0</difficult>{boxes}</object></annotation>"
        )
    (coco / "VOC2007/list.txt").write_text("1\n2\n")
    cfg = coco_config(coco)
    cfg.train_dataloader.dataset = dict(
        type="VOCDataset",
        data_root=str(coco),
        ann_file="VOC2007/list.txt",
        data_prefix=dict(sub_data_root="VOC2007/"),
        metainfo=dict(classes=("cat",)),
        pipeline=[],
    )
    cfg.model.bbox_head.num_classes = 1
    cfg.val_dataloader = cfg.test_dataloader = None
    (report,) = survey(cfg)
    assert report.counts == {"cat": 2} and report.num_images == 2 and not report.errors
    assert "VOCDataset is no COCO data set" in report.notes[0]


def test_the_contact_sheet_shows_each_class_with_its_boxes(coco, tmp_path):
    (report, _) = survey(coco_config(coco))
    shown = {tuple(sorted(set(example.classes.tolist()))) for example in choose_examples(report)}
    assert shown == {(0, 1), (0,), (1,)}  # of the three pictures
    example = choose_examples(report)[0]
    assert example.image.shape == (HEIGHT, WIDTH, 3)
    assert [4, 5, 24, 15] in example.boxes.tolist()  # x1, y1, x2, y2
    assert draw_data_sheet(report, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.width > 1000 and len(picture.convert("RGB").getcolors(2**24)) > 100


def test_the_command_exits_with_1_at_an_error(coco, tmp_path):
    cfg = coco_config("data")
    cfg.work_dir = "work"
    cfg.dump(tmp_path / "own.py")
    (coco / "train/2.jpg").unlink()
    result = run(tool("check_dataset", "own.py"), tmp_path)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "the image data/train/2.jpg does not exist" in result.stdout
    assert "contact sheet: work/dataset_train.png" in result.stdout
