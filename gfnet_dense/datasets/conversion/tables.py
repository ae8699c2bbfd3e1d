"""Lists of class names, with or without colors."""

import re
from pathlib import Path

from gfnet_dense.utils.errors import InputError

from .files import read_lines
from .model import IGNORED

Color = tuple[int, int, int]

# CVAT's labelmap.txt (NAME:r,g,b::), NAME #rrggbb, NAME R G B
FORMS = (
    re.compile(r"(?P<name>[^:]+):(?P<r>\d+)\s*,\s*(?P<g>\d+)\s*,\s*(?P<b>\d+)(:.*)?"),
    re.compile(r"(?P<name>.+?)[\s:,]+#(?P<hex>[0-9a-fA-F]{6})"),
    re.compile(r"(?P<name>.+?)[\s:,]+(?P<r>\d+)[\s,]+(?P<g>\d+)[\s,]+(?P<b>\d+)"),
)


def read_names(path: Path) -> list[tuple[str, Color | None]]:
    """Return the class names of a file in their order, with their colors if it has colors.

    A line is a name, or a name with a color: ``NAME R G B``, ``NAME #rrggbb``, or
    ``NAME:r,g,b::`` as in CVAT's ``labelmap.txt``. Lines that begin with ``#`` are comments, and
    labelme's ``__ignore__`` is left out unless it has a color.

    Raises:
        InputError: If a name or a color is there twice, or a color is not 0..255.
    """
    names: dict[str, Color | None] = {}
    colors: dict[Color, str] = {}
    for line, text in read_lines(path):
        if text.startswith("#"):
            continue
        match = next((match for form in FORMS if (match := form.fullmatch(text))), None)
        name = match["name"].strip() if match else text.removesuffix("::").removesuffix(":").strip()
        color = _color(match) if match else None
        if name == IGNORED and color is None:
            continue
        if name in names:
            raise InputError(f"{path}, line {line}: {name!r} is there twice")
        if color is not None:
            if max(color) > 255:
                raise InputError(f"{path}, line {line}: the color {color} is not of 0..255")
            if color in colors:
                raise InputError(
                    f"{path}, line {line}: {name!r} has the color {color} of {colors[color]!r}"
                )
            colors[color] = name
        names[name] = color
    if not names:
        raise InputError(f"{path} holds no class name")
    return list(names.items())


def _color(match: re.Match) -> Color:
    groups = match.groupdict()
    if groups.get("hex"):
        return tuple(bytes.fromhex(groups["hex"]))  # type: ignore[return-value]
    return int(match["r"]), int(match["g"]), int(match["b"])


def read_colors(path: Path) -> list[tuple[str, Color]]:
    """Return the class names of a file with their colors.

    Raises:
        InputError: If a line has no color, or see :func:`read_names`.
    """
    pairs = []
    for name, color in read_names(path):
        if color is None:
            raise InputError(
                f"{path}: {name!r} has no color; a line is NAME R G B, NAME #rrggbb or NAME:r,g,b::"
            )
        pairs.append((name, color))
    return pairs
