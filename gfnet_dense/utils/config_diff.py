"""What was changed in a config."""

from collections.abc import Iterator


class _Absent:
    def __repr__(self) -> str:
        return "nothing"


ABSENT = _Absent()


def describe_changes(old, new) -> str:
    """Return a line ``# key: old -> new`` for every difference of :func:`diff_configs`."""
    return "\n".join(f"# {key}: {a!r} -> {b!r}" for key, a, b in diff_configs(old, new))


def diff_configs(old, new, key: str = "") -> Iterator[tuple[str, object, object]]:
    """Yield (key, old value, new value) of every leaf in which two configs differ.

    Args:
        old: A config, or a part of one: nested dicts, lists and values.
        new: The other.
        key: Where they are, as ``--cfg-options`` has it: ``model.decode_head.channels``.

    Yields:
        Keys in the order of ``old``, then those that only ``new`` has; ``ABSENT`` stands for what
        one of them has not.
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


def _is_list(value) -> bool:
    return isinstance(value, (list, tuple))


def _has_dicts(values) -> bool:
    return any(isinstance(value, (dict, list, tuple)) for value in values)
