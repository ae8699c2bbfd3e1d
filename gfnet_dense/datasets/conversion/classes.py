"""The classes of a result, and their order."""

from collections import defaultdict
from collections.abc import Sequence
from difflib import get_close_matches

import numpy as np

from gfnet_dense.datasets.coco.names import list_names, simplify
from gfnet_dense.utils.errors import InputError

from .model import IGNORED, NOT_LABELED, LabelMap, Source, is_background

OTHERS = "objects of other classes"


def choose_classes(source: Source, chosen: Sequence[str] | None) -> list[str]:
    """Return the classes of objects of a source in their order, without the background.

    It is the user's order, else that of the source, else that of the alphabet.

    Args:
        source: The source.
        chosen: Names that the user has given.

    Raises:
        InputError: If a name is not a class of the source, or is there twice, or there is none but
            the background.
    """
    used = {each.name for image in source.images for each in image.objects or []}
    known = list(source.classes) if source.classes is not None else sorted(used - {IGNORED})
    known += sorted(used - {*known, IGNORED})
    is_object = source.images and source.images[0].label_map is None
    names = [name for name in known if not is_background(name)] if is_object else known
    if chosen is None:
        if not any(not is_background(name) for name in names):
            raise InputError("the source has no class but the background")
        return names
    for name in chosen:
        if name not in known and not (is_object and is_background(name)):
            raise InputError(_say_unknown(name, known))
        if chosen.count(name) > 1:
            raise InputError(f"--classes names {name!r} twice")
    result = [name for name in chosen if name in names]
    if not any(not is_background(name) for name in result):
        raise InputError(
            f"--classes names the background alone; the source has {list_names(known)}"
        )
    return result


def _say_unknown(name: str, known: list[str]) -> str:
    near = [other for other in known if simplify(other) == simplify(name)]
    near = near or get_close_matches(name, known, n=3)
    hint = f"near to it {'is' if len(near) == 1 else 'are'} {list_names(near)}; " if near else ""
    return f"--classes: the source has no class {name!r}; {hint}it has {list_names(known)}"


def note_similar(source: Source, classes: Sequence[str]) -> None:
    """Note the classes whose names differ in case, blanks, hyphens or underscores alone."""
    similar = defaultdict(list)
    for name in classes:
        similar[simplify(name)].append(name)
    for names in similar.values():
        if len(names) > 1:
            holders = (
                image.source
                for image in source.images
                for each in image.objects or []
                if each.name in names
            )
            source.note(
                f"classes have almost the same name, and are kept apart: {list_names(names)}; "
                "correct the labels if they are one class",
                next(holders, source.images[0].source), len(names),
            )  # fmt: skip


def drop_others(source: Source, classes: Sequence[str]) -> None:
    """Leave out the objects of other classes in place; what is ignored stays."""
    for image in source.images:
        if image.objects is None:
            continue
        kept = []
        for each in image.objects:
            if each.name in (*classes, IGNORED) or is_background(each.name):
                kept.append(each)
            else:
                source.leave_out(f"{OTHERS}, {each.name}", image.source)
        image.objects = kept


def renumber(label_map: LabelMap, names: Sequence[str], classes: Sequence[str]) -> LabelMap:
    """Return a label map with the indices of chosen classes; others become not labeled.

    Args:
        label_map: A label map.
        names: Names of its indices.
        classes: The chosen classes.
    """
    table = np.full(256, NOT_LABELED, np.uint8)
    for index, name in enumerate(names):
        if name in classes:
            table[index] = classes.index(name)
    counts = {int(table[i]): n for i, n in label_map.counts.items() if table[i] != NOT_LABELED}
    total = sum(label_map.counts.values()) + label_map.ignored
    return LabelMap(lambda: table[label_map.read()], counts, total - sum(counts.values()))
