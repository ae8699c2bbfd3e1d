"""Checks and decoding of COCO masks, compared with pycocotools."""

from itertools import groupby

import numpy as np
import pytest

from gfnet_dense.datasets.coco.masks import _read_counts, check_mask

coco = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")


@pytest.mark.parametrize("size", [(1, 1), (6, 7), (40, 50), (300, 401)])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_run_lengths_equal_those_of_pycocotools(size, share):
    mask = (np.random.default_rng(0).random(size) < share).astype(np.uint8)
    code = coco.encode(np.asfortranarray(mask))
    column = mask.ravel(order="F")
    counts = [len(list(run)) for _, run in groupby(column)]  # by definition
    counts = [0, *counts] if column[0] else counts
    assert _read_counts(code["counts"]) == counts
    check_mask(code, size)
    check_mask(dict(size=list(size), counts=counts), size)
    check_mask(dict(code, counts=code["counts"].decode()), size)


@pytest.mark.parametrize(
    "mask, message",
    [
        ([[0, 0, 5, 0, float("nan"), 5]], "far outside"),
        ([[0, 0, 5, 0, 1e308, 5]], "far outside"),
        ([["a", 0]], "could not convert"),
        ([[[0, 0], [1, 1]]], "not a list of numbers"),
        (dict(size=[6, 8], counts=[48]), "of size"),
        (dict(size=[6, 7], counts=[40]), "add up"),
        (dict(size=[6, 7], counts=[50, -8]), "add up"),
        (dict(size=[6, 7], counts="01140N000N1121O1O"), "add up"),
        (dict(size=[6, 7], counts="~"), "no compressed"),
        (dict(size=[6, 7], counts="P"), "middle of a number"),
        (dict(size=[6, 7]), "neither"),
        (dict(size=[6, 7], area=3), "neither"),
        (3, "neither"),
    ],
)
def test_broken_masks_are_refused(mask, message):
    with pytest.raises(ValueError, match=message):
        check_mask(mask, (6, 7))
