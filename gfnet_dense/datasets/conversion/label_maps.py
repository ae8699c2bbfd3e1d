"""Reading of masks as label maps: by colors, by indices, or of one class."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gfnet_dense.datasets.survey.contents import in_parallel
from gfnet_dense.utils.decoding import LOSSY, decode_label_map
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.image_headers import exif_orientation, naming, opened
from gfnet_dense.utils.images import read_bytes
from gfnet_dense.utils.types import Size

from .model import IGNORED, NOT_LABELED, LabelMap, Source
from .tables import Color

BLACK, WHITE = (0, 0, 0), (255, 255, 255)
OF_ONE_CLASS = "masks of one class hold 0 and 1, or 0 and 255"


def survey_maps(
    read: Callable[[Path], np.ndarray], paths: Sequence[Path], source: Source
) -> Iterator[tuple[LabelMap, Size] | None]:
    """Yield the label map of each file with its size, None for one that cannot be read.

    Args:
        read: Returns (H, W) uint8 for a file, or raises InputError; it must be picklable.
        paths: The files.
        source: Gets a problem for each file that cannot be read.
    """
    results = in_parallel(partial(_survey_map, read), paths, "masks")
    for path, (counts, size, problem) in zip(paths, results, strict=True):
        if problem:
            source.refuse(path, problem)
            yield None
        else:
            ignored = counts.pop(NOT_LABELED, 0)
            yield LabelMap(partial(read, path), counts, ignored), size


def _survey_map(read: Callable[[Path], np.ndarray], path: Path) -> tuple[dict, Any, str]:
    try:
        labels = read(path)
    except InputError as e:
        return {}, None, str(e)
    values, counts = np.unique(labels, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True)), labels.shape, ""


def read_colors_of(path: Path) -> np.ndarray:
    """Return a mask as (H, W, 3) uint8 colors, exactly as they are stored.

    Raises:
        InputError: If it cannot be read, or is in a format that changes colors.
    """
    data = read_bytes(path, "label map")
    with naming(str(path), "label map"), opened(data, str(path)) as image:
        check_exact(image, path)
        if image.mode in ("I", "I;16", "I;16B", "F"):
            raise ValueError(f"its mode is {image.mode}: write it with 8 bits")
        return np.asarray(image.convert("RGB"))


def used_palette(path: Path) -> dict[int, Color] | None:
    """Return the colors of the indices that a palette image uses.

    It is None for another image, and for a palette that has a color for several of them.

    Raises:
        InputError: If it cannot be read.
    """
    with naming(str(path), "label map"), Image.open(path) as image:
        if image.mode != "P":
            return None
        colors = np.reshape(image.getpalette("RGB") or [], (-1, 3)).tolist()
    used = np.unique(read_indices(path)).tolist()
    found = {index: tuple(colors[index]) if index < len(colors) else BLACK for index in used}
    return found if len(set(found.values())) == len(found) else None


def has_colors(path: Path) -> bool:
    """Return whether a mask is an image of colors, not of indices or gray.

    Raises:
        InputError: If it cannot be read.
    """
    with naming(str(path), "label map"), Image.open(path) as image:
        return image.mode not in ("1", "L", "P", "I", "I;16", "I;16B")


def check_exact(image: Image.Image, path: Path) -> None:
    """Raise InputError if the format of an opened mask changes colors, or a tag turns it."""
    if image.format in LOSSY:
        raise InputError(
            f"{path} is a {image.format}, whose compression has changed colors and indices, most "
            "of all at borders: export the masks as PNG"
        )
    if exif_orientation(image) != 1:
        raise InputError(f"{path}: a mask with an EXIF orientation of its own; save it without")


def read_color_map(path: Path, table: Sequence[tuple[str, Color]]) -> np.ndarray:
    """Return the label map of a mask of colors.

    Args:
        path: The mask.
        table: Names and colors of the classes 0, 1, ... ``__ignore__`` means not labeled, and
            counts as no class.

    Returns:
        (H, W) uint8.

    Raises:
        InputError: If a color is not in the table, or the mask cannot be read.
    """
    colors = read_colors_of(path)
    names = [name for name, _ in table if name != IGNORED]
    codes = color_codes(np.array([color for _, color in table], np.uint8))
    values = np.array([names.index(n) if n != IGNORED else NOT_LABELED for n, _ in table], np.uint8)
    order = np.argsort(codes)
    of_pixels = color_codes(colors)
    places = np.searchsorted(codes[order], of_pixels).clip(0, len(codes) - 1)
    unknown = codes[order][places] != of_pixels
    if unknown.any():
        raise InputError(_say_unknown(colors, of_pixels, unknown, path))
    return values[order][places]


def color_codes(colors: np.ndarray) -> np.ndarray:
    """Return (..., 3) uint8 colors as one number each, (...) int32; black is 0."""
    return colors.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)


def _say_unknown(colors: np.ndarray, codes: np.ndarray, unknown: np.ndarray, path: Path) -> str:
    found, counts = np.unique(codes[unknown], return_counts=True)
    most = found[counts.argmax()]
    y, x = np.argwhere(codes == most)[0].tolist()
    others = f", and {len(found) - 1} other unknown colors" if len(found) > 1 else ""
    return (
        f"{path} holds the color {tuple(colors[y, x].tolist())}, first at x = {x}, y = {y}, of "
        f"{counts.max()} pixels{others}: the table of colors does not name it"
    )


def read_indices(path: Path) -> np.ndarray:
    """Return the values of a gray or palette image as (H, W) uint8.

    Raises:
        InputError: If it cannot be read, or is in a format that changes values.
    """
    data = read_bytes(path, "label map")
    with naming(str(path), "label map"), opened(data, str(path)) as image:
        check_exact(image, path)
    return decode_label_map(data, str(path))


def read_index_map(path: Path, classes: Sequence[str]) -> np.ndarray:
    """Return the label map of a gray or palette image of class indices.

    Raises:
        InputError: If it holds an index that is no class and not 255, or cannot be read.
    """
    labels = read_indices(path)
    odd = labels[(labels >= len(classes)) & (labels != NOT_LABELED)]
    if odd.size:
        raise InputError(
            f"{path} holds the index {odd.max()}, accepted are 0..{len(classes) - 1} "
            f"({len(classes)} classes) and 255 for what is not labeled"
        )
    return labels


def read_binary_map(path: Path) -> np.ndarray:
    """Return a mask of one class as (H, W) uint8 with the values 0, and 1 or 255, as it has them.

    Where a palette image is of black and white, its colors count, and white is 255: programs sort
    palettes in any order.

    Raises:
        InputError: If it holds other values, it is not clear what is background, or it cannot be
            read.
    """
    palette = used_palette(path) or {}
    if palette and set(palette.values()) <= {BLACK, WHITE}:
        values = read_colors_of(path)[..., 0]
    elif BLACK in [color for index, color in palette.items() if index]:
        raise InputError(
            f"{path} has a palette with black at another index than 0, and nothing tells which of "
            "them is the background: name both with --colors FILE, lines of NAME R G B"
        )
    elif has_colors(path):
        colors = read_colors_of(path)
        values = colors[..., 0]
        if (colors != colors[..., :1]).any():
            raise InputError(
                f"{path} has colors: name the class of each with --colors FILE, lines of "
                "NAME R G B or NAME #rrggbb"
            )
    else:
        values = read_indices(path)
    found = np.unique(values).tolist()
    if not set(found) <= {0, 1, NOT_LABELED}:
        shown = ", ".join(map(str, found[:8])) + (", ..." if len(found) > 8 else "")
        raise InputError(
            f"{path} holds the values {shown}: {OF_ONE_CLASS}; if they are class indices, name the "
            "classes 0, 1, ... with --classes, if they are gray levels, give these with --colors "
            "FILE"
        )
    return values


def join_binary(maps: dict[Path, LabelMap], is_named: bool) -> dict[Path, LabelMap]:
    """Return masks of one class as label maps of 0 and 1, by what all of them hold.

    Args:
        maps: Masks as :func:`read_binary_map` reads them, where 255 counts as not labeled.
        is_named: Whether the user has named the classes 0 and 1. Then 255 is what is not labeled
            if some mask holds 1 as well.

    Raises:
        InputError: If 255 is the class in one mask, and 1 in another one.
    """
    ones = {path: None for path, each in maps.items() if 1 in each.counts}
    full = [path for path, each in maps.items() if each.ignored]
    if ones and full:
        if is_named and any(path in ones for path in full):
            return maps
        raise InputError(
            f"{full[0]} holds the value 255 and {next(iter(ones))} the value 1: {OF_ONE_CLASS}, "
            "all in the same way"
        )
    if not full:
        return maps
    return {
        path: LabelMap(partial(_white_as_one, each.read), _counts_of(each), 0)
        for path, each in maps.items()
    }


def _white_as_one(read: Callable[[], np.ndarray]) -> np.ndarray:
    return (read() > 0).astype(np.uint8)


def _counts_of(each: LabelMap) -> dict[int, int]:
    return {**each.counts, 1: each.ignored} if each.ignored else each.counts
