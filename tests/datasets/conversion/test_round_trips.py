"""Scenes that programs for labeling have written come back with the same boxes and masks."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from tests import labeling_tools as tools
from tests.datasets.conversion.results import coco, convert, label_map, objects

NUM = 4


@pytest.fixture(scope="module")
def scenes():
    return tools.draw_scenes(NUM)


def only_largest_part(thing):
    """Return the mask of the largest part of an object, the only one that some formats hold."""
    outline = max(thing.outlines, key=cv2.contourArea)
    return coco_mask.decode(
        coco_mask.merge(coco_mask.frPyObjects([outline.ravel().tolist()], *thing.mask.shape))
    ).astype(bool)


def expected_map(scene, classes, mask_of=lambda thing: thing.mask):
    """Paint the masks, the smaller ones on top; numbers of ``classes``, 0 elsewhere."""
    labels = np.zeros(scene.labels.shape, np.uint8)
    masks = [(mask_of(thing), classes.index(thing.name)) for thing in tools.things(scene)]
    for mask, value in sorted(masks, key=lambda each: -each[0].sum()):
        labels[mask] = value
    return labels


WITH_OUTLINES = {
    "labelme polygons": tools.write_labelme,
    "labelme masks": lambda folder, scenes: tools.write_labelme(folder, scenes, "mask"),
    "cvat polygons": tools.write_cvat,
    "cvat masks": lambda folder, scenes: tools.write_cvat(folder, scenes, "mask"),
    "coco": tools.write_coco,
}
WITH_ONE_OUTLINE = {
    "yolo": lambda folder, scenes: tools.write_yolo(folder, scenes, polygons=True),
    "via project": tools.write_via,
    "via": lambda folder, scenes: tools.write_via(folder, scenes, project=False),
}
OF_BOXES = {
    "labelme": lambda folder, scenes: tools.write_labelme(folder, scenes, "rectangle"),
    "cvat": lambda folder, scenes: tools.write_cvat(folder, scenes, "box"),
    "voc": tools.write_voc,
    "yolo": tools.write_yolo,
}


@pytest.mark.parametrize("name", [*WITH_OUTLINES, *WITH_ONE_OUTLINE])
def test_outlines_become_the_label_maps_of_the_scenes_exactly(name, scenes, tmp_path):
    write = (WITH_OUTLINES | WITH_ONE_OUTLINE)[name]
    write(tmp_path / "source", scenes)
    plan = convert(tmp_path / "source", tmp_path / "out", "masks")
    assert sorted(plan.classes) == ["background", "car", "person"]
    assert (tmp_path / "out/classes.txt").read_text().split() == plan.classes
    mask_of = only_largest_part if name in WITH_ONE_OUTLINE else lambda thing: thing.mask
    for i, scene in enumerate(scenes):
        expected = expected_map(scene, plan.classes, mask_of)
        assert (label_map(tmp_path / "out", f"{i:04d}") == expected).all()


@pytest.mark.parametrize("name", [*WITH_OUTLINES, *WITH_ONE_OUTLINE])
def test_outlines_become_the_instances_of_the_scenes_exactly(name, scenes, tmp_path):
    (WITH_OUTLINES | WITH_ONE_OUTLINE)[name](tmp_path / "source", scenes)
    convert(tmp_path / "source", tmp_path / "out", "coco")
    api = COCO(tmp_path / "out/annotations/train.json")
    found = objects(tmp_path / "out")
    for i, scene in enumerate(scenes):
        things, entries = tools.things(scene), found[f"{i:04d}.jpg"]
        assert [each[0] for each in entries] == [thing.name for thing in things]
        for thing, (_, box, annotation) in zip(things, entries, strict=True):
            mask = only_largest_part(thing) if name in WITH_ONE_OUTLINE else thing.mask
            assert (api.annToMask(annotation).astype(bool) == mask).all()
            assert annotation["area"] == mask.sum() and annotation["iscrowd"] == 0
            x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
            assert box == pytest.approx([x, y, w, h], abs=1e-3 if name == "yolo" else 1e-9)


@pytest.mark.parametrize("name", OF_BOXES)
def test_boxes_come_back(name, scenes, tmp_path):
    OF_BOXES[name](tmp_path / "source", scenes)
    plan = convert(tmp_path / "source", tmp_path / "out", "coco")
    found = objects(tmp_path / "out")
    number = sum(len(tools.things(scene)) for scene in scenes)
    ((words, (count, _)),) = plan.source.notes.items()
    assert count == number and "no Mask R-CNN" in words
    tolerance = 1e-4 * 128 if name == "yolo" else 0  # six digits of shares of 128 pixels
    for i, scene in enumerate(scenes):
        for thing, (label, box, annotation) in zip(
            tools.things(scene), found[f"{i:04d}.jpg"], strict=True
        ):
            x1, y1, x2, y2 = thing.box
            assert label == thing.name and "segmentation" not in annotation
            assert box == pytest.approx([x1, y1, x2 - x1, y2 - y1], abs=tolerance)
            assert annotation["area"] == pytest.approx(box[2] * box[3])


def test_masks_of_voc_stay_as_they_are_and_give_its_objects(scenes, tmp_path):
    tools.write_voc_masks(tmp_path / "source", scenes)
    plan = convert(tmp_path / "source", tmp_path / "masks", "masks")
    assert plan.classes == ["_background_", *tools.THINGS]
    convert(tmp_path / "source", tmp_path / "coco", "coco")
    api = COCO(tmp_path / "coco/annotations/train.json")
    found = objects(tmp_path / "coco")
    for i in range(NUM):
        classes, numbers = (
            np.array(Image.open(tmp_path / "source" / kind / f"{i:04d}.png"))
            for kind in ("SegmentationClass", "SegmentationObject")
        )
        assert (label_map(tmp_path / "masks", f"{i:04d}") == classes).all()
        expected = [numbers == n for n in np.unique(numbers) if n not in (0, 255)]
        masks = [api.annToMask(each).astype(bool) for _, _, each in found[f"{i:04d}.jpg"]]
        assert len(masks) == len(expected)
        assert all((a == b).all() for a, b in zip(masks, expected, strict=True))


def test_colors_become_indices(scenes, tmp_path):
    tools.write_color_masks(tmp_path / "source", scenes)
    colors = tmp_path / "source/colors.txt"
    plan = convert(tmp_path / "source", tmp_path / "out", "masks", colors=colors)
    assert plan.classes == tools.STUFF
    for i, scene in enumerate(scenes):
        assert (label_map(tmp_path / "out", f"{i:04d}") == tools.index_map(scene)).all()


@pytest.mark.parametrize("value", [1, 255])
def test_binary_masks_become_two_classes(value, scenes, tmp_path):
    tools.write_binary_masks(tmp_path / "source", scenes, value)
    plan = convert(tmp_path / "source", tmp_path / "out", "masks", classes=["thing"])
    assert plan.classes == ["background", "thing"]
    for i, scene in enumerate(scenes):
        expected = np.any([each.mask for each in scene.instances], axis=0)
        assert (label_map(tmp_path / "out", f"{i:04d}") == expected).all()


def test_masks_beside_their_images_are_found_by_their_ending(scenes, tmp_path):
    Image.fromarray(scenes[0].image).save(tmp_path / "a.jpg")
    mask = scenes[0].instances[0].mask
    Image.fromarray(mask).save(tmp_path / "a_mask.png")  # of one bit
    convert(tmp_path, tmp_path.with_name("out"), "masks")
    assert (label_map(tmp_path.with_name("out"), "a") == mask).all()


def test_polygons_of_coco_keep_every_digit_and_run_lengths_their_pixels(tmp_path):
    polygon = [1.123456789012345, 2.5, 30.000000000000004, 2.25, 17.1, 28.7]
    mask = np.zeros((32, 40), np.uint8)
    mask[4:9, 10:20] = 1
    runs = coco_mask.encode(np.asfortranarray(mask))
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *changes.tolist(), flat.size]).tolist()
    compressed = dict(size=[32, 40], counts=runs["counts"].decode())
    annotations = [
        dict(id=5, segmentation=[polygon], bbox=[1.123456789012345, 2.25, 28.87, 26.45], iscrowd=0),
        dict(id=6, segmentation=dict(size=[32, 40], counts=counts), iscrowd=1),
        dict(id=9, segmentation=compressed, iscrowd=0),
    ]
    for each in annotations:
        each.update(image_id=3, category_id=11)
    content = dict(
        images=[dict(id=3, file_name="a.png", height=32, width=40)],
        categories=[
            dict(id=11, name="x / y"), dict(id=2, name="first"), dict(id=0, name="background")
        ],
        annotations=annotations,
    )  # fmt: skip
    (tmp_path / "source").mkdir()
    Image.new("RGB", (40, 32)).save(tmp_path / "source/a.png")
    (tmp_path / "source/labels.json").write_text(json.dumps(content))
    convert(tmp_path / "source", tmp_path / "out", "coco")
    result = coco(tmp_path / "out")
    assert result["categories"] == [dict(id=1, name="first"), dict(id=2, name="x / y")]
    first, second, third = result["annotations"]
    assert first["segmentation"] == [polygon] and first["bbox"] == annotations[0]["bbox"]
    assert [each["id"] for each in result["annotations"]] == [1, 2, 3]
    assert second["segmentation"] == third["segmentation"] == compressed
    assert second["iscrowd"] == 1 and second["area"] == 50
    plan = convert(tmp_path / "source", tmp_path / "masks", "masks")
    labels = label_map(tmp_path / "masks", "a")
    assert plan.classes == ["background", "first", "x / y"]
    assert set(labels[mask == 1].tolist()) == {2} and 255 not in labels  # objects lie on crowds


def test_the_splits_of_a_source_stay(scenes, tmp_path):
    tools.write_yolo(tmp_path / "source", scenes, num_val=1)
    convert(tmp_path / "source", tmp_path / "out", "coco", val=None)
    assert list(objects(tmp_path / "out", "val")) == ["0003.jpg"]
    assert list(objects(tmp_path / "out")) == ["0000.jpg", "0001.jpg", "0002.jpg"]
    source = tmp_path / "source/images/val/0003.jpg"
    assert (tmp_path / "out/images/val/0003.jpg").read_bytes() == source.read_bytes()
