"""Real files of labelme against those that its own scripts made of them."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.datasets.conversion.results import convert, label_map, objects

NAMES = ("2011_000003", "2011_000006", "2011_000025")
# Largest share of pixels that differ: Pillow, which labelme uses, paints outlines as well.
MAX_SHARE = 0.007


@pytest.fixture(scope="module")
def sample(samples):
    return samples / "labelme-sample"


@pytest.fixture(scope="module")
def masks(sample, tmp_path_factory):
    """The label maps of labelme's polygons, with the indices of Pascal VOC."""
    out = tmp_path_factory.mktemp("labelme") / "out"
    plan = convert(sample / "polygons", out, "masks")
    return {name: as_voc(label_map(out, name), plan.classes, sample) for name in NAMES}


def as_voc(labels, classes, sample):
    names = ["background", *(sample / "voc/class_names.txt").read_text().split("\n")[1:]]
    table = np.full(256, 255, np.uint8)
    table[: len(classes)] = [names.index(name) for name in classes]
    return table[labels]


def far_from_outlines(path, size):
    """Return (H, W) float, the distance of each pixel to one that a polygon in a file crosses."""
    free = np.ones(np.add(size, 2), np.uint8)  # outlines may run along the edge of the image
    for shape in json.loads(path.read_text())["shapes"]:
        corners = np.rint((np.array(shape["points"]) + 0.5) * 256).astype(np.int32)
        cv2.polylines(free, [corners], True, 0, shift=8)
    return cv2.distanceTransform(free, cv2.DIST_C, 3)[1:-1, 1:-1]


def test_boxes_of_labelme_are_those_of_its_xml(sample, tmp_path):
    convert(sample / "boxes", tmp_path / "json", "coco", images=sample / "polygons")
    options = dict(chosen_format="voc-boxes", classes=["bus", "car", "person"])
    convert(sample / "voc", tmp_path / "xml", "coco", **options)
    first, second = objects(tmp_path / "json"), objects(tmp_path / "xml")
    assert first.keys() == second.keys() and sum(map(len, first.values())) == 9
    for name in first:
        assert [each[:2] for each in first[name]] == [each[:2] for each in second[name]]


@pytest.mark.parametrize("name", NAMES)
def test_polygons_differ_from_masks_of_labelme_at_outlines_alone(name, masks, sample):
    theirs = np.array(Image.open(sample / "voc/SegmentationClass" / f"{name}.png"))
    differ = masks[name] != theirs
    distances = far_from_outlines(sample / "polygons" / f"{name}.json", theirs.shape)
    assert 0 < differ.mean() < MAX_SHARE
    assert distances[differ].max() <= 1


def test_polygons_of_its_coco_file_are_the_same_but_for_what_is_ignored(masks, sample, tmp_path):
    plan = convert(sample / "coco", tmp_path / "out", "masks")
    shares = []
    for name in NAMES:
        theirs = as_voc(label_map(tmp_path / "out", name), plan.classes, sample)
        differ = (masks[name] != theirs) & (masks[name] != 255)
        shares.append(differ.mean())
    assert shares == [0, 0, 0]


def test_masks_of_voc_stay_and_give_objects_of_the_same_classes(sample, tmp_path):
    convert(sample / "voc", tmp_path / "masks", "masks")
    convert(sample / "voc", tmp_path / "coco", "coco", chosen_format="voc-masks")
    convert(sample / "polygons", tmp_path / "polygons", "coco")
    for name in NAMES:
        theirs = np.array(Image.open(sample / "voc/SegmentationClass" / f"{name}.png"))
        assert (label_map(tmp_path / "masks", name) == theirs).all()
    found, expected = objects(tmp_path / "coco"), objects(tmp_path / "polygons")
    for name in expected:
        assert sorted(each[0] for each in found[name]) == sorted(each[0] for each in expected[name])
        for (_, box, _), (_, other, _) in zip(found[name], expected[name], strict=True):
            assert np.allclose(box, other, atol=25)  # parts below others are hidden in masks


def test_objects_of_real_coco_files_stay_as_they_are(samples, tmp_path):
    source = samples / "coco-sample"
    convert(source, tmp_path / "out", "coco")
    theirs = json.loads((source / "annotations/instances_val2017.json").read_text())
    names = {each["id"]: each["name"] for each in theirs["categories"]}
    files = {each["id"]: each["file_name"] for each in theirs["images"]}
    found = objects(tmp_path / "out")
    expected = {name: [] for name in files.values()}
    for each in theirs["annotations"]:
        expected[files[each["image_id"]]].append(each)
    assert found.keys() == expected.keys() and sum(map(len, found.values())) > 10
    for name in expected:
        for (label, box, ours), each in zip(found[name], expected[name], strict=True):
            assert label == names[each["category_id"]] and ours["iscrowd"] == each["iscrowd"]
            assert box == pytest.approx(each["bbox"], abs=1e-3)
            if not each["iscrowd"]:
                assert ours["segmentation"] == each["segmentation"]
                assert ours["area"] == pytest.approx(each["area"], rel=0.05, abs=30)
