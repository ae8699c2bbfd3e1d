"""Headers of image files, and image files that are the same."""

import hashlib
import io
import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from gfnet_dense.datasets.checks.bands import check_count
from gfnet_dense.datasets.coco.pictures import stored_size
from gfnet_dense.utils.bands import read_bands
from gfnet_dense.utils.channels import Channels
from gfnet_dense.utils.decoding import Range, decode_image, is_dark, likely_range
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.image_headers import exif_orientation, naming
from gfnet_dense.utils.images import read_bytes

from .contents import Problem

DEEP_MODES = {"I", "I;16", "I;16B", "F"}  # Pillow's modes of more than 8 bits per channel
THUMBNAIL = 16  # pixels
SIMILAR = 4  # mean difference of gray values, 0..255, between thumbnails of the same picture


class Picture(NamedTuple):
    """What the header of an image file tells.

    Attributes:
        path: The file.
        size: (width, height) in stored pixels, before it is turned; (0, 0) if it is unreadable.
        orientation: EXIF orientation, 1..8.
        used_bits: Bits that the largest value takes in a file of 16 bits; None for other depths.
        error: Why it is unreadable, empty if it is not.
    """

    path: str
    size: tuple[int, int] = (0, 0)
    orientation: int = 1
    used_bits: int | None = None
    error: str = ""


def read_picture(
    path: str, image_range: Range | None = None, channels: Channels | None = None
) -> Picture:
    """Read the header of an image, and all of one of 16 bits; errors are part of the result.

    Args:
        path: The file.
        image_range: See :func:`gfnet_dense.utils.decoding.decode_image`.
        channels: The bands that the model takes. An image of other than three is read as a whole.
    """
    try:
        if channels is not None and channels.count != 3:
            bands = read_bands(path)
            check_count(bands, path, channels)
            return Picture(path, (bands.shape[1], bands.shape[0]))
        with Image.open(path) as image:
            (height, width), orientation = stored_size(image), exif_orientation(image)
            size = width, height
            is_deep = image.mode in DEEP_MODES or ";16" in str(image.tile)
        if not is_deep:
            return Picture(path, size, orientation)
        decoded = decode_image(Path(path).read_bytes(), path, image_range)
        return Picture(path, size, orientation, decoded.used_bits)
    except FileNotFoundError:
        return Picture(path, error=f"the image {path} does not exist")
    except InputError as e:
        return Picture(path, error=str(e))
    except Exception as e:  # Pillow may raise anything at a broken header
        return Picture(path, error=f"{path} cannot be read as image: {e}")


def why_broken(path: str, kind: str = "image") -> str:
    """Return why an image file is missing or cannot be decoded by Pillow, '' if it can.

    Args:
        path: The file.
        kind: 'image' or 'label map', for the message.
    """
    try:
        with naming(path, kind), Image.open(io.BytesIO(read_bytes(path, kind))) as image:
            image.load()
    except InputError as e:
        return str(e)
    return ""


def dark_pictures(pictures: list[Picture]) -> tuple[list[Problem], list[Problem]]:
    """Return errors and warnings of images of 16 bits that use fewer bits, and are read dark.

    Args:
        pictures: Images of a dataset without ``image_range``.

    Returns:
        One error if all images of 16 bits are dark, else a warning for each dark one.
    """
    deep = [(picture.path, bits) for picture in pictures if (bits := picture.used_bits) is not None]
    dark = [path for path, bits in deep if is_dark(bits)]
    if len(dark) < len(deep):
        return [], [
            Problem(path, f"the image {path} uses few of its 16 bits and is read almost black")
            for path in dark
        ]
    most = max((bits for _, bits in deep), default=0)
    return [
        Problem(
            dark[0],
            f"{dark[0]} uses {most} of its 16 bits or less, as do all images of 16 bits "
            f"({len(dark)}), and is read almost black: set metainfo=dict(image_range="
            f"{likely_range(most)}) of all datasets, or (0, 65535) if the images are that dark",
        )
        for _ in dark[:1]
    ], []


def same_pictures(training: list[str], others: list[str]) -> list[Problem]:
    """Return a warning for each picture of other splits that is in the training, too.

    It is the same file, has the same bytes, or has the same name and looks the same.

    Args:
        training: Paths of the images of the training.
        others: Paths of the images of the other splits.
    """
    own = set(training)
    twins = {path: path for path in others if path in own}
    lengths = {_length(path) for path in others}
    for group in identical_files([*(p for p in training if _length(p) in lengths), *others]):
        twin = next((path for path in group if path in own), None)
        if twin is not None:
            twins.update((path, twin) for path in group if path not in own)
    by_name = {os.path.basename(path): path for path in training}
    for path in others:
        twin = by_name.get(os.path.basename(path))
        if twin is not None and path not in twins and _look_the_same(path, twin):
            twins[path] = twin
    return [
        Problem(path, f"the picture {path} is in the training, too{_as(path, twin)}")
        for path, twin in twins.items()
    ]


def _as(path: str, twin: str) -> str:
    return "" if os.path.basename(path) == os.path.basename(twin) else f", as {twin}"


def _length(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return -1


def _look_the_same(path: str, other: str) -> bool:
    try:
        difference = _thumbnail(path) - _thumbnail(other)
    except Exception:  # Pillow may raise anything at a broken file, which is reported elsewhere
        return False
    return float(np.abs(difference).mean()) < SIMILAR


def _thumbnail(path: str) -> np.ndarray:
    with Image.open(path) as image:
        image.draft("L", (4 * THUMBNAIL, 4 * THUMBNAIL))  # a JPEG is decoded in part
        return np.asarray(image.convert("L").resize((THUMBNAIL, THUMBNAIL)), dtype=np.float64)


def identical_files(paths: Iterable[str]) -> list[list[str]]:
    """Return groups of two and more files with the same bytes.

    Only files of the same length are read.

    Args:
        paths: The files; each is counted once, however often it is given.
    """
    by_length = defaultdict(list)
    for path in dict.fromkeys(paths):
        by_length[_length(path)].append(path)
    by_content = defaultdict(list)
    for length, members in by_length.items():
        for path in members if len(members) > 1 and length >= 0 else ():
            by_content[length, _hash(path)].append(path)
    return [group for group in by_content.values() if len(group) > 1]


def _hash(path: str) -> bytes:
    return hashlib.blake2b(Path(path).read_bytes()).digest()
