"""Synthetic scenes: exact labels, balanced classes, and colors that do not give classes away."""

import numpy as np
import pytest

from gfnet_dense.datasets.synthetic.scenes import ADE_INDEX, draw_scene

CLASSES = sorted(set(ADE_INDEX.values()) - {0})


@pytest.fixture(scope="module")
def scenes():
    return [draw_scene(seed) for seed in range(56)]


def test_indices_are_those_of_ade20k():
    assert ADE_INDEX == {
        "other": 0, "building": 2, "sky": 3, "tree": 5, "road": 7, "grass": 10, "sidewalk": 12,
        "person": 13, "earth": 14, "mountain": 17, "car": 21, "water": 22,
    }  # fmt: skip


def test_a_scene_depends_only_on_its_seed_and_size():
    np.random.seed(1)
    first = draw_scene(3)
    state = np.random.get_state()[1].copy()
    np.random.seed(2)
    again = draw_scene(3)
    np.random.seed(1)
    assert np.array_equal(np.random.get_state()[1], state)  # the global generator is not used
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.labels, again.labels)
    assert len(first.instances) == len(again.instances)
    for one, other in zip(first.instances, again.instances, strict=True):
        assert one.label == other.label
        assert np.array_equal(one.mask, other.mask)


def test_seeds_give_different_scenes(scenes):
    for one, other in zip(scenes, scenes[1:], strict=False):
        assert np.mean(one.image != other.image) > 0.5
        assert np.mean(one.labels != other.labels) > 0.05


@pytest.mark.parametrize(
    "size", [(64, 64), (192, 256), (97, 131), (320, 96), (64, 400), (512, 512)]
)
@pytest.mark.parametrize("seed", range(6))
def test_images_labels_and_masks_have_the_size_asked_for(seed, size):
    scene = draw_scene(seed, *size)
    assert scene.image.shape == (*size, 3) and scene.image.dtype == np.uint8
    assert scene.labels.shape == size and scene.labels.dtype == np.uint8
    assert set(np.unique(scene.labels)) <= set(ADE_INDEX.values())
    assert len(np.unique(scene.labels)) >= 4
    assert scene.image.std() > 10
    assert all(i.mask.shape == size and i.mask.dtype == bool for i in scene.instances)


def test_a_large_scene_has_larger_instances_but_not_more_of_them():
    small, large = draw_scene(5), draw_scene(5, 768, 1024)
    extent = [max(i.mask.any(1).sum() for i in s.instances) for s in (small, large)]
    assert 2 < extent[1] / extent[0] < 8
    assert len(large.instances) < 20


@pytest.mark.parametrize("size", [(63, 256), (192, 0)])
def test_a_tiny_size_is_refused(size):
    with pytest.raises(ValueError, match="at least 64 x 64"):
        draw_scene(0, *size)


def test_instances_are_visible_disjoint_and_agree_with_the_labels(scenes):
    countable = {ADE_INDEX["person"], ADE_INDEX["car"]}
    for scene in scenes:
        owners = np.zeros(scene.labels.shape, int)
        for instance in scene.instances:
            assert instance.label in countable
            assert instance.mask.sum() >= 12
            assert np.all(scene.labels[instance.mask] == instance.label)
            owners += instance.mask
        assert owners.max(initial=0) <= 1
        orphans = np.isin(scene.labels, list(countable)) & (owners == 0)
        assert orphans.mean() < 0.002  # only slivers have no instance


def test_instances_are_large_enough_to_learn(scenes):
    for name, least in (("person", 14), ("car", 10)):
        masks = [i.mask for s in scenes for i in s.instances if i.label == ADE_INDEX[name]]
        heights = [mask.any(1).sum() for mask in masks]
        assert len(masks) / len(scenes) > 1.5
        assert np.median(heights) > least
        assert np.percentile(heights, 95) > 2.5 * np.percentile(heights, 10)


@pytest.mark.parametrize("first", [0, 24])
def test_every_class_is_frequent(scenes, first):
    labels = np.stack([scene.labels for scene in scenes[first : first + 24]])
    for name, index in ADE_INDEX.items():
        there = labels == index
        assert there.any((1, 2)).mean() >= 0.4, name
        least, most = (0.007, 0.35) if index else (0.002, 0.05)
        assert least <= there.mean() <= most, name


def test_color_alone_does_not_tell_the_classes_apart(scenes):
    position = np.full(256, -1)
    position[CLASSES] = range(len(CLASSES))

    def pixels(some):
        bins = np.concatenate([(s.image // 16 @ (256, 16, 1)).ravel() for s in some])
        target = position[np.concatenate([s.labels.ravel() for s in some])]
        return bins[target >= 0], target[target >= 0]

    count = np.zeros((16**3, len(CLASSES)), int)
    np.add.at(count, pixels(scenes[:40]), 1)
    bins, target = pixels(scenes[40:])
    guess = count.argmax(1)[bins]
    ious = [
        np.sum((guess == k) & (target == k)) / np.sum((guess == k) | (target == k))
        for k in range(len(CLASSES))
    ]
    assert np.mean(ious) < 0.35
