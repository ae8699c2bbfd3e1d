"""Splits: those of a source, else training and validation with each class spread evenly.

Iterative stratification (Sechidis, Tsoumakas and Vlahavas, "On the Stratification of Multi-Label
Data", ECML PKDD 2011, https://doi.org/10.1007/978-3-642-23808-6_10): the images of the rarest class
are dealt out first, each to the side that lacks the most images of that class.
"""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

from gfnet_dense.datasets.survey.pictures import identical_files
from gfnet_dense.utils.errors import InputError

from .files import Files, split_in
from .model import LabeledImage, Source

VAL = 0.2  # share of the validation, if the source has none

ANY = ""  # stands for the class that every image has


def group_names(names: Iterable[str], pattern: str) -> tuple[dict[str, str], list[str]]:
    """Return the group of each name, and the names that do not match.

    Args:
        names: Relative paths of images.
        pattern: Regular expression that is searched in a name: its first group, or all that it
            matches, names the group.

    Raises:
        InputError: If the pattern is no regular expression.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as e:
        raise InputError(f"--group-by {pattern!r} is no regular expression: {e}") from None
    groups, others = {}, []
    for name in names:
        match = compiled.search(name)
        if match is None:
            others.append(name)
        else:
            groups[name] = (match[1] if compiled.groups else match[0]) or ""
    return groups, others


def split(
    labels: Mapping[str, Iterable[Hashable]], groups: Mapping[str, str], share: float
) -> set[str]:
    """Choose the images of the validation; the order of the images changes nothing.

    Args:
        labels: By image: its classes. A class of one group alone goes to the training.
        groups: By image: its group; groups stay together. Images without one are alone.
        share: Share of the validation, 0..1.

    Returns:
        The images of the validation.
    """
    members: dict[tuple[bool, str], list[str]] = defaultdict(list)
    for name in labels:
        members[name in groups, groups.get(name, name)].append(name)
    # The number of images of each class in each group
    counts = {
        key: Counter(each for name in names for each in {*labels[name], ANY})
        for key, names in members.items()
    }
    # By a hash, images that follow each other do not stay together.
    order = sorted(counts, key=lambda key: hashlib.sha256(repr(key).encode()).digest())
    holders: dict[Hashable, list] = defaultdict(list)
    for key in order:
        for each in counts[key]:
            holders[each].append(key)
    total = Counter(each for count in counts.values() for each in count.elements())
    # The number of images that each side lacks: exact, so that ties do not depend on rounding
    exact = Fraction(share).limit_denominator(10**6)
    wanted = {each: exact * number for each, number in total.items()}
    lacking = {each: total[each] - wanted[each] for each in total}
    left, remaining = Counter(total), set(order)
    chosen: set[str] = set()

    def deal(key: tuple[bool, str], is_val: bool) -> None:
        for each, number in counts[key].items():
            (wanted if is_val else lacking)[each] -= number
            left[each] -= number
        remaining.discard(key)
        chosen.update(members[key] if is_val else ())

    for key in order:  # a class of one group is learned, not measured
        if any(each != ANY and len(holders[each]) == 1 for each in counts[key]):
            deal(key, False)
    while remaining:
        rarest = min(
            (each for each in left if left[each] > 0),
            key=lambda each: (each == ANY, left[each], str(each)),
        )
        keys = [key for key in holders[rarest] if key in remaining]
        for key in sorted(keys, key=lambda key: -counts[key][rarest]):
            deal(key, (wanted[rarest], wanted[ANY]) > (lacking[rarest], lacking[ANY]))
    return chosen


def set_splits(source: Source, files: Files, val: float | None, group_by: str | None) -> None:
    """Give each image its split, in place; those of the source are kept if it can train by them.

    Those of the source are told by its format, else by its folders.

    Args:
        source: The source.
        files: Its files.
        val: Share of the validation, None for :data:`VAL` or the splits of the source.
        group_by: Regular expression of groups that stay together, see :func:`group_names`. The
            source gets a problem for each image that does not match.

    Raises:
        InputError: If the source tells the splits of some images alone, if it has splits and others
            are asked for, or if no image is left for the validation.
    """
    images = source.images
    if not any(image.split for image in images):
        for image in images:
            root = files.image_root if image.data is None else files.root
            image.split = split_in(image.path, root) or split_in(image.source, files.root)
    without = [image for image in images if not image.split]
    if 0 < len(without) < len(images):
        other = next(image for image in images if image.split)
        raise InputError(
            f"{other.path} is in {other.split}, and {len(without)} images, first "
            f"{without[0].path}, in no split: sort all images into splits, or none"
        )
    if {"train", "val"} <= {image.split for image in images}:
        for option, value in (("--val", val), ("--group-by", group_by)):
            if value is not None:
                raise InputError(f"{option} splits images, and the source has splits already")
        return
    pool = [image for image in images if image.split != "test"] or images
    for image in pool:
        if image.split in ("val", "test"):
            source.note(
                f"images of {image.split} are split anew, since the source has no training",
                image.path,
            )
    names = {_relative(image.path, files): image for image in pool}
    groups: dict[str, str] = {}
    if group_by is not None:
        groups, others = group_names(names, group_by)
        for name in others:
            source.refuse(name, f"--group-by {group_by!r} finds nothing in {name}")
        if others:
            return
    same = identical_files(str(image.path) for image in pool if image.data is None)
    for paths in same:
        twins = [_relative(Path(path), files) for path in paths]
        source.note(
            "images are the same as another one, and in one split with it", paths[1], len(twins) - 1
        )
        _join(groups, twins, names)
    share = VAL if val is None else val
    labels = {name: _labels(image) for name, image in names.items()}
    chosen = split(labels, groups, share)
    if share and not chosen:
        raise InputError(
            f"--val {share:g} of {len(pool)} images leaves none for the validation, since a class "
            "of one image is for the training; label more images, ask for a larger share, or take "
            "--val 0 for no validation"
        )
    for name, image in names.items():
        image.split = "val" if name in chosen else "train"


def _labels(image: LabeledImage) -> set:
    if image.objects is not None:
        return {each.name for each in image.objects}
    assert image.label_map is not None
    return {index for index, count in image.label_map.counts.items() if count}


def _relative(path: Path, files: Files) -> str:
    is_below = path.is_relative_to(files.image_root)
    return (path.relative_to(files.image_root) if is_below else path).as_posix()


def _join(groups: dict[str, str], twins: Sequence[str], names: dict[str, LabeledImage]) -> None:
    """Bring images into one group with all of their groups, in place."""
    former = {groups[name] for name in twins if name in groups}
    target = min(former, default=twins[0])
    for name in names:
        if name in twins or groups.get(name) in former:
            groups[name] = target
