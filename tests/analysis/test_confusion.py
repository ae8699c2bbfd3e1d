"""Confusion matrices and boundary bands equal direct sums, and IoUMetric of mmsegmentation."""

import numpy as np
import pytest
import torch

from gfnet_dense.analysis.confusion import (
    CHUNK,
    band_width,
    boundary_band,
    class_scores,
    count_confusions,
    largest_confusions,
    mean_of_defined,
)


def label_maps(shape, num_classes, seed=0, labels=None):
    generator = np.random.default_rng(seed)
    truth = generator.choice([*range(num_classes), 255] if labels is None else labels, shape)
    return truth, generator.integers(0, num_classes, shape)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (37, 41), (3, CHUNK // 2)])
def test_the_matrix_counts_every_pixel_that_is_not_ignored_once(shape):
    truth, prediction = label_maps(shape, 3)
    matrix = count_confusions(truth.astype(np.uint8), prediction, 3, 255)
    assert matrix.sum() == (truth != 255).sum()
    for t in range(3):
        for p in range(3):
            assert matrix[t, p] == ((truth == t) & (prediction == p)).sum()
    assert not matrix[3].any()


# 255 is neither a class nor ignored where the metric ignores class 0; class 4 is in no truth.
@pytest.mark.parametrize("ignore_index, labels", [(255, None), (0, None), (255, [1, 2, 255])])
def test_scores_are_those_of_ioumetric(ignore_index, labels):
    metric = pytest.importorskip("mmseg.evaluation").IoUMetric
    maps = [label_maps((40 + i, 50), 5, i, labels) for i in range(3)]
    areas = [
        metric.intersect_and_union(torch.tensor(p), torch.tensor(t), 5, ignore_index)
        for t, p in maps
    ]
    totals = [sum(each) for each in zip(*areas, strict=True)]
    expected = metric.total_area_to_metrics(*totals, ["mIoU", "mFscore"])
    matrix = sum(count_confusions(t, p, 5, ignore_index) for t, p in maps)
    scores = class_scores(matrix)
    assert np.allclose(scores.iou, expected["IoU"], atol=1e-6, equal_nan=True)
    assert np.allclose(scores.precision, expected["Precision"], atol=1e-6, equal_nan=True)
    assert np.allclose(scores.recall, expected["Recall"], atol=1e-6, equal_nan=True)
    assert mean_of_defined(scores.iou) == pytest.approx(np.nanmean(expected["IoU"]), abs=1e-6)


def test_scores_without_any_pixel_are_undefined():
    scores = class_scores(np.zeros((3, 2), np.int64))
    assert np.isnan([*scores.iou, *scores.precision, *scores.recall]).all()
    assert np.isnan(mean_of_defined(scores.iou))


def test_largest_confusions_leave_out_correct_pixels_and_empty_pairs():
    matrix = np.array([[90, 10, 0], [30, 10, 0], [0, 0, 7], [0, 5, 0]])
    (first, second) = largest_confusions(matrix, 5)
    assert (first.truth, first.prediction, first.pixels, first.share) == (1, 0, 30, 0.75)
    assert (second.truth, second.prediction, second.pixels, second.share) == (0, 1, 10, 0.1)
    assert largest_confusions(matrix, 1) == [first]
    assert largest_confusions(np.diag([1, 2])[[0, 1, 1]] * [[1], [1], [0]], 5) == []


def test_a_band_is_that_of_a_direct_search():
    labels = np.random.default_rng(0).choice([0, 1, 7, 255], (150, 210), p=[0.97, 0.01, 0.01, 0.01])
    d = band_width(150, 210)
    assert d == 3  # 1 % of 258 pixels
    expected = np.zeros_like(labels, bool)
    for y, x in np.ndindex(labels.shape):
        around = labels[max(y - d, 0) : y + d + 1, max(x - d, 0) : x + d + 1]
        expected[y, x] = labels[y, x] != 255 and np.unique(around[around != 255]).size > 1
    assert (boundary_band(labels, 255) == expected).all()


def test_neither_ignored_pixels_nor_the_border_of_the_image_make_a_boundary():
    labels = np.full((60, 80), 4, np.uint8)
    labels[20:30] = 255
    assert not boundary_band(labels, 255).any()
    assert boundary_band(np.where(labels == 255, 3, labels), 255).sum() == 4 * 80  # d is 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1)])
def test_a_band_of_a_narrow_image(shape):
    labels = np.zeros(shape, np.uint8)
    assert not boundary_band(labels, 255).any()
    labels.flat[shape[0] * shape[1] // 2 :] = 1
    assert boundary_band(labels, 255).sum() == min(labels.size - (labels.size == 1), 10)
