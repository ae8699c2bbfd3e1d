"""Comparison of the class names of a config with the categories of a COCO file.

mmdetection numbers labels in the order of the FILE and names them in the order of the CONFIG
(``CocoDataset.load_data_list``, ``COCO.getCatIds``; open-mmlab/mmdetection#4167, #5793, #11704). So
names that differ in any way give wrong labels.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

MAX_NAMES = 10  # largest number of names that a message lists


def check_names(categories: list[dict], classes: Sequence[str], path: Path) -> list[str]:
    """Return why labels would be wrong with the classes of a config, at most one sentence.

    A file may have more categories than the config: the others are left out.

    Args:
        categories: Categories of the file.
        classes: Class names of the config in their order.
        path: The file, for the message.
    """
    names: list[str] = [category.get("name", "") for category in categories]
    for category, name in zip(categories, names, strict=True):
        if not isinstance(name, str) or not name:
            return [f"category {category['id']} in {path} has no name, but {name!r}"]
    for name, count in Counter(names).items():
        if count > 1 and name in classes:
            return [_say_double(categories, name, path)]
    missing = [name for name in classes if name not in names]
    if missing:
        return [_say_missing(missing, names, classes, path)]
    order = [name for name in names if name in classes]
    if order != list(classes):
        return [
            f"{path} has the classes in the order {list_names(order)}, the config in the order "
            f"{list_names(classes)}; mmdetection would confuse them: set {as_setting(order)} in "
            "all datasets, or reorder the categories of the file"
        ]
    return []


def list_names(names: Sequence[str]) -> str:
    """Return names as text, at most MAX_NAMES of them: 'disc, blob'."""
    more = f", ... ({len(names)} in all)" if len(names) > MAX_NAMES else ""
    shown = (name if name == name.strip() else repr(name) for name in names[:MAX_NAMES])
    return ", ".join(shown) + more


def as_setting(names: Sequence[str]) -> str:
    """Return the line of a config that names these classes."""
    return f"metainfo=dict(classes={tuple(names)})"


def simplify(name: str) -> str:
    """Return a name without differences of case, spaces, hyphens, underscores and Unicode form."""
    return re.sub(r"[\s_-]+", "", unicodedata.normalize("NFKC", name).casefold())


def _say_double(categories: list[dict], name: str, path: Path) -> str:
    ids = [str(category["id"]) for category in categories if category["name"] == name]
    return (
        f"{path} has {len(ids)} categories with the name {name!r}, of the ids {', '.join(ids)}; "
        "mmdetection would shift the labels behind them; take out the one without annotations (of "
        "a root category), or rename it"
    )


def _say_missing(missing: list[str], names: list[str], classes: Sequence[str], path: Path) -> str:
    similar = [name for name in names if simplify(name) == simplify(missing[0])]
    usable = [name for name in names if names.count(name) == 1]
    if similar:
        cure = f"it has {similar[0]!a}, and names are compared letter by letter"
    elif len(missing) == len(classes):
        cure = f"set {as_setting(usable)} in all datasets"
    else:
        cure = (
            "list it among the categories of the file, even if none of its objects is there, or "
            f"set {as_setting([name for name in usable if name in classes])} in all datasets"
        )
    return f"class {missing[0]!r} is not in {path}, which has: {list_names(names)}; {cure}"
