"""Boxes of outlines that reach out of their image, against masks and dense samples of points."""

import numpy as np
import pytest
from matplotlib.path import Path as Outline
from pycocotools import mask as coco_mask

from gfnet_dense.datasets.conversion.model import LabeledObject
from gfnet_dense.datasets.conversion.shapes import ellipse, fit_object, visible_box

SIZE = 30, 40  # height, width
STEP = 0.02  # pixels between samples


def box_of_samples(points):
    """Return the box of the points of a dense grid in the image that a polygon holds."""
    y, x = np.mgrid[STEP / 2 : SIZE[0] : STEP * 5, STEP / 2 : SIZE[1] : STEP * 5]
    inside = Outline(np.reshape(points, (-1, 2))).contains_points(
        np.stack([x.ravel(), y.ravel()], 1)
    )
    if not inside.any():
        return None
    x, y = x.ravel()[inside], y.ravel()[inside]
    return [x.min(), y.min(), np.ptp(x), np.ptp(y)]


@pytest.mark.parametrize("seed", range(40))
def test_the_visible_box_is_that_of_the_part_inside(seed):
    """Stars whose center is in the image or outside; most are concave."""
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
    radii = rng.uniform(5, 40, 9)
    center = rng.uniform((-10, -10), (50, 40))
    points = (center + np.stack([np.cos(angles), np.sin(angles)], 1) * radii[:, None]).ravel()
    expected, found = box_of_samples(points), visible_box(points.tolist(), SIZE)
    if expected is None:
        assert found is None or min(found[2:]) < 0.2
    else:
        assert found == pytest.approx(expected, abs=1)  # thin tips lie between the samples
        rle = coco_mask.merge(coco_mask.frPyObjects([points.tolist()], *SIZE))
        if coco_mask.area(rle):
            x, y, w, h = coco_mask.toBbox(rle)  # whose pixels lie half a pixel beside at most
            assert found[0] <= x + 1 and found[1] <= y + 1
            assert found[0] + found[2] >= x + w - 1 and found[1] + found[3] >= y + h - 1


@pytest.mark.parametrize(
    "points, expected",
    [
        ([30, 2, 70, 2, 70, 30], [30, 2, 10, 7]),  # at x = 40 the side is at y = 9
        ([-10, -10, 60, -10, 60, 50, -10, 50], [0, 0, 40, 30]),  # the image is inside
        ([35, 5, 60, 5, 60, 50, 20, 50, 20, 25, 35, 25], [20, 5, 20, 25]),
        ([10, 10, 20, 10, 20, 20], [10, 10, 10, 10]),
        ([50, 5, 60, 5, 60, 25], None),
        # Concave: it enters twice, and its corner (40, 30) is not in it.
        ([30, 5, 60, 5, 60, 40, 10, 40, 10, 25, 20, 25, 20, 35, 50, 35, 50, 10, 30, 10],
         [10, 5, 30, 25]),
    ],
)  # fmt: skip
def test_visible_boxes_by_hand(points, expected):
    assert visible_box(points, SIZE) == (expected and pytest.approx(expected))


def test_a_circle_at_the_border_has_the_box_of_its_cap():
    circle = LabeledObject("a", polygons=[ellipse(48, 15, 12, 12)])
    fitted, change = fit_object(circle, SIZE)
    half = np.sqrt(12**2 - 8**2)  # of the chord at x = 40
    assert change == "clipped"
    assert fitted.box == pytest.approx([36, 15 - half, 4, 2 * half], abs=0.2)
    rle = coco_mask.merge(coco_mask.frPyObjects(fitted.polygons, *SIZE))
    assert fitted.box == pytest.approx(coco_mask.toBbox(rle), abs=1.8)


def test_parts_run_lengths_and_boxes_that_reach_out():
    parts = [[30, 2, 70, 2, 70, 30], [1, 20, 5, 20, 5, 40, 1, 40], [50, 1, 60, 1, 60, 9]]
    fitted, _ = fit_object(LabeledObject("a", polygons=parts), SIZE)
    assert fitted.box == pytest.approx([1, 2, 39, 28]) and fitted.polygons == parts
    mask = np.zeros(SIZE, np.uint8, order="F")
    mask[3:9, 30:] = 1
    rle = coco_mask.encode(mask)
    fitted, _ = fit_object(LabeledObject("a", (28.0, 3.0, 20.0, 6.0), rle=rle), SIZE)
    assert fitted.box == (30, 3, 10, 6)
    fitted, _ = fit_object(LabeledObject("a", (28.0, -3.0, 20.0, 6.0)), SIZE)
    assert fitted.box == (28, 0, 12, 3)
    inside = LabeledObject("a", (29.0, 1.0, 11.0, 9.0), polygons=parts[:1])
    assert fit_object(inside, SIZE)[0].box == (29, 1, 11, 9)  # of the source: it is in the image
