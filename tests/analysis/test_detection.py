"""The report on a detector: real metric and hook, detections at random or by hand."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from gfnet_dense.analysis.detection import DetectionErrors
from gfnet_dense.analysis.detection_errors import KINDS
from gfnet_dense.analysis.detection_report import report_detection
from gfnet_dense.analysis.page import render
from gfnet_dense.analysis.results import Results
from gfnet_dense.utils.errors import InputError
from tests.analysis.coco_data import SIZE, random_content, with_polygons

CocoMetric = pytest.importorskip("mmdet.evaluation").CocoMetric


def collect(folder, content, results, kinds=("bbox",), untested=(), **settings):
    """Return the errors of a test in which the metric of mmdetection got the detections."""
    (folder / "truth.json").write_text(json.dumps(content))
    metric = CocoMetric(ann_file=str(folder / "truth.json"), metric=list(kinds), **settings)
    classes = tuple(each["name"] for each in content["categories"])
    metric.dataset_meta = dict(classes=classes)
    errors = DetectionErrors()
    runner = SimpleNamespace(
        test_loop=SimpleNamespace(
            evaluator=SimpleNamespace(metrics=[metric]),
            dataloader=SimpleNamespace(dataset=SimpleNamespace(metainfo=metric.dataset_meta)),
        ),
        model=torch.nn.Identity(),
    )
    errors.before_test(runner)
    images = [each for each in content["images"] if each["id"] not in untested]
    for image in images:
        path = folder / image["file_name"]
        Image.new("RGB", (image["width"], image["height"]), (90, 120, 90)).save(path)
        own = [each for each in results if each["image_id"] == image["id"]]
        boxes = np.array([each["bbox"] for each in own], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        masks = torch.zeros(len(own), image["height"], image["width"], dtype=torch.bool)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes.round().clip(0).astype(int), strict=True):
            mask[y0:y1, x0:x1] = True
        predicted = dict(
            bboxes=torch.from_numpy(boxes),
            scores=torch.tensor([float(each["score"]) for each in own]),
            labels=torch.tensor([each["category_id"] // 10 - 1 for each in own], dtype=torch.long),
            **(dict(masks=masks) if "segm" in kinds else {}),
        )
        sample = dict(img_id=image["id"], ori_shape=(image["height"], image["width"]))
        metric.process({}, [dict(sample, pred_instances=predicted)])
        errors.after_test_iter(runner, 0, None, [SimpleNamespace(img_path=str(path), **sample)])
    errors.after_test_epoch(runner, metric.evaluate(len(images)))
    return errors


def report_of(errors, folder, num_worst=4):
    results = Results(folder)
    report = report_detection(errors, results, num_worst)
    results.write_text("index.html", render(report.title, {}, report.findings, report.sections))
    results.finish(report.figures)
    return report, json.loads((folder / "errors.json").read_text(encoding="utf-8"))


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_figures_tables_and_metric_agree_for_boxes_and_masks(tmp_path):
    content, results = random_content(4, num_images=12)
    errors = collect(tmp_path, with_polygons(content), results, ("bbox", "segm"))
    report, figures = report_of(errors, tmp_path / "out")
    assert not any("evaluator of the config" in text for text in report.findings)
    for kind in ("bbox", "segm"):
        own = figures[kind]
        for theirs, ours in (("mAP", "AP"), ("mAP_50", "AP50"), ("mAP_m", "AP medium")):
            assert errors.reported[f"coco/{kind}_{theirs}"] == round(own["stats"][ours], 3)
        rows = read(tmp_path / "out" / f"{kind}_errors.csv")
        counts = {name: sum(row["kind"] == name for row in rows) for name in KINDS}
        assert counts == {name: own["errors"][name]["count"] for name in KINDS}
        assert sum(counts.values()) == own["false_positives"] == len(rows)
        lost = read(tmp_path / "out" / f"{kind}_missed.csv")
        assert len(lost) == own["objects_not_found"]
        missed = sum(row["why"] == "Missed" for row in lost)
        assert missed == own["errors"]["Missed"]["count"]
        above = sum(row["above_threshold"] == "1" for row in rows)
        matrix = np.array(own["confusion"])
        assert matrix.sum() - np.trace(matrix) - matrix[:, -1].sum() == above
        total = sum(each["objects"] for each in own["classes"])
        assert matrix[:-1, -1].sum() + np.trace(matrix) == total
        sheets = {f"{kind}_false_positives_{name.lower()}.png" for name in KINDS}
        names = sheets | {f"{kind}_missed.png", f"{kind}_errors.png"}
        assert names <= set(figures["files"])


def test_thresholds_keep_what_the_table_says(tmp_path):
    content, results = random_content(5, crowds=False)
    _, figures = report_of(collect(tmp_path, content, results), tmp_path / "out")
    rows = read(tmp_path / "out" / "bbox_errors.csv")
    for each in figures["bbox"]["classes"][:2]:
        limit, objects = each["threshold"]["score"], each["objects"]
        right = round(each["threshold"]["recall"] * objects)
        wrong = sum(row["class"] == each["name"] and float(row["score"]) >= limit for row in rows)
        assert each["threshold"]["precision"] == pytest.approx(right / (right + wrong))


def test_no_detections_at_all(tmp_path):
    content, _ = random_content(0, num_images=4)
    report, figures = report_of(collect(tmp_path, content, []), tmp_path / "out")
    assert "Boxes: nothing was detected." in report.findings
    assert figures["bbox"]["errors"]["Missed"] == dict(
        count=figures["bbox"]["objects_not_found"], gain_of_AP50=1
    )
    assert figures["bbox"]["stats"]["AP"] == 0


def test_no_errors_at_all_and_odd_names(tmp_path):
    content, _ = random_content(0, num_images=4, crowds=False)
    content["categories"][0]["name"] = "<b>$x_1$ & 汉字</b>"
    results = [dict(each, score=0.9) for each in content["annotations"]]
    report, figures = report_of(collect(tmp_path, content, results), tmp_path / "out")
    assert figures["bbox"]["stats"]["AP"] == 1 and figures["bbox"]["false_positives"] == 0
    assert not any("worst" in section.title for section in report.sections)
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;$x_1$ &amp; 汉字&lt;/b&gt;" in page and "<b>$x" not in page


def test_many_classes_boxes_beyond_the_image_and_one_row_of_pixels(tmp_path):
    content, results = random_content(1, num_images=8, num_classes=40)
    content["images"][0].update(height=1, width=300)
    content["images"][1].update(height=300, width=1)
    results.append(dict(image_id=3, category_id=10, bbox=[-900, -900, 20, 20], score=0.99))
    results.append(dict(image_id=3, category_id=10, bbox=[-50, 20, 9000, 1], score=0.98))
    report, figures = report_of(collect(tmp_path, content, results), tmp_path / "out")
    assert len(figures["bbox"]["classes"]) == 40
    assert any("of 40 classes have no objects" in text for text in report.findings)


def test_images_that_were_not_tested_are_told(tmp_path):
    content, results = random_content(0, num_images=6)
    report, _ = report_of(collect(tmp_path, content, results, untested=(2, 3)), tmp_path / "out")
    assert any(
        text.startswith("2 images of the annotation file were not") for text in report.findings
    )
    images = {row["image"] for row in read(tmp_path / "out" / "bbox_missed.csv")}
    assert images & {"1.png", "2.png"}


def test_thresholds_of_the_metric_that_differ_from_cocos_are_told(tmp_path):
    content, results = random_content(0, num_images=6)
    errors = collect(tmp_path, content, results, iou_thrs=np.array([0.5, 0.75]))
    report, _ = report_of(errors, tmp_path / "out")
    assert any("the evaluator of the config says AP" in text for text in report.findings)


def test_other_metrics_and_data_without_objects_are_refused(tmp_path):
    content, _ = random_content(0, num_images=2)
    with pytest.raises(InputError, match="with CocoMetric of metric='bbox' or 'segm'"):
        collect(tmp_path, content, [], kinds=("proposal",))
    with pytest.raises(InputError, match="the annotation file of test_evaluator has no objects"):
        collect(tmp_path, content | dict(annotations=[]), [])


def test_crops_are_where_the_boxes_are():
    from gfnet_dense.analysis.pictures import CROP, Outline, draw_crop

    image = np.zeros((SIZE, 2 * SIZE, 3), np.uint8)
    image[50:90, 100:140] = 255  # a white square of 40, of which the crop shows 80 x 80
    box = np.array([100.0, 50, 40, 40])
    crop = draw_crop(image, box, [])
    assert crop.shape == (CROP, CROP, 3)
    white = np.argwhere(crop.min(-1) > 128)
    assert (white.min(0) == CROP / 4).all() and (white.max(0) == CROP * 3 / 4 - 1).all()
    red = draw_crop(image, box, [Outline(box, (255, 0, 0))])
    places = np.argwhere((red == (255, 0, 0)).all(-1))
    assert (places.min(0) == CROP / 4).all() and (places.max(0) == CROP * 3 / 4).all()
    mask = np.zeros(image.shape[:2], bool)
    mask[50:90, 100:140] = True
    tinted = draw_crop(image, box, [Outline(box, (255, 0, 0), "", mask)])
    r, g, b = tinted[CROP // 2, CROP // 2].tolist()
    assert r >= 254 and g == b == 165
