"""Changing values deep inside a config."""

from collections.abc import Callable


def change_values(node, changes: dict[str, Callable]) -> None:
    """Change every value that has one of some keys in nested dicts and lists, in place.

    Args:
        node: A part of a config.
        changes: Function from the old to the new value, by key.
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


def scale_pipeline(pipeline: list, factor: float) -> None:
    """Scale the image and crop sizes of transforms, those of nested ones too, in place."""
    keys = ("scale", "scales", "crop_size")
    change_values(pipeline, dict.fromkeys(keys, lambda size: scale_size(size, factor)))


def scale_size(size: int | tuple | list, factor: float) -> int | tuple | list:
    """Return a size in pixels, or several of them, times a factor."""
    if isinstance(size, int):
        return round(size * factor)
    return type(size)(scale_size(each, factor) for each in size)
