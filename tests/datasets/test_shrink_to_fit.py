"""ShrinkToFit against mmdetection's own Resize."""

import numpy as np
import pytest
from mmengine.registry import TRANSFORMS, DefaultScope

from gfnet_dense.utils.errors import InputError
from tests.conftest import needs_operators


def results(height, width):
    from mmdet.structures.bbox import HorizontalBoxes
    from mmdet.structures.mask import BitmapMasks

    mask = np.zeros((1, height, width), np.uint8)
    mask[:, height // 4 : height // 2 + 1, : width // 2] = 1
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    boxes = HorizontalBoxes(np.array([[0, height // 4, width // 2, height // 2 + 1]], np.float32))
    return dict(img=image, gt_bboxes=boxes, gt_masks=BitmapMasks(mask, height, width))


def transform(height, width, scale=(1333, 800), **kind):
    with DefaultScope.overwrite_default_scope("mmdet"):
        built = TRANSFORMS.build(dict(kind or dict(type="gfnet_dense.ShrinkToFit"), scale=scale))
    return built(results(height, width))  # as in a worker, where no scope is set


@needs_operators
@pytest.mark.parametrize("size", [(800, 1333), (1333, 800), (37, 1100), (1, 1)])
def test_images_that_fit_stay_as_they_are(size):
    before, after = results(*size), transform(*size)
    assert np.array_equal(after["img"], before["img"])
    assert np.array_equal(after["gt_masks"].masks, before["gt_masks"].masks)
    assert after["gt_bboxes"].tensor.equal(before["gt_bboxes"].tensor)
    assert after["scale_factor"] == (1.0, 1.0) and after["img_shape"] == size


@needs_operators
@pytest.mark.parametrize("size", [(801, 1000), (600, 1400), (1200, 1201), (20, 2000)])
def test_larger_images_are_resized_as_by_mmdetection(size):
    after = transform(*size)
    stock = transform(*size, type="mmdet.Resize", keep_ratio=True)
    assert np.array_equal(after["img"], stock["img"]) and after["img_shape"] != size
    assert np.array_equal(after["gt_masks"].masks, stock["gt_masks"].masks)
    assert after["gt_bboxes"].tensor.equal(stock["gt_bboxes"].tensor)
    assert after["scale_factor"] == stock["scale_factor"]
    height, width = after["img_shape"]
    assert max(height, width) <= 1333 and min(height, width) <= 800


def test_a_scale_of_one_number_is_refused():
    from gfnet_dense.datasets.shrink_to_fit import ShrinkToFit

    for scale in (800, (800,), (0, 5)):
        with pytest.raises(InputError, match="scale of ShrinkToFit is the largest"):
            ShrinkToFit(scale)
