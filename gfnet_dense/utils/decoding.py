"""Image files as arrays: one rule for training, evaluation and prediction.

An image becomes (H, W, 3) uint8 RGB, as it is shown: turned by its orientation tag, gray as three
equal channels. Alpha is dropped, and the colors below it stay as they are stored. Images of more
than 8 bits per channel keep the upper 8 of the bits that their header states, or are scaled by the
``image_range`` of the data set. Pillow decodes everything. ``examples/onnx_infer.py`` restates the
rule.
"""

import math
import re
import sys
from typing import Any, NamedTuple

import numpy as np
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from .errors import InputError
from .image_headers import (
    PHOTOMETRIC,
    SAMPLE_FORMAT,
    WHITE_IS_ZERO,
    depth_of_jpeg2000,
    exif_orientation,
    naming,
    open_unchecked,
    opened,
)

Range = tuple[float, float]

COLOR_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}  # of 8 bits
LOSSY = {"JPEG", "MPO", "JPEG2000", "WEBP", "AVIF"}  # compression that may change class indices
# Pillow spreads gray of 2 and 4 bits over 0..255 by these factors.
GRAY_FACTORS = {"L;2": 85, "L;2R": 85, "L;4": 17, "L;4R": 17}
WRONG_LABEL_MAP = (
    "the label map {} is a {} image, expected one channel of 8 bits that holds the class index of "
    "each pixel"
)
# Usual bits of sensors whose values are stored in 16 bits. If no image uses more, all are read
# almost black.
SENSOR_BITS = (10, 12, 14)
# How the array of an image is turned, by EXIF orientation (https://exif.org/Exif2-2.PDF, page 18).
TURNS: dict[int, Any] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


class Decoded(NamedTuple):
    """A decoded image.

    Attributes:
        pixels: (H, W, 3), uint8, RGB, as it is shown.
        orientation: EXIF orientation of the file, 1..8; 1 if the image was not turned.
        used_bits: Bits that the largest value takes in a file of 16 bits; None for other depths.
    """

    pixels: np.ndarray
    orientation: int
    used_bits: int | None


class _Deep(NamedTuple):
    """Values of more than 8 bits, (H, W) or (H, W, 3), and the largest one by the header.

    The largest value is None for 32 bits, signed integers and floats: their header tells none.
    """

    values: np.ndarray
    largest: int | None


def decode_image(data: bytes, path: str, image_range: Range | None = None) -> Decoded:
    """Decode an image.

    Args:
        data: Content of the file.
        path: Path of the file, for messages.
        image_range: Stored values that become 0 and 255, for files of more than 8 bits per channel.
            Values in between are scaled linearly and rounded. By default the upper 8 bits are kept.

    Raises:
        InputError: If the image is broken, of a kind that is not read, or has more than 8 bits and
            needs an ``image_range`` because its header does not tell the range.
    """
    with naming(path, "image"), opened(data, path) as image:
        rawmode, orientation = rawmode_of(image), exif_orientation(image)
        deep = _deep_values(image, rawmode, data)
        if deep is None:
            return Decoded(np.ascontiguousarray(_colors(image)), orientation, None)
        pixels = scale(*deep, image_range, path)
        if _is_inverted(image):
            pixels = 255 - pixels
        if pixels.ndim == 2:
            pixels = np.repeat(pixels[..., None], 3, axis=2)
        return Decoded(np.ascontiguousarray(pixels), orientation, _bits_of(deep))


def used_bits(data: bytes, path: str) -> int | None:
    """Return the :attr:`Decoded.used_bits` of an image; of one of 8 bits only the header is read.

    Raises:
        InputError: If the image is broken or of a kind that is not read.
    """
    with naming(path, "image"), opened(data, path) as image:
        return _bits_of(_deep_values(image, rawmode_of(image), data))


def _bits_of(deep: _Deep | None) -> int | None:
    if deep is None or deep.largest != 65535:
        return None
    return int(deep.values.max()).bit_length()


def decode_label_map(data: bytes, path: str) -> np.ndarray:
    """Decode a label map as (H, W) uint8 class indices, turned by its own orientation tag.

    Gray values of up to 8 bits are taken as they are stored, palette images as palette indices; of
    black and white, white is 1. Wider integers are accepted if all values fit into 8 bits.

    Raises:
        InputError: If the file is broken, of another mode, or of a format that changes values.
    """
    with naming(path, "label map"), opened(data, path) as image:
        if image.format in LOSSY:
            raise ValueError(
                f"the compression of {image.format} changes class indices: write it as PNG"
            )
        if _is_inverted(image):
            raise ValueError("its values are stored inverted (WhiteIsZero): write it as PNG")
        rawmode = rawmode_of(image)
        if image.mode not in ("1", "L", "P", "I", "I;16", "I;16B"):
            raise InputError(WRONG_LABEL_MAP.format(path, image.mode))
        deep = _deep_values(image, rawmode, data, all_netpbm=True)
        values = loaded(image) if deep is None else deep.values
        if deep is not None and (values.min() < 0 or values.max() > 255):
            raise InputError(WRONG_LABEL_MAP.format(path, image.mode))
        indices = values.astype(np.uint8, order="C")  # a copy, since Pillow's array is read-only
        return indices // GRAY_FACTORS[rawmode] if rawmode in GRAY_FACTORS else indices


def scale(
    values: np.ndarray, largest: int | None, image_range: Range | None, path: str
) -> np.ndarray:
    """Return values of more than 8 bits as uint8.

    Args:
        values: Integers or floats.
        largest: Largest value by the header, None if it is unknown.
        image_range: See :func:`decode_image`.
        path: Path of the file, for messages.

    Raises:
        InputError: If neither ``largest`` nor ``image_range`` is known, or a value is not finite.
    """
    if image_range is None:
        if largest is None:
            kind = "floats" if values.dtype.kind == "f" else "integers, signed or of 32 bits,"
            raise InputError(
                f"{path} holds {kind} and does not tell which of them are black and white: set "
                "metainfo=dict(image_range=(low, high)) of the datasets in the config"
            )
        return (values.astype(np.uint32) * 256 // (largest + 1)).astype(np.uint8)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise InputError(f"{path} holds values that are not finite: write it without NaN and inf")
    if largest is not None:  # as many divisions as there are values, not pixels
        return _to_bytes(np.arange(largest + 1), image_range)[values]
    return _to_bytes(values, image_range)


def _to_bytes(values: np.ndarray, image_range: Range) -> np.ndarray:
    low, high = image_range
    return np.rint(255 * (values.astype(np.float64) - low) / (high - low)).clip(0, 255).astype("u1")


def check_image_range(image_range: Any) -> Range | None:
    """Return the ``image_range`` of a data set's metainfo as two floats, None if there is none.

    Raises:
        InputError: If it is not two finite numbers, the smaller one first.
    """
    if image_range is None:
        return None
    try:
        low, high = (float(each) for each in image_range if not isinstance(each, (str, bool)))
    except (OverflowError, TypeError, ValueError):
        low = high = math.nan
    if not -math.inf < low < high < math.inf:
        raise InputError(
            "image_range in the metainfo of a dataset is two numbers, the values of black and "
            f"white, such as (0, 4095), got {image_range!r}"
        )
    return low, high


def is_dark(used_bits: int | None) -> bool:
    """Return whether an image with these :attr:`Decoded.used_bits` is read almost black."""
    return used_bits is not None and used_bits <= max(SENSOR_BITS)


def likely_range(used_bits: int) -> tuple[int, int]:
    """Return the range of the sensor that probably made dark images."""
    return 0, 2 ** min(bits for bits in SENSOR_BITS if bits >= used_bits) - 1


def rawmode_of(image: ImageFile) -> str:
    """Return how Pillow will unpack an opened image, such as 'RGB;16B'; '' if it does not tell."""
    if not image.tile:
        return ""
    arguments = image.tile[0].args
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _is_inverted(image: ImageFile) -> bool:
    return isinstance(image, TiffImageFile) and image.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO


def loaded(image: ImageFile, mode: str | None = None) -> np.ndarray:
    """Return the array of an image, turned by its orientation tag.

    When Pillow loads a TIFF, it turns the image and removes the tag.
    """
    image.load()
    orientation = exif_orientation(image)
    return TURNS[orientation](
        np.asarray(image if mode in (None, image.mode) else image.convert(mode))
    )


def _colors(image: ImageFile) -> np.ndarray:
    """Return an image of 8 bits as (H, W, 3) RGB."""
    if image.mode not in COLOR_MODES:
        raise ValueError(f"its color mode is {image.mode}: write it as RGB")
    image.info.pop("transparency", None)  # Pillow would warn that it drops it
    return loaded(image, "RGB")


def _deep_values(
    image: ImageFile, rawmode: str, data: bytes, all_netpbm: bool = False
) -> _Deep | None:
    """Return the values of an image of more than 8 bits, None for another one.

    Args:
        image: An image, opened.
        rawmode: Its :func:`rawmode_of`.
        data: Content of the file.
        all_netpbm: Return the values of Netpbm files of 8 bits, too, which Pillow scales by the
            maximum in their header.
    """
    if image.format == "PPM" and image.mode in ("L", "I", "RGB"):
        return _netpbm_values(image, data, all_netpbm)
    if image.mode in ("I;16", "I;16B"):
        bits = 16
        values = loaded(image).astype(np.uint16)
        if image.format == "JPEG2000":  # Pillow shifts the values to the upper bits
            bits = depth_of_jpeg2000(data)
            values >>= 16 - bits
        elif rawmode.startswith("I;12"):
            bits = 12
        return _Deep(values, 2**bits - 1)
    if image.mode in ("I", "F"):
        values = loaded(image)
        unsigned = isinstance(image, TiffImageFile) and image.tag_v2.get(SAMPLE_FORMAT) == (1,)
        return _Deep(values.view(np.uint32) if unsigned else values, None)
    return _Deep(sixteen_bits(rawmode, data), 65535) if ";16" in rawmode else None


def _netpbm_values(image: ImageFile, data: bytes, all_netpbm: bool) -> _Deep | None:
    """Return the stored values of a PGM or PPM file (https://netpbm.sourceforge.net/doc/ppm.html).

    Pillow scales them, colors to 8 bits, value by value in Python.
    """
    (tile,) = image.tile
    largest = tile.args[-1] if isinstance(tile.args, tuple) else 65535 if image.mode == "I" else 255
    if largest == 255 or (largest < 255 and not all_netpbm):
        return None
    shape = (image.height, image.width, 3)[: 2 if image.mode in ("L", "I") else 3]
    content, count = data[tile.offset :], math.prod(shape)
    if tile.codec_name == "ppm_plain":
        numbers = re.sub(rb"#[^\r\n]*", b"", content).split()[:count]
        values = np.array(numbers).astype(np.uint16)
    else:
        values = np.frombuffer(content, ">u2" if largest > 255 else "u1", count).astype(np.uint16)
    if values.max() > largest:
        raise ValueError(f"it holds the value {values.max()}, its header states {largest} at most")
    return _Deep(values.reshape(shape), largest)


def sixteen_bits(rawmode: str, data: bytes, alpha: bool = False) -> np.ndarray:
    """Return the colors of an image of several channels of 16 bits, (H, W, 3), or gray, (H, W).

    With ``alpha``, the fourth channel is returned as well, if there is one.

    Pillow keeps the upper 8 bits of such images. Told that the bytes are in the other order, it
    keeps the lower ones.
    """
    if rawmode == "LA;16B":  # without its counterpart: the four bytes of a pixel as four channels
        high, low = np.moveaxis(_unpacked(data, "RGBA"), 2, 0)[:2].astype(np.uint16)
    else:
        channels, _, order = rawmode.partition(";16")
        if channels not in ("RGB", "RGBX", "RGBA"):
            raise ValueError(f"it has 16 bits in the mode {channels}: write it as RGB")
        order = order.replace("N", "L" if sys.byteorder == "little" else "B")
        high, low = (
            _unpacked(data, f"{channels};16{each}")[..., : 4 if alpha else 3].astype(np.uint16)
            for each in (order, "LB".replace(order, ""))
        )
    return high << 8 | low


def _unpacked(data: bytes, rawmode: str) -> np.ndarray:
    """Return an image that Pillow unpacks as ``rawmode`` instead of its own."""
    with open_unchecked(data) as image:
        image.tile = [
            tile._replace(
                args=(rawmode, *tile.args[1:]) if isinstance(tile.args, tuple) else rawmode
            )
            for tile in image.tile
        ]
        return loaded(image)
