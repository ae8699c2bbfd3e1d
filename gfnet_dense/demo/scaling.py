"""Changing values in nested parts of a config."""

from collections.abc import Callable, Mapping
from typing import Any


def change_values(node: Any, changes: Mapping[str, Callable[[Any], Any]]) -> None:
    """Change all values that belong to some keys in nested dicts and lists, in place.

    Args:
        node: A part of a config: a dict, list or tuple; other values are left alone.
        changes: For each key, a function from the old value to the new one.
    """
    if isinstance(node, (list, tuple)):
        for each in node:
            change_values(each, changes)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key in changes:
                node[key] = changes[key](value)
            else:
                change_values(value, changes)


def scale_pipeline(pipeline: list[dict[str, Any]], factor: float) -> None:
    """Multiply image and crop sizes of transforms, nested ones included, by a factor, in place."""
    keys = ("scale", "scales", "crop_size")
    change_values(pipeline, dict.fromkeys(keys, lambda size: scale_size(size, factor)))


def scale_size(size: Any, factor: float) -> Any:
    """Return a size times a factor, rounded to whole pixels.

    Args:
        size: Number of pixels, or a tuple or list of them, which may be nested.
        factor: The factor.

    Returns:
        The scaled size, of the same type as ``size``.
    """
    if isinstance(size, int):
        return round(size * factor)
    return type(size)(scale_size(each, factor) for each in size)
