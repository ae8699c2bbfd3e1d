"""Differences between two configs, by dotted key.

mmengine's ``Config.diff`` is not enough: it compares the texts of two configs line by line, so its
lines lack the dotted keys that ``--cfg-options`` takes.
"""

from collections.abc import Iterable, Iterator
from typing import Any


class _Absent:
    def __repr__(self) -> str:
        return "nothing"


ABSENT = _Absent()  # stands for the value of a key that a config does not have


def describe_changes(old: Any, new: Any) -> str:
    """Return a line ``# key: old -> new`` for each difference of :func:`diff_configs`."""
    return "\n".join(f"# {key}: {a!r} -> {b!r}" for key, a, b in diff_configs(old, new))


def diff_configs(old: Any, new: Any, key: str = "") -> Iterator[tuple[str, object, object]]:
    """Yield (key, old value, new value) for each leaf in which two configs differ.

    A list counts as one leaf if the two lists differ in length, or hold no dicts or lists.

    Args:
        old: A config, or a part of one: nested dicts, lists and values.
        new: The config, or part, to compare it with.
        key: Dotted key of both parts, as ``--cfg-options`` takes it: ``model.decode_head``.

    Yields:
        Keys in the order of ``old``, then the keys that only ``new`` has. ``ABSENT`` stands for the
        value of a key that one of them lacks.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*old, *(name for name in new if name not in old)]:
            inner = f"{key}.{name}" if key else name
            yield from diff_configs(old.get(name, ABSENT), new.get(name, ABSENT), inner)
    elif _is_list(old) and _is_list(new) and len(old) == len(new) and _has_dicts(old):
        for i, (a, b) in enumerate(zip(old, new, strict=True)):
            yield from diff_configs(a, b, f"{key}.{i}")
    elif old is ABSENT or new is ABSENT or old != new:
        yield key, old, new


def _is_list(value: object) -> bool:
    return isinstance(value, (list, tuple))


def _has_dicts(values: Iterable[object]) -> bool:
    """Return whether values hold further levels: dicts, lists or tuples."""
    return any(isinstance(value, (dict, list, tuple)) for value in values)
