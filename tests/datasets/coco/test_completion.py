"""Values that are filled into COCO files, compared with pycocotools and with formulas."""

import numpy as np
import pytest

from gfnet_dense.datasets.coco.completion import complete
from tests.coco_files import HEIGHT, WIDTH, content_of

coco_mask = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")

TRIANGLE = [10.0, 10.0, 60.5, 12.0, 30.0, 90.0]
SQUARE = [100, 20, 120, 20, 120, 40, 100, 40]


def with_mask(mask, **changes):
    content = content_of(1, **changes)
    content["annotations"] = content["annotations"][:1]
    content["annotations"][0]["segmentation"] = mask
    return content


def code_of(mask):
    if isinstance(mask, list):
        return coco_mask.merge(coco_mask.frPyObjects(mask, HEIGHT, WIDTH))
    if isinstance(mask["counts"], list):
        return coco_mask.frPyObjects(mask, HEIGHT, WIDTH)
    return mask


def compressed():
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    pixels[5:20, 30:70] = 1
    code = coco_mask.encode(pixels)
    return dict(size=list(code["size"]), counts=code["counts"].decode())


MASKS = {
    "triangle": [TRIANGLE],
    "two polygons": [TRIANGLE, SQUARE],
    "polygons that overlap": [SQUARE, SQUARE],
    "run lengths": dict(size=[HEIGHT, WIDTH], counts=[500, 300, HEIGHT * WIDTH - 800]),
    "compressed run lengths": compressed(),
}


@pytest.mark.parametrize("name", MASKS)
def test_area_and_box_are_those_of_the_mask(name):
    content = with_mask(MASKS[name], area=None, bbox=None)
    filled = complete(content)
    (annotation,) = content["annotations"]
    code = code_of(MASKS[name])
    assert annotation["area"] == coco_mask.area(code) == coco_mask.decode(code).sum() > 0
    assert annotation["bbox"] == coco_mask.toBbox(code).tolist()
    assert len(filled) == 2


@pytest.mark.parametrize("mask", [None, [], [[1, 1, 5, 5]], [[10, 10, 10, 10, 10, 10]], "x", 3])
def test_without_a_usable_mask_the_area_is_that_of_the_box(mask):
    content = with_mask(mask, area=0, bbox=[3, 4, 10.5, 8])
    complete(content)
    assert content["annotations"][0]["area"] == 10.5 * 8


def test_a_mask_that_would_crash_pycocotools_is_left_as_it_is():
    mask = [[1e9, 1e9, 1e9, 0, 0, 0]]
    content = with_mask(mask, area=0, bbox=[3, 4, 10, 8])
    complete(content)
    assert content["annotations"][0]["area"] == 80
    assert content["annotations"][0]["segmentation"] == mask


def test_what_is_there_is_not_changed_and_a_second_time_changes_nothing():
    content = content_of()
    assert complete(content) == {} and content == content_of()
    odd = content_of(area=0, iscrowd=None, id=None, bbox=None)
    assert len(complete(odd)) == 4
    assert complete(odd) == {}
    assert [each["id"] for each in odd["annotations"]] == list(range(1, 13))
    assert [each["iscrowd"] for each in odd["annotations"]] == [0] * 12


@pytest.mark.parametrize(
    "content",
    [
        {},
        [],
        {"annotations": 3},
        {"annotations": [3, {}]},
        {"annotations": [{}], "images": [7]},
        {"annotations": [{"bbox": {}, "image_id": []}], "images": [{"id": {}}]},
        {"annotations": [{"segmentation": [[]], "image_id": 1}], "images": [{"id": 1}]},
        {"annotations": [{"segmentation": {"counts": 3}, "image_id": 1}], "images": None},
    ],
)
def test_broken_content_passes(content):
    complete(content)
