"""Comparing the classes that a checkpoint was trained for with those of the data."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from gfnet_dense.utils.errors import InputError


def check_classes(meta: dict[str, Any], classes: Sequence[str] | None, path: str | Path) -> None:
    """Check that a checkpoint was trained for the classes of the data, in the same order.

    With another order, every measure would be of exchanged classes. Other names are logged as a
    warning: they may be translations.

    Args:
        meta: The ``meta`` of the file, see :class:`.contents.Weights`.
        classes: Names of the classes of the data, in their order; None if they have none.
        path: The file, for messages.

    Raises:
        InputError: For the same names in another order.
    """
    trained = meta.get("dataset_meta", {}).get("classes")
    if not classes or not isinstance(trained, (list, tuple)):
        return
    trained, own = list(map(str, trained)), list(map(str, classes))
    if trained == own:
        return
    if sorted(trained) == sorted(own):
        first = next(i for i, pair in enumerate(zip(trained, own, strict=True)) if len({*pair}) > 1)
        raise InputError(
            f"{path} was trained for the classes {_listed(trained)}, in this order, and the data "
            f"of the config have {_listed(own)}: class {first} is {trained[first]!r} "
            f"there and {own[first]!r} here; give the classes of the config in the order "
            "of the checkpoint"
        )
    differing = [(a, b) for a, b in zip(trained, own, strict=False) if a != b]
    if len(trained) != len(own):
        what = f"{len(trained)} classes, the data of the config have {len(own)}"
    else:
        what = f"{len(differing)} classes of other names"
    if differing:
        what += f"; the first to differ are {differing[0][0]!r} and, in the config, "
        what += f"{differing[0][1]!r}"
    print_log(f"{path} was trained for {what}", logger="current", level=logging.WARNING)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
