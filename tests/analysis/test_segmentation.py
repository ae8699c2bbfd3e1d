"""Errors of segmentors that are fed by hand, with odd names and sizes, and their report."""

import csv
import json
import re

import numpy as np
import pytest
from PIL import Image

from gfnet_dense.analysis.page import render
from gfnet_dense.analysis.results import Results
from gfnet_dense.analysis.segmentation import MAX_SIDE, SegmentationErrors
from gfnet_dense.analysis.segmentation_report import report_segmentation
from gfnet_dense.utils.errors import InputError

NAMES = ["<b>road</b>", 'a & "b"', "$x_1$", "汉字"]
SIZES = [(1, 90), (90, 1), (40, 60), (700, 1300)]


def collect(folder, maps, names, num_worst=3):
    """Return the errors of images, whose truths and predictions are given."""
    errors = SegmentationErrors(num_worst)
    count = len(names)
    palette = [(50 * i % 256, 200, 90) for i in range(count)]
    errors.metainfo = dict(classes=names, palette=palette)
    errors.matrix = np.zeros((count + 1, count), np.int64)
    for i, (truth, prediction) in enumerate(maps):
        path = folder / f"<i>{i}& 'ü$_^\udcff.png"
        image = np.random.default_rng(i).integers(0, 256, (*truth.shape, 3), np.uint8)
        Image.fromarray(image).save(path)
        errors.add(str(path), truth, prediction)
    return errors


def random_maps(count, sizes=SIZES):
    generator = np.random.default_rng(0)
    for size in sizes:
        truth = generator.choice([*range(count), 255], size).astype(np.uint8)
        kept = generator.uniform(size=size) < 0.7
        yield truth, np.where(kept & (truth < 255), truth, generator.integers(0, count, size))


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_all_files_agree_with_the_pixels(tmp_path):
    maps = list(random_maps(4))
    errors = collect(tmp_path, maps, NAMES)
    report = report_segmentation(errors, results := Results(tmp_path / "out"))
    results.finish(report.figures)
    counted = sum(int((truth != 255).sum()) for truth, _ in maps)
    wrong = sum(int(((t != p) & (t != 255)).sum()) for t, p in maps)
    (heading, *rows) = read(tmp_path / "out" / "confusion.csv")
    assert heading[1:] == [row[0] for row in rows] == NAMES
    matrix = np.array([row[1:] for row in rows], int)
    assert matrix.sum() == counted and matrix.sum() - np.trace(matrix) == wrong
    (heading, *rows) = read(tmp_path / "out" / "images.csv")
    table = [dict(zip(heading, row, strict=True)) for row in rows]
    for row, (truth, prediction) in zip(table, maps, strict=True):
        own = truth != 255
        assert int(row["pixels"]) == own.sum()
        assert int(row["errors"]) == (truth[own] != prediction[own]).sum()
        ious = [
            ((truth == c) & (prediction == c)).sum()
            / (((truth == c) | (prediction == c)) & own).sum()
            for c in range(4)
        ]
        assert float(row["mIoU"]) == pytest.approx(np.mean(ious))
    figures = json.loads((tmp_path / "out" / "errors.json").read_text(encoding="utf-8"))
    assert figures["pixels"] == counted
    assert set(figures["files"]) == {
        "classes.csv", "confusion.csv", "confusion.png", "errors.json", "images.csv", "worst.png",
    }  # fmt: skip
    band = figures["boundary"]
    assert band["pixels"] == sum(int(row["band_pixels"]) for row in table)
    assert band["errors"] == sum(int(row["band_errors"]) for row in table)
    assert (band["smallest_width"], band["largest_width"]) == (1, 15)


@pytest.mark.parametrize("size", [(900, 2), (2, 900), (1, 1)])
def test_sheets_of_narrow_images_have_a_size_that_can_be_drawn(size, tmp_path):
    page_of(collect(tmp_path, random_maps(4, [size] * 3), NAMES), tmp_path / "out")
    if (tmp_path / "out" / "worst.png").exists():  # the only pixel may be right
        with Image.open(tmp_path / "out" / "worst.png") as picture:
            assert picture.height < 4500


def test_the_worst_images_are_kept_small_and_in_order(tmp_path):
    truth = np.zeros((100, 2 * MAX_SIDE), np.uint8)
    maps = []
    for share in (0.1, 0.5, 0.0, 0.5, 0.3):
        prediction = truth.astype(int)
        prediction[: int(100 * share)] = 1
        maps.append((truth, prediction))
    worst = collect(tmp_path, maps, ["a", "b"]).worst()
    assert [(each.rate, -each.place) for each in worst] == [(0.5, 1), (0.5, 3), (0.3, 4)]
    assert {each.truth.shape for each in worst} == {(50, MAX_SIDE)}


def page_of(errors, folder):
    report = report_segmentation(errors, Results(folder))
    facts = {"command": "analyze_errors.py <x> & 'y'"}
    return report, render(report.title, facts, report.findings, report.sections)


def test_names_are_escaped_in_the_page_which_needs_no_other_file(tmp_path):
    _, page = page_of(collect(tmp_path, random_maps(4), NAMES), tmp_path / "out")
    assert "&lt;b&gt;road&lt;/b&gt;" in page and "a &amp; &quot;b&quot;" in page and "汉字" in page
    assert "<b>road" not in page and "<x>" not in page and "<script" not in page
    sources = re.findall(r'(?:src|href)="([^"]{5})', page)
    assert len(sources) == 2 and set(sources) == {"data:"}
    assert not re.search(r"https?://|url\(|@import", page)


def test_no_error_at_all(tmp_path):
    truth = np.arange(48).reshape(6, 8) // 24
    report, _ = page_of(collect(tmp_path, [(truth, truth)], ["a", "b"]), tmp_path / "out")
    assert "No pixel is wrong." in report.findings
    assert [section.title for section in report.sections][-1] == "Where errors lie"
    assert report.figures["mIoU"] == report.figures["accuracy"] == 1


def test_one_class_and_an_image_without_labels(tmp_path):
    zeros = np.zeros((20, 30), int)
    maps = [(zeros, zeros), (zeros + 255, zeros)]
    report, _ = page_of(collect(tmp_path, maps, ["a"]), tmp_path / "out")
    assert "1 images have no labeled pixel, and no figures." in report.findings
    assert read(tmp_path / "out" / "images.csv")[2][1:5] == ["0", "0", "", ""]


def test_absent_classes_are_told(tmp_path):
    truth, prediction = np.zeros((2, 20, 30), int)
    prediction[:5] = 2
    report, _ = page_of(collect(tmp_path, [(truth, prediction)], list("abcd")), tmp_path / "out")
    (sentence,) = (text for text in report.findings if "in no label map" in text)
    assert sentence.startswith("3 of 4 classes are in no label map (b, c, d): 1 of them")
    assert report.figures["mIoU"] == pytest.approx(0.75 / 2)


def test_many_classes_have_a_list_of_the_largest_confusions(tmp_path):
    names = [f"a long name of class {i}" for i in range(150)]
    page_of(collect(tmp_path, random_maps(150), names), tmp_path / "out")
    with Image.open(tmp_path / "out" / "confusion.png") as picture:
        assert picture.width == 935 and picture.height < 1000


def test_test_data_in_which_nothing_is_labeled_are_refused(tmp_path):
    ignored = np.full((20, 30), 255)
    errors = collect(tmp_path, [(ignored, ignored - 255)], ["a", "b"])
    with pytest.raises(InputError, match="no pixel of the 1 test images is labeled"):
        report_segmentation(errors, Results(tmp_path / "out"))


def test_figures_of_the_evaluator_that_differ_are_told(tmp_path):
    errors = collect(tmp_path, random_maps(4), NAMES)
    value = round(100 * report_segmentation(errors, Results(tmp_path / "out")).figures["mIoU"], 2)
    for reported, number in ((value, 0), (value + 1, 1)):
        errors.reported = dict(mIoU=reported)
        findings = report_segmentation(errors, Results(tmp_path / "out")).findings
        assert sum("The evaluator of the config says mIoU" in text for text in findings) == number
