"""Reading and writing of image files."""

import logging
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
from mmengine import fileio
from mmengine.logging import print_log

from .atomic_write import atomic_write
from .decoding import check_image_range, decode_image, is_dark, likely_range
from .errors import InputError
from .image_headers import FORMATS, MAX_PIXELS, naming

IMAGE_SUFFIXES = {suffix for suffixes in FORMATS.values() for suffix in suffixes}
# Largest number of bytes of an image file: four channels of 32 bits for each of MAX_PIXELS.
MAX_BYTES = 16 * MAX_PIXELS

_dark_images: list[str] = []  # images of which this process has warned: the first one


def read_bytes(path: str | Path, kind: str = "image", backend_args: dict | None = None) -> bytes:
    """Return the content of a file, which is opened once.

    Args:
        path: The file, or an address for one of mmengine's file backends, such as ``s3://``.
        kind: 'image' or 'label map', for messages.
        backend_args: Arguments of mmengine's file backend.

    Raises:
        InputError: If there is no such file, if it is a folder or a pipe, or too large.
    """
    with naming(str(path), kind):
        with suppress(OSError):  # an address is no file, and a missing file is told when it is read
            status = os.stat(path)  # once, since network drives are slow
            if not stat.S_ISREG(status.st_mode):  # reading a pipe might never end
                raise InputError(f"the {kind} {path} is not a file")
            if status.st_size > MAX_BYTES:
                raise InputError(f"{path} is larger than {MAX_BYTES / 2**30:.0f} GiB: cut it")
        return fileio.get(path, backend_args)


def visible_files(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, sorted; hidden ones are left out, as mmsegmentation does."""
    return (path for path in sorted(folder.rglob("*")) if path.name[0] != "." and path.is_file())


def read_image(path: str | Path, image_range: Sequence[float] | None = None) -> np.ndarray:
    """Read an image file as (H, W, 3) uint8 RGB, as :func:`.decoding.decode_image` defines it.

    A warning is logged for the first image of 16 bits that is read almost black.

    Args:
        path: The file.
        image_range: Stored values that become 0 and 255, for files of more than 8 bits per channel:
            ``image_range`` of the model's ``dataset_meta``.

    Raises:
        InputError: If the file is missing, is no image, is not supported, or would fill the memory,
            or if the ``image_range`` is not two numbers.
    """
    low_high = check_image_range(image_range)
    pixels, _, used_bits = decode_image(read_bytes(path), str(path), low_high)
    if image_range is None and used_bits is not None and is_dark(used_bits) and not _dark_images:
        _dark_images.append(str(path))
        print_log(
            f"{path} uses {used_bits} of its 16 bits and is read almost black; a model for such "
            "images is trained with metainfo=dict(image_range="
            f"{likely_range(used_bits)}) of the datasets (said for the first such image alone)",
            logger="current",
            level=logging.WARNING,
        )
    return np.require(pixels, requirements="W")  # arrays of Pillow are read-only


def write_image(image: np.ndarray, path: Path) -> None:
    """Write an image file, completely or not at all.

    Args:
        image: (H, W, 3) RGB or (H, W) gray, uint8.
        path: The file; its suffix decides the format.

    Raises:
        InputError: If the format cannot hold the image: the sides of a JPEG are 65500 at most.
        OSError: If the file cannot be written.
    """
    with atomic_write(path) as part:
        try:
            done, data = cv2.imencode(path.suffix, image[..., ::-1] if image.ndim == 3 else image)
        except cv2.error:  # some versions raise, others return False
            done = False
        if not done:
            raise InputError(
                f"{path} cannot be written: OpenCV has no such format, or it cannot hold an image "
                f"of {image.shape[1]} x {image.shape[0]}; PNG can"
            )
        part.write_bytes(data)  # type: ignore[arg-type]  # typeshed: arrays are buffers since 3.12
