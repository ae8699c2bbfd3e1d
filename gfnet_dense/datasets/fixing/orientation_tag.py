"""Taking the orientation tag out of image files without touching their pixels.

The tag of JPEG, PNG, WebP and TIFF lies in a table of the same form, the first directory of a TIFF
(https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf, section 2; EXIF embeds it:
https://www.cipa.jp/std/documents/e/DC-X008-Translation-2019-E.pdf). Its value is set to 1, "as it
is stored"; all other bytes stay, apart from the checksum of a PNG chunk.
"""

import io
import zlib
from collections.abc import Iterator
from typing import Literal

import numpy as np
from PIL import Image

from gfnet_dense.utils.decoding import TURNS
from gfnet_dense.utils.image_headers import ORIENTATION, exif_orientation

# Byte order, by the first bytes of a TIFF
ORDERS: dict[bytes, Literal["little", "big"]] = {b"II*\0": "little", b"MM\0*": "big"}
ENTRY = 12  # bytes of an entry: tag, type, count, value
SHORT = 3  # type of the orientation


def without_orientation(data: bytes) -> bytes | None:
    """Return an image file that is shown as it is stored, None if the tag cannot be taken out.

    Args:
        data: Content of the file.
    """
    changed = bytearray(data)
    for start, end, checksum in _directories(data):
        _reset(changed, start, end)
        if checksum is not None:
            changed[checksum : checksum + 4] = zlib.crc32(changed[start - 4 : end]).to_bytes(
                4, "big"
            )
    result = bytes(changed)
    return result if exif_orientation(result) == 1 and _are_same_pixels(data, result) else None


def _directories(data: bytes) -> Iterator[tuple[int, int, int | None]]:
    """Yield begin and end of each embedded TIFF, and the place of its checksum in a PNG."""
    if data[:4] in ORDERS:
        yield 0, len(data), None
    elif data.startswith(b"\xff\xd8"):
        place = 2
        while data[place : place + 1] == b"\xff" and data[place + 1 : place + 2] != b"\xda":
            end = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
            if data[place + 1] == 0xE1 and data[place + 4 : place + 10] == b"Exif\0\0":
                yield place + 10, end, None
            place = end
    elif data.startswith(b"\x89PNG"):
        place = 8
        while len(head := data[place : place + 8]) == 8:
            end = place + 8 + int.from_bytes(head[:4], "big")
            if head[4:] == b"eXIf":
                yield place + 8, end, end
            place = end + 4
    elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        place = 12
        while len(head := data[place : place + 8]) == 8:
            end = place + 8 + int.from_bytes(head[4:], "little")
            if head[:4] == b"EXIF":
                begin = place + 8 + (6 if data[place + 8 : place + 14] == b"Exif\0\0" else 0)
                yield begin, end, None
            place = end + end % 2


def _reset(data: bytearray, start: int, end: int) -> None:
    """Set the orientation in the first directory of a TIFF to 1, in place."""
    order = ORDERS.get(bytes(data[start : start + 4]))
    if order is None:
        return

    def number(place: int, length: int) -> int:
        return int.from_bytes(data[place : place + length], order)

    directory = start + number(start + 4, 4)
    for i in range(number(directory, 2)):
        place = directory + 2 + i * ENTRY
        if place + ENTRY > end:
            return
        if number(place, 2) == ORIENTATION and number(place + 2, 2) == SHORT:
            data[place + 8 : place + 10] = (1).to_bytes(2, order)


def _are_same_pixels(data: bytes, result: bytes) -> bool:
    with Image.open(io.BytesIO(data)) as image, Image.open(io.BytesIO(result)) as other:
        # When Pillow loads a TIFF, it turns it.
        turn = TURNS[exif_orientation(image) if image.format == "TIFF" else 1]
        return np.array_equal(np.asarray(image), turn(np.asarray(other)))
