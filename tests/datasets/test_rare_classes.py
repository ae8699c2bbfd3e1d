"""Counts, weights and the sampler for rare classes, against label maps written by hand."""

import math
from itertools import islice

import numpy as np
import pytest
from mmengine.dataset import ConcatDataset, RepeatDataset
from mmengine.registry import DATA_SAMPLERS, DATASETS

from gfnet_dense.datasets.rare_classes import class_probabilities, class_weights, count_pixels
from gfnet_dense.utils.errors import InputError
from tests.image_files import pillow

SHARES = [[90, 10, 0, 0], [100, 0, 0, 0], [50, 40, 10, 0], [80, 0, 0, 20]]  # pixels of 10 x 10


@pytest.fixture
def dataset(tmp_path):
    """Four label maps with the pixels of SHARES; those of the last column have no label."""
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for i, counts in enumerate(SHARES):
        labels = np.repeat(np.array([0, 1, 2, 255], np.uint8), counts).reshape(10, 10)
        (tmp_path / f"labels/{i}.png").write_bytes(pillow(labels, "PNG"))
        (tmp_path / f"images/{i}.jpg").write_bytes(pillow(np.stack([labels] * 3, -1), "JPEG"))
    return build(tmp_path)


def build(root, pipeline=(dict(type="LoadAnnotations"),)):
    return DATASETS.build(
        dict(
            type="BaseSegDataset",
            data_root=str(root),
            data_prefix=dict(img_path="images", seg_map_path="labels"),
            metainfo=dict(classes=["ground", "car", "sign"]),
            pipeline=list(pipeline),
            _scope_="mmseg",
        )
    )


def test_pixels_are_counted_image_by_image(dataset):
    expected = np.array(SHARES)[:, :3]
    assert np.array_equal(count_pixels(dataset), expected)
    both = ConcatDataset([dataset, dataset])
    assert np.array_equal(count_pixels(both), np.concatenate([expected, expected]))


def test_what_cannot_be_counted_is_refused(dataset, tmp_path):
    with pytest.raises(InputError, match="not in RepeatDataset, which changes the number"):
        count_pixels(RepeatDataset(dataset, 2))
    with pytest.raises(InputError, match="has no LoadAnnotations of mmsegmentation"):
        count_pixels(build(tmp_path, [dict(type="LoadImageFromFile")]))
    (tmp_path / "labels/1.png").write_bytes(pillow(np.full((10, 10), 7, np.uint8), "PNG"))
    with pytest.raises(InputError, match="1.png holds the index 7, accepted are 0..2"):
        count_pixels(dataset)


def test_weights_follow_the_formula():
    counts = [320, 50, 10, 0]
    expected = [1 / math.log(1.02 + count / 380) for count in counts]
    assert class_weights(counts) == pytest.approx(expected, rel=1e-3)
    assert class_weights([0, 0]) == pytest.approx([50.5, 50.5], rel=1e-3)


def test_probabilities_are_those_of_daformer():
    counts = [900, 60, 40, 0]
    expected = np.exp((1 - np.array([0.9, 0.06, 0.04])) / 0.05)
    found = class_probabilities(counts, 0.05)
    assert found[:3] == pytest.approx(expected / expected.sum()) and found[3] == 0
    assert np.isfinite(class_probabilities(counts, 1e-9)).all()


def sampler(dataset, **settings):
    return DATA_SAMPLERS.build(
        dict(type="gfnet_dense.RareClassSampler", dataset=dataset, seed=3, **settings)
    )


def test_the_sampler_draws_images_by_their_classes(dataset):
    drawn = np.bincount(list(islice(iter(sampler(dataset, temperature=0.3)), 40000)), minlength=4)
    # A class, then one of its images: "ground" is in 4, "car" in 0 and 2, "sign" in 2 alone.
    ground, car, sign = class_probabilities(np.array(SHARES)[:, :3].sum(0), 0.3)
    expected = [ground / 4 + car / 2, ground / 4, ground / 4 + car / 2 + sign, ground / 4]
    assert drawn / 40000 == pytest.approx(expected, abs=0.01)


def test_the_stream_is_that_of_its_seed_and_goes_on_after_a_skip(dataset):
    stream = list(islice(iter(sampler(dataset)), 50))
    resumed = sampler(dataset)
    resumed.skip(20)
    assert list(islice(iter(resumed), 30)) == stream[20:]
    assert all(type(i) is int for i in stream)


@pytest.mark.parametrize("temperature", [0, -1, float("nan"), float("inf")])
def test_a_temperature_that_is_not_positive_is_refused(dataset, temperature):
    with pytest.raises(InputError, match="temperature of RareClassSampler is above 0"):
        sampler(dataset, temperature=temperature)
