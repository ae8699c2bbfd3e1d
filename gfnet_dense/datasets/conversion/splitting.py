"""Splitting of images in training and validation with each class spread evenly.

Iterative stratification (Sechidis, Tsoumakas and Vlahavas, "On the Stratification of Multi-Label
Data", ECML PKDD 2011, https://doi.org/10.1007/978-3-642-23808-6_10): the images of the rarest class
are dealt out first, each to the side that lacks the most images of that class.
"""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping
from fractions import Fraction

from gfnet_dense.utils.errors import InputError

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
