"""Evaluations equal those of pycocotools and of mmdetection's CocoMetric on the same detections."""

import copy
import json

import numpy as np
import pytest

from gfnet_dense.analysis.coco_evaluation import AP_NAMES, evaluate
from gfnet_dense.analysis.detection_errors import KINDS, count_classes, is_missed
from gfnet_dense.analysis.precision_recall import average_precision
from tests.analysis.coco_data import SIZE, coco_of, random_content, with_polygons

MAX_DETECTIONS = (100, 300, 1000)


def evaluated(content, results, kind="bbox"):
    categories = [each["id"] for each in content["categories"]]
    images = [each["id"] for each in content["images"]]
    return evaluate(coco_of(content), results, kind, categories, images, MAX_DETECTIONS)


def as_masks(results):
    from pycocotools import mask

    for each in results:
        x, y, w, h = each["bbox"]
        polygon = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        (each["segmentation"],) = mask.frPyObjects(polygon, SIZE, SIZE)
    return results


def evaluation(seed, kind="bbox", **more):
    pytest.importorskip("pycocotools")
    content, results = random_content(seed, **more)
    if kind == "segm":
        with_polygons(content), as_masks(results)
    return evaluated(content, results, kind)


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize("seed", [0, 1])
def test_our_precision_is_that_of_cocoeval(seed, kind):
    found = evaluation(seed, kind)
    detections = found.detections
    totals = np.bincount(found.objects.label, minlength=3)
    expected = found.class_figures()["AP50"]
    assert totals.tolist() == found.num_objects[:, 0].tolist() and totals[2] == 0
    for c in range(2):
        own = detections.label == c
        ours = average_precision(detections.score[own], detections.is_right[own], totals[c])
        assert ours == pytest.approx(expected[c], abs=1e-9)
    assert np.isnan(expected[2])
    assert found.stats["AP50"] == pytest.approx(np.nanmean(expected))
    assert (found.num_objects[:, 0] == found.num_objects[:, 1:].sum(1)).all()


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_the_kinds_add_up_to_false_positives_and_objects_not_found(kind):
    from pycocotools.cocoeval import COCOeval

    content, results = random_content(2)
    if kind == "segm":
        with_polygons(content), as_masks(results)
    found = evaluated(content, copy.deepcopy(results), kind)
    coco = coco_of(content)
    direct = COCOeval(coco, coco.loadRes([{k: v for k, v in each.items() if kind == "bbox" or
                                           k != "bbox"} for each in results]), kind)  # fmt: skip
    direct.evaluate()
    cells = [each for each in direct.evalImgs if each and each["aRng"] == [0, 1e10]]
    wrong = sum(int(((c["dtMatches"][0] == 0) & ~c["dtIgnore"][0]).sum()) for c in cells)
    lost = sum(int(((c["gtMatches"][0] == 0) & (c["gtIgnore"] == 0)).sum()) for c in cells)
    kinds = [int((found.detections.kind == kind).sum()) for kind in KINDS]
    assert all(kinds) and sum(kinds) == wrong
    explained = found.detections.truth[np.isin(found.detections.kind, ("Cls", "Loc"))]
    at_errors = set(explained.tolist()) & set(np.flatnonzero(~found.objects.is_found).tolist())
    assert is_missed(found.detections, found.objects).sum() + len(at_errors) == lost
    everything = np.ones(len(found.detections.label), bool)
    matrix = count_classes(found.detections, found.objects, everything, 3)
    assert matrix.sum() == len(everything) + lost and matrix[:, -1].sum() == lost


def test_figures_are_those_that_cocometric_reports(tmp_path):
    torch = pytest.importorskip("torch")
    metric_type = pytest.importorskip("mmdet.evaluation").CocoMetric
    content, results = random_content(3)
    (tmp_path / "truth.json").write_text(json.dumps(content))
    metric = metric_type(
        ann_file=str(tmp_path / "truth.json"), metric="bbox", classwise=True,
        outfile_prefix=str(tmp_path / "found"),
    )  # fmt: skip
    metric.dataset_meta = dict(classes=[each["name"] for each in content["categories"]])
    for image in content["images"]:
        own = [each for each in results if each["image_id"] == image["id"]]
        boxes = np.array([each["bbox"] for each in own], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        predicted = dict(
            bboxes=torch.from_numpy(boxes),
            scores=torch.tensor([each["score"] for each in own]),
            labels=torch.tensor([each["category_id"] // 10 - 1 for each in own]),
        )
        sample = dict(pred_instances=predicted, img_id=image["id"], ori_shape=(SIZE, SIZE))
        metric.process({}, [sample])
    reported = metric.evaluate(len(content["images"]))
    found = evaluate(
        metric._coco_api, json.loads((tmp_path / "found.bbox.json").read_text()), "bbox",
        metric.cat_ids, metric.img_ids, metric.proposal_nums,
    )  # fmt: skip
    names = ("mAP", "mAP_50", "mAP_75", "mAP_s", "mAP_m", "mAP_l")
    for theirs, ours in zip(names, AP_NAMES, strict=True):
        assert reported[f"coco/bbox_{theirs}"] == round(found.stats[ours], 3)
    for name, value in zip(found.classes, found.class_figures()["AP"], strict=True):
        assert np.isclose(reported[f"coco/{name}_precision"], round(value, 3), equal_nan=True)


def test_crowds_count_neither_as_objects_nor_their_detections_as_errors():
    pytest.importorskip("pycocotools")
    content, _ = random_content(0, num_images=1)
    box = [10, 10, 50, 50]
    crowd = dict(id=1, image_id=1, category_id=10, bbox=box, area=2500, iscrowd=1)
    one = dict(crowd, id=2, bbox=[100, 100, 40, 40], area=1600, iscrowd=0)
    content["annotations"] = [crowd, one]
    found = evaluated(content, [dict(image_id=1, category_id=10, bbox=box, score=0.5)])
    assert len(found.detections.label) == 0 and len(found.objects.label) == 1


def test_no_detections_at_all():
    pytest.importorskip("pycocotools")
    found = evaluated(random_content(0)[0], [])
    assert found.stats["AP50"] == 0 and len(found.detections.kind) == 0
    assert is_missed(found.detections, found.objects).all()
