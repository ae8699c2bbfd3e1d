"""Splits: groups stay together, classes are spread evenly, the order of images changes nothing."""

import random
from collections import Counter, defaultdict

import pytest

from gfnet_dense.datasets.conversion.splitting import group_names, split
from gfnet_dense.utils.errors import InputError


def random_labels(number, seed=0):
    """Return images with classes from one in two images to one in fifty."""
    rng = random.Random(seed)
    rates = dict(a=0.5, b=0.3, c=0.1, d=0.04, e=0.02)
    return {
        f"{i:05d}.jpg": {name for name, rate in rates.items() if rng.random() < rate}
        for i in range(number)
    }


def count(labels, names):
    return Counter(each for name in names for each in labels[name])


@pytest.mark.parametrize("share", [0.1, 0.2, 0.33, 0.5])
@pytest.mark.parametrize("seed", range(5))
def test_each_class_has_its_share_of_images(share, seed):
    labels = random_labels(1000, seed)
    chosen = split(labels, {}, share)
    total, found = count(labels, labels), count(labels, chosen)
    for name in total:
        assert abs(found[name] - share * total[name]) <= 2
    assert abs(len(chosen) - share * len(labels)) <= 2


def test_it_is_more_even_than_chance():
    """By chance, the rarest class of 20 images in 1000 deviates by two images in the mean."""
    deviations = []
    for seed in range(20):
        labels = random_labels(1000, seed)
        chosen = split(labels, {}, 0.2)
        deviations.append(abs(count(labels, chosen)["e"] - 0.2 * count(labels, labels)["e"]))
    assert max(deviations) <= 1


def test_the_order_of_the_images_changes_nothing():
    labels = random_labels(300)
    names = list(labels)
    expected = split(labels, {}, 0.2)
    for seed in range(3):
        random.Random(seed).shuffle(names)
        assert split({name: labels[name] for name in names}, {}, 0.2) == expected


def test_groups_are_never_split_and_classes_are_still_spread():
    labels = random_labels(1000)
    groups = {name: str(int(name[:5]) // 7) for name in labels}
    chosen = split(labels, groups, 0.2)
    sides = defaultdict(set)
    for name, group in groups.items():
        sides[group].add(name in chosen)
    assert all(len(side) == 1 for side in sides.values())
    total, found = count(labels, labels), count(labels, chosen)
    assert all(abs(found[name] / total[name] - 0.2) < 0.1 for name in total)


def test_a_class_of_one_image_or_of_one_group_is_for_the_training():
    labels = {f"{i}.jpg": {"common"} for i in range(10)} | {"rare.jpg": {"common", "rare"}}
    assert all("rare.jpg" not in split(labels, {}, share) for share in (0.1, 0.5, 0.9))
    labels |= {f"film/{i}.jpg": {"common", "filmed"} for i in range(3)}
    groups = {name: "film" for name in labels if name.startswith("film")}
    assert not any("film" in name for name in split(labels, groups, 0.5))


@pytest.mark.parametrize("number, expected", [(1, 0), (2, 0), (3, 1), (5, 1), (10, 2), (100, 20)])
def test_small_numbers(number, expected):
    assert len(split({str(i): {"a"} for i in range(number)}, {}, 0.2)) == expected


def test_images_without_objects_are_spread_and_a_share_of_zero_takes_none():
    labels = {str(i): {"a"} if i < 50 else set() for i in range(100)}
    chosen = split(labels, {}, 0.2)
    assert len(chosen) == 20 and sum(int(name) < 50 for name in chosen) == 10
    assert split(labels, {}, 0) == set()


def test_groups_are_named_by_the_first_group_of_a_pattern_or_by_all():
    names = ["cam1/x_2.jpg", "cam2/x_3.jpg", "other.jpg"]
    assert group_names(names, r"cam\d") == (
        {"cam1/x_2.jpg": "cam1", "cam2/x_3.jpg": "cam2"}, ["other.jpg"]
    )  # fmt: skip
    assert group_names(names[:2], r"cam(\d)/x_(\d)")[0] == {names[0]: "1", names[1]: "2"}
    with pytest.raises(InputError, match="is no regular expression"):
        group_names(names, "(")
