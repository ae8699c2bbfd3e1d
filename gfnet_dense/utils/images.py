"""Reading and writing of image files, with limits on the memory that a file may fill."""

import os
import re
from pathlib import Path

import cv2
import mmcv
import numpy as np
from PIL import Image
from PIL.Image import DecompressionBombError as TooLarge

from .atomic_write import atomic_write
from .errors import InputError

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff"}
# Largest number of pixels of an image: 16384x16384. OpenCV's own limit is four times as large,
# Pillow's two thirds.
MAX_PIXELS = 2**28
# Largest number of pixels for each byte of a file, if the image has more than SMALL_PIXELS. It is
# twice the ratio at which PNG compresses a blank image of one bit per pixel.
MAX_PIXELS_PER_BYTE = 2**14
SMALL_PIXELS = 2**24


def check_header(path: str | Path) -> None:
    """Check from its header that an image file does not fill the memory when it is decoded.

    Files in formats that Pillow does not know pass, as do missing files: their reader raises.

    Raises:
        InputError: If the image has too many pixels, in total or for the size of its file, or if a
            chunk of a PNG is longer than the file.
    """
    try:
        with Image.open(path) as image:
            pixels = image.width * image.height
    except TooLarge as e:
        digits = re.search(r"\d+", str(e))
        assert digits is not None
        pixels = int(digits[0])
    except FileNotFoundError:
        return
    except Exception:  # Pillow may raise anything at a broken header
        pixels = 0
    if pixels > MAX_PIXELS:
        raise InputError(
            f"{path} unpacks to {pixels / 1e6:.0f} million pixels, at most "
            f"{MAX_PIXELS / 1e6:.0f} are read: cut it into tiles"
        )
    num_bytes = os.path.getsize(path)
    if pixels > max(MAX_PIXELS_PER_BYTE * num_bytes, SMALL_PIXELS):
        raise InputError(
            f"{path}, of {num_bytes} bytes, would unpack to {pixels / 1e6:.0f} million pixels: no "
            "image is that empty, the file is damaged or made to fill the memory"
        )
    _check_png(path, num_bytes)


def _check_png(path: str | Path, num_bytes: int) -> None:
    """Raise InputError for a PNG with a chunk that is longer than the file.

    OpenCV would allocate the memory of the chunk before it reads it, up to 4 GB
    (https://www.w3.org/TR/png-3/#5Chunk-layout).
    """
    with open(path, "rb") as file:
        if file.read(8) != b"\x89PNG\r\n\x1a\n":
            return
        while len(head := file.read(8)) == 8:
            end = file.tell() + int.from_bytes(head[:4], "big")
            if end > num_bytes:
                raise InputError(f"{path} is damaged or truncated: a part is longer than the file")
            if head[4:] == b"IEND":
                break
            file.seek(end + 4)  # after the checksum


def write_image(image: np.ndarray, path: Path) -> None:
    """Write an image file, completely or not at all.

    Args:
        image: (H, W, 3) RGB or (H, W) gray, uint8.
        path: The file; its suffix decides the format.

    Raises:
        OSError: If the file cannot be written.
    """
    with atomic_write(path) as part:
        found, data = cv2.imencode(path.suffix, image[..., ::-1] if image.ndim == 3 else image)
        assert found, path.suffix
        part.write_bytes(data)  # type: ignore[arg-type]  # typeshed: arrays are buffers since 3.12


def read_image(path: str | Path) -> np.ndarray:
    """Read an image file with OpenCV as (H, W, 3) uint8 RGB, rotated by its EXIF orientation.

    OpenCV reduces 16 bits to 8, repeats gray as three channels, and drops transparency.

    Raises:
        InputError: If the file is missing, is no image, or would fill the memory.
    """
    if not Path(path).is_file():
        raise InputError(f"the image {path} does not exist or is not a file")
    check_header(path)
    try:
        image = mmcv.imread(path, channel_order="rgb")
    except cv2.error:  # an empty file, or more pixels than OpenCV accepts
        image = None
    if image is None:
        raise InputError(f"{path} is no image that OpenCV can read, or a damaged one")
    return image
