"""Reading images with all their bands, as they are stored.

The rule of :mod:`.decoding` makes three colors of 8 bits of every image. Here nothing is converted:
a band is what a sensor has measured.
"""

import io
from pathlib import Path

import numpy as np
from PIL.ImageFile import ImageFile

from .decoding import TURNS, loaded, rawmode_of, sixteen_bits
from .errors import InputError
from .image_headers import ORIENTATION, check_pixels, naming, opened
from .images import read_bytes

MAX_BANDS = 512  # OpenCV's limit of channels, CV_CN_MAX
NUMPY, NUMPY_SUFFIX = b"\x93NUMPY", ".npy"  # first bytes of a file of numpy.save, and its suffix
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # of TIFF and BigTIFF
PLAIN = ("L", "LA", "RGB", "RGBA")  # Pillow's modes whose channels are bands of 8 bits
PHOTOS = ("PNG", "JPEG", "TIFF", "WEBP")  # Pillow's formats of them
WRITE_BANDS = "write its bands as TIFF, or as a NumPy file of (H, W, bands)"


def read_bands(path: str | Path, backend_args: dict | None = None) -> np.ndarray:
    """Read all bands of an image file, see :func:`decode_bands`.

    Args:
        path: The file, or an address for one of mmengine's file backends.
        backend_args: Arguments of mmengine's file backend.

    Raises:
        InputError: If the file is missing or broken, or is of a kind that is not read.
    """
    return decode_bands(read_bytes(path, backend_args=backend_args), str(path))


def decode_bands(data: bytes, path: str) -> np.ndarray:
    """Return all bands of an image with the values and in the order in which they are stored.

    Read are PNG and other images of 8 or 16 bits with one to four channels, NumPy files of (H, W)
    or (H, W, bands), and TIFF of any number of bands, the last by tifffile unless Pillow reads
    them. An image with an orientation tag is turned.

    Args:
        data: Content of the file.
        path: Path of the file, for messages.

    Returns:
        (H, W, bands), uint8 if the file is of 8 bits, else float32.

    Raises:
        InputError: If the file is broken, of a kind that is not read, or has values that are not
            finite, or if a TIFF needs tifffile, which is not installed.
    """
    with naming(path, "image"):
        try:
            bands = _stored(data, path)
        except InputError:
            raise
        except Exception as e:  # NumPy, tifffile and Pillow may raise anything at a broken file
            raise ValueError(str(e) or type(e).__name__) from None
        bands = bands[..., None] if bands.ndim == 2 else bands
        if bands.ndim != 3 or not bands.size or bands.dtype.kind not in "uif":
            raise ValueError(
                f"it is of {bands.dtype} and {bands.shape}, not numbers of (H, W, bands)"
            )
        if bands.shape[2] > MAX_BANDS:
            raise ValueError(f"it has {bands.shape[2]} bands, {MAX_BANDS} are read at most")
        check_pixels(bands.shape[0] * bands.shape[1], len(data), path)
        bands = bands if bands.dtype == np.uint8 else bands.astype(np.float32)
        if bands.dtype != np.uint8 and not np.isfinite(bands).all():
            raise ValueError("it holds values that are not finite: write it without NaN and inf")
        # Arrays of Pillow and of bytes are read-only.
        return np.require(bands, requirements=["C", "W"])


def _stored(data: bytes, path: str) -> np.ndarray:
    """Return the array in a file, of any shape and dtype, as it is stored."""
    if data.startswith(NUMPY):
        return _of_numpy(data)
    if data.startswith(TIFF):
        return _of_tiff(data, path)
    with opened(data, path) as image:
        bands = _of_pillow(image, data)
        if bands is None:
            raise ValueError(f"the {image.format} is of the mode {image.mode}: {WRITE_BANDS}")
        return bands


def _of_numpy(data: bytes) -> np.ndarray:
    """Return the array in a file of numpy.save, which has to hold as much as it announces."""
    file = io.BytesIO(data)
    if np.lib.format.read_magic(file) == (1, 0):
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
    else:
        shape, is_fortran, dtype = np.lib.format.read_array_header_2_0(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, not numbers")
    values = np.frombuffer(data, dtype, offset=file.tell())
    return values.reshape(shape, order="F" if is_fortran else "C")


def _of_pillow(image: ImageFile, data: bytes) -> np.ndarray | None:
    """Return the bands of an opened image, None if Pillow does not give them as they are stored."""
    rawmode = rawmode_of(image)
    if image.format not in PHOTOS:
        return None
    if image.mode in PLAIN and rawmode == image.mode:
        return loaded(image)
    if image.format == "PNG" and rawmode in ("RGB;16B", "RGBA;16B"):
        return sixteen_bits(rawmode, data, alpha=True)
    return loaded(image).astype(np.uint16) if rawmode in ("I;16", "I;16B") else None


def _of_tiff(data: bytes, path: str) -> np.ndarray:
    """Return the bands of a TIFF, read by tifffile, else by Pillow, which knows more compressions.

    Raises:
        InputError: If neither can read it.
    """
    try:
        return _of_tifffile(data, path)
    except ImportError:
        reason = "it is a TIFF of a kind that needs tifffile (pip install tifffile imagecodecs)"
    except InputError:
        raise
    except ValueError as e:  # such as a compression that needs the package imagecodecs
        reason = str(e)
    try:
        with opened(data, path) as image:
            bands = _of_pillow(image, data)
    except InputError:
        raise
    except Exception:  # Pillow may raise anything at a kind of TIFF that it does not know
        bands = None
    if bands is None:
        raise ValueError(reason)
    return bands


def _of_tifffile(data: bytes, path: str) -> np.ndarray:
    import tifffile  # optional: mmdetection brings it, by scikit-image

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        images = [each for each in file.series if not each.keyframe.is_mask]
        sizes = dict(zip(images[0].axes, images[0].shape, strict=True)) if len(images) == 1 else {}
        others = set(sizes) - {"Y", "X"}
        if not {"Y", "X"} <= set(sizes) or len(others) > 1:
            raise ValueError(f"the TIFF is not one image of some bands: {WRITE_BANDS}")
        count = sizes[others.pop()] if others else 1
        check_pixels(sizes["Y"] * sizes["X"], len(data), path)
        if count > MAX_BANDS:
            raise ValueError(f"it has {count} bands, {MAX_BANDS} are read at most")
        bands, axes = images[0].asarray(), images[0].axes
        tag = images[0].keyframe.tags.get(ORIENTATION)
    if bands.ndim == 3:
        bands = np.moveaxis(bands, next(i for i, a in enumerate(axes) if a not in "YX"), 2)
    return TURNS.get(1 if tag is None else tag.value, TURNS[1])(bands)
