"""Reading and writing image files, with a limit on the memory that a file may ask for."""

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
# Of one image: 16384x16384. OpenCV's own limit is four times that, Pillow's two thirds.
MAX_PIXELS = 2**28
# Above some megapixels, of a byte of the file: twice what PNG makes of a blank image of one bit.
MAX_PIXELS_PER_BYTE = 2**14


def check_header(path: str | Path) -> None:
    """Raise InputError for an image that would fill the memory, whose file may be small; reads the
    headers only, and takes what Pillow does not know."""
    try:
        with Image.open(path) as image:
            pixels = image.width * image.height
    except TooLarge as e:
        pixels = int(re.search(r"\d+", str(e))[0])
    except FileNotFoundError:
        return  # told by who reads it
    except Exception:  # whatever a broken header makes Pillow raise
        pixels = 0
    if pixels > MAX_PIXELS:
        raise InputError(
            f"{path} unpacks to {pixels / 1e6:.0f} million pixels, at most "
            f"{MAX_PIXELS / 1e6:.0f} are read: cut it into tiles"
        )
    num_bytes = os.path.getsize(path)
    if pixels > max(MAX_PIXELS_PER_BYTE * num_bytes, 2**24):
        raise InputError(
            f"{path}, of {num_bytes} bytes, would unpack to {pixels / 1e6:.0f} million pixels: no "
            "image is that empty, the file is damaged or made to fill the memory"
        )
    _check_png(path, num_bytes)


def _check_png(path: str | Path, num_bytes: int) -> None:
    """Raise InputError for a PNG with a part that is longer than the file: OpenCV would take the
    memory for it first, up to 4 GB (https://www.w3.org/TR/png-3/#5Chunk-layout)."""
    with open(path, "rb") as file:
        if file.read(8) != b"\x89PNG\r\n\x1a\n":
            return
        while len(head := file.read(8)) == 8:
            end = file.tell() + int.from_bytes(head[:4], "big")
            if end > num_bytes:
                raise InputError(f"{path} is damaged or truncated: a part is longer than the file")
            if head[4:] == b"IEND":
                break
            file.seek(end + 4)  # behind the checksum


def write_image(image: np.ndarray, path: Path) -> None:
    """Write an image, (H, W, 3) RGB or (H, W), in the format of the suffix, whole or not at all.

    Raises:
        OSError: If it cannot be written.
    """
    with atomic_write(path) as part:
        found, data = cv2.imencode(path.suffix, image[..., ::-1] if image.ndim == 3 else image)
        assert found, path.suffix
        part.write_bytes(data)


def read_image(path: str | Path) -> np.ndarray:
    """Return an image file as (H, W, 3), uint8, RGB, upright as its EXIF orientation says.

    What OpenCV reads: 16 bits are reduced to 8, gray becomes three channels, transparency is left
    out.

    Raises:
        InputError: If there is no such file, or it is no image.
    """
    if not Path(path).is_file():
        raise InputError(f"the image {path} does not exist or is not a file")
    check_header(path)
    try:
        image = mmcv.imread(path, channel_order="rgb")
    except cv2.error:  # of more pixels than OpenCV takes, or an empty file
        image = None
    if image is None:
        raise InputError(f"{path} is no image that OpenCV can read, or a damaged one")
    return image
