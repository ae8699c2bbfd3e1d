"""Each kind of error of a detector, and how much it costs, in hand-made cases."""

import numpy as np
import pytest

from gfnet_dense.analysis.detection_errors import (
    KINDS,
    MISSED,
    RIGHT,
    Detections,
    Objects,
    classify,
    costs,
    count_classes,
    is_missed,
)


# Two objects, of the classes 0 and 1; the detection is of class 0.
@pytest.mark.parametrize(
    "ious, match, kind, truth",
    [
        ([0.7, 0.0], 0, RIGHT, 0),
        ([0.5, 0.6], 0, RIGHT, 0),
        ([0.0, 0.7], -1, "Cls", 1),
        ([0.0, 0.5], -1, "Cls", 1),
        ([0.1, 0.0], -1, "Loc", 0),
        ([0.49, 0.0], -1, "Loc", 0),
        ([0.2, 0.9], -1, "Loc", 0),  # as in the authors' code
        ([0.0, 0.1], -1, "Both", 1),
        ([0.09, 0.49], -1, "Both", 1),
        ([0.5, 0.0], -1, "Dupe", 0),
        ([0.9, 0.6], -1, "Cls", 1),
        ([0.09, 0.05], -1, "Bkg", 0),
        ([0.0, 0.0], -1, "Bkg", -1),
    ],
)
def test_kinds(ious, match, kind, truth):
    kinds, truths = classify(np.array([ious]), np.array([0]), np.array([0, 1]), np.array([match]))
    assert (kinds[0], truths[0]) == (kind, truth)


def test_an_image_without_objects_or_detections():
    none = np.array([], int)
    kinds, truths = classify(np.zeros((2, 0)), np.array([0, 1]), none, np.array([-1, -1]))
    assert kinds.tolist() == ["Bkg", "Bkg"] and truths.tolist() == [-1, -1]
    kinds, truths = classify(np.zeros((0, 2)), none, np.array([0, 1]), none)
    assert len(kinds) == len(truths) == 0


def make(*detections, true_labels, found):
    """Return detections of (class, score, kind, truth) and objects of one image."""
    label, score, kind, truth = zip(*detections, strict=True) if detections else [()] * 4
    zeros = np.zeros(len(label))
    return (
        Detections(
            zeros.astype(int), np.array(label, int), np.array(score, float),
            np.array(kind, "<U4"), np.array(truth, int), zeros,
        ),
        Objects(np.zeros(len(true_labels), int), np.array(true_labels, int), np.array(found, bool)),
    )  # fmt: skip


def test_a_mended_error_finds_its_object():
    for kind, label in (("Cls", 1), ("Loc", 0)):
        detections, objects = make((label, 0.9, kind, 0), true_labels=[0], found=[False])
        gains = costs(detections, objects, 2)
        assert gains.pop(kind) == 1 and not any(gains.values())
        assert not is_missed(detections, objects).any()


def test_of_two_mended_errors_at_an_object_the_higher_score_finds_it():
    detections, objects = make(
        (0, 0.9, "Loc", 0), (1, 0.8, "Cls", 0), true_labels=[0], found=[False]
    )
    gains = costs(detections, objects, 2)
    assert gains["Loc"] == 1 and gains["Cls"] == 0  # the Cls error is removed alone


def test_a_mended_error_at_an_object_that_is_found_is_removed():
    detections, objects = make(
        (0, 0.9, "Loc", 0), (0, 0.8, RIGHT, 0), true_labels=[0], found=[True]
    )
    assert costs(detections, objects, 1)["Loc"] == pytest.approx(0.5)


@pytest.mark.parametrize("kind", ["Both", "Dupe", "Bkg"])
def test_other_false_positives_are_removed(kind):
    detections, objects = make(
        (0, 0.9, kind, -1), (0, 0.8, RIGHT, 0), true_labels=[0], found=[True]
    )
    gains = costs(detections, objects, 1)
    assert gains.pop(kind) == pytest.approx(0.5) and not any(gains.values())


def test_missed_objects_do_not_count_any_more():
    detections, objects = make((0, 0.8, RIGHT, 0), true_labels=[0, 0], found=[True, False])
    assert costs(detections, objects, 1)[MISSED] == pytest.approx(50 / 101)
    detections, objects = make(true_labels=[0, 1], found=[False, False])
    assert costs(detections, objects, 2)[MISSED] == 1
    assert is_missed(detections, objects).all()


def test_no_error_costs_nothing_and_no_object_is_undefined():
    detections, objects = make((0, 0.8, RIGHT, 0), true_labels=[0], found=[True])
    assert costs(detections, objects, 3) == dict.fromkeys([*KINDS, MISSED], 0)
    gains = costs(*make((0, 0.8, "Bkg", -1), true_labels=[], found=[]), 3)
    assert all(np.isnan(gain) for gain in gains.values())


def test_the_matrix_counts_kept_detections_and_objects_that_are_not_found():
    detections, objects = make(
        (0, 0.9, RIGHT, 0), (1, 0.8, "Cls", 1), (1, 0.7, "Bkg", -1), (0, 0.2, RIGHT, 2),
        true_labels=[0, 0, 0], found=[True, False, True],
    )  # fmt: skip
    everything = np.ones(4, bool)
    assert count_classes(detections, objects, everything, 2).tolist() == [
        [2, 1, 1],
        [0, 0, 0],
        [0, 1, 0],
    ]
    above = detections.score > 0.5
    assert count_classes(detections, objects, above, 2)[0].tolist() == [1, 1, 2]
