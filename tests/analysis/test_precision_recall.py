"""Average precisions and thresholds equal those of hand-made cases and of a full search."""

import numpy as np
import pytest

from gfnet_dense.analysis.precision_recall import average_precision, best_threshold


def test_precision_of_hand_made_detections():
    scores, is_right = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, True, False])
    # Precision 1 up to a recall of 1/4 (26 of 101 recalls), 2/3 up to 2/4 (25 more)
    assert average_precision(scores, is_right, 4) == pytest.approx((26 + 25 * 2 / 3) / 101)
    assert average_precision(scores[::-1], is_right[::-1], 4) == average_precision(
        scores, is_right, 4
    )


@pytest.mark.parametrize("scores, num_objects, expected", [([], 3, 0), ([0.5], 0, 0), ([], 0, 1)])
def test_precision_without_detections_or_objects(scores, num_objects, expected):
    scores = np.array(scores)
    assert average_precision(scores, np.zeros(len(scores), bool), num_objects) == expected


@pytest.mark.parametrize("seed", range(5))
def test_the_best_threshold_is_that_of_a_search(seed):
    generator = np.random.default_rng(seed)
    scores = generator.uniform(size=60).round(1)  # many are equal
    is_right = generator.uniform(size=60) < scores
    found = best_threshold(scores, is_right, 50)
    candidates = []
    for limit in np.unique(scores):
        right, kept = is_right[scores >= limit].sum(), (scores >= limit).sum()
        candidates.append((2 * right / (kept + 50), limit, right / kept, right / 50))
    f1, limit, precision, recall = max(candidates)
    assert found == pytest.approx((limit, precision, recall, f1))
    assert found.f1 == pytest.approx(2 * precision * recall / (precision + recall))


def test_no_threshold_where_nothing_is_right():
    for scores in ([], [0.4, 0.2]):
        found = best_threshold(np.array(scores), np.zeros(len(scores), bool), 3)
        assert np.isnan(found.score) and found.recall == found.f1 == 0
