"""What the header of an image file tells: its format, limits on its memory, and its orientation."""

import io
import re
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock

import cv2
from PIL import Image, UnidentifiedImageError
from PIL.Image import DecompressionBombError as TooLarge
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from .errors import InputError
from .users_code import places_in_users_code

# Formats that are read, and the suffixes of their files; the content decides, not the suffix.
# Pillow knows more formats, some of which run other programs.
FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "AVIF": (".avif",),
    "DIB": (".dib",),
    "QOI": (".qoi",),
    "SUN": (".ras",),
    "TGA": (".tga",),  # the last one, since it has no signature
}
# First bytes of formats that are not read, for messages.
SIGNATURES = {
    rb"....ftyp(heic|heix|hevc|heim|heis|mif1|msf1)": "HEIC",
    rb"v/1\x01": "OpenEXR",
    rb"\s*<(\?xml|svg|!DOCTYPE svg)": "SVG",
    rb"%PDF": "PDF",
    rb"8BPS": "Photoshop",
    rb"SIMPLE  =": "FITS",
    rb".{128}DICM": "DICOM",
    rb"#\?(RADIANCE|RGBE)": "Radiance HDR",
    rb"\x93NUMPY": "NumPy",
}
# Largest number of pixels of an image: 16384x16384. OpenCV's own limit is four times as large,
# Pillow's two thirds.
MAX_PIXELS = 2**28
# Largest number of pixels for each byte of a file, if the image has more than SMALL_PIXELS. It is
# twice the ratio at which PNG compresses a blank image of one bit per pixel.
MAX_PIXELS_PER_BYTE = 2**14
SMALL_PIXELS = 2**24
# Tags of TIFF, https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf
SUBFILE_TYPE, BITS, PHOTOMETRIC, SAMPLES = 254, 258, 262, 277
PLANAR, EXTRA_SAMPLES, SAMPLE_FORMAT = 284, 338, 339
REDUCED, MASK = 1, 4  # bits of SUBFILE_TYPE
WHITE_IS_ZERO, APART, SIGNED = 0, 2, 2  # values of PHOTOMETRIC, PLANAR, SAMPLE_FORMAT
ORIENTATION = 0x0112  # tag of EXIF and TIFF

PNG = b"\x89PNG\r\n\x1a\n"  # first bytes of a PNG
PNG_EXIF = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")  # chunks with an orientation
SEVERAL_PAGES = "it has {} pages: write the one to use as a file of its own"

_limit_lock = Lock()  # Pillow's limit of pixels is a global variable


@contextmanager
def opened(data: bytes, path: str) -> Iterator[ImageFile]:
    """Open an image with Pillow for the ``with`` block, after checks of its header.

    Args:
        data: Content of the file.
        path: Path of the file, for messages.

    Raises:
        InputError: If the file would fill the memory.
        ValueError: If it is of a format or kind that is not read, or has several pages; Pillow
            raises other types for broken files. :func:`naming` adds the path.
    """
    with ExitStack() as stack:
        try:
            image = open_unchecked(data)
        except TooLarge as e:  # by Pillow's limit; a TIFF checks it again when it is loaded
            check_pixels(_pixels_in(e), len(data), path)
            stack.enter_context(_larger_limit())
            image = open_unchecked(data)
        except UnidentifiedImageError:
            raise ValueError(_why_unknown(data)) from None
        stack.enter_context(image)
        check_pixels(image.width * image.height, len(data), path)
        check_png(data, path)
        if isinstance(image, TiffImageFile):
            _check_tiff(image)
        elif getattr(image, "is_animated", False) and image.format != "MPO":  # photos of phones
            raise ValueError(SEVERAL_PAGES.format(image.n_frames))  # type: ignore[attr-defined]
        if image.format == "JPEG2000":
            _check_jpeg2000(data, image)
        yield image


def open_unchecked(data: bytes) -> ImageFile:
    """Open an image of :data:`FORMATS` with Pillow."""
    return Image.open(io.BytesIO(data), formats=list(FORMATS))


def check_header(data: bytes, path: str) -> None:
    """Check that an image file of any format does not fill the memory when it is decoded.

    Files in formats that Pillow does not know pass: their reader raises.

    Raises:
        InputError: If the image has too many pixels, in total or for the size of its file, or if a
            chunk of a PNG is longer than the file.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            pixels = image.width * image.height
    except TooLarge as e:
        pixels = _pixels_in(e)
    except Exception:  # Pillow may raise anything at a broken header
        pixels = 0
    check_pixels(pixels, len(data), path)
    check_png(data, path)


def check_pixels(pixels: int, num_bytes: int, path: str) -> None:
    """Raise InputError if an image has too many pixels, in total or for the size of its file."""
    if pixels > MAX_PIXELS:
        raise InputError(
            f"{path} unpacks to {pixels / 1e6:.0f} million pixels, at most "
            f"{MAX_PIXELS / 1e6:.0f} are read: cut it into tiles"
        )
    if pixels > max(MAX_PIXELS_PER_BYTE * num_bytes, SMALL_PIXELS):
        raise InputError(
            f"{path}, of {num_bytes} bytes, would unpack to {pixels / 1e6:.0f} million pixels: no "
            "image is that empty, the file is damaged or made to fill the memory"
        )


def check_png(data: bytes, path: str) -> None:
    """Raise InputError for a PNG with a chunk that is longer than the file.

    OpenCV would allocate the memory of the chunk before it reads it, up to 4 GB
    (https://www.w3.org/TR/png-3/#5Chunk-layout).
    """
    if not data.startswith(PNG):
        return
    place = 8
    while len(head := data[place : place + 8]) == 8:
        end = place + 8 + int.from_bytes(head[:4], "big")
        if end > len(data):
            raise InputError(f"{path} is damaged or truncated: a part is longer than the file")
        if head[4:] == b"IEND":
            break
        place = end + 4  # after the checksum


def exif_orientation(image: bytes | Image.Image) -> int:
    """Return the orientation tag of an image, 1..8; 1 if it has none, or a broken one.

    Args:
        image: Content of a file, or an image that Pillow has opened. When Pillow loads a TIFF, it
            turns it, and the tag is gone.
    """
    try:
        if isinstance(image, bytes):
            if image.startswith(PNG) and not any(name in image for name in PNG_EXIF):
                return 1  # Pillow would decode all of the image to look for a tag behind it
            image = open_unchecked(image)
        orientation = image.getexif().get(ORIENTATION, 1)
    except Exception:  # Pillow may raise anything at broken tags; viewers do not turn such images
        return 1
    return orientation if orientation in range(2, 9) else 1


def depth_of_jpeg2000(data: bytes) -> int:
    """Return the bits of the first channel of a JPEG 2000 file, negative if it is signed.

    Source: marker SIZ in annex A of https://www.itu.int/rec/T-REC-T.800.
    """
    depth = data[data.index(b"\xff\x4f\xff\x51") + 42]
    return -(depth - 127) if depth > 127 else depth + 1


@contextmanager
def naming(path: str, kind: str) -> Iterator[None]:
    """Turn the errors of reading an image in the ``with`` block into an InputError.

    Errors in code of the user's own stay as they are.

    Args:
        path: The file, for the message.
        kind: 'image' or 'label map', for the message.
    """
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"the {kind} {path} does not exist") from None
    except UnidentifiedImageError:
        raise InputError(f"{path} cannot be read as {kind}: it is no image file") from None
    # Pillow raises many types for broken files, mmcv an AssertionError if OpenCV reads no image,
    # mmsegmentation a TypeError for a label map of one pixel.
    except (
        OSError, ArithmeticError, AssertionError, EOFError, LookupError, RuntimeError, SyntaxError,
        TypeError, ValueError, TooLarge, cv2.error, struct.error,
    ) as e:  # fmt: skip
        if places_in_users_code(e):  # a transform of the user's own
            raise
        reason = " ".join(str(e).split()) or type(e).__name__
        raise InputError(f"{path} cannot be read as {kind}: {reason}") from None


def _pixels_in(error: TooLarge) -> int:
    digits = re.search(r"\d+", str(error))
    assert digits is not None
    return int(digits[0])


@contextmanager
def _larger_limit() -> Iterator[None]:
    """Raise Pillow's limit of pixels to ours in the ``with`` block."""
    with _limit_lock:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, MAX_PIXELS
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _why_unknown(data: bytes) -> str:
    """Return why a file is not read, as far as its first bytes tell."""
    for signature, name in SIGNATURES.items():
        if re.match(signature, data[:256], re.DOTALL):
            return f"it is a {name} file, convert it to PNG or JPEG"
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return (
            "it is a TIFF of a kind that Pillow does not read, such as with more than 4 channels "
            "or floats of 16 or 64 bits: write it with 1 or 3 channels of 8 or 16 bits"
        )
    return "it is no image file"


def _check_tiff(image: TiffImageFile) -> None:
    """Raise ValueError for a TIFF of which Pillow would read a part only, or with other values."""
    tags = image.tag_v2
    samples, extra, bits = tags.get(SAMPLES, 1), tags.get(EXTRA_SAMPLES, ()), tags.get(BITS, (1,))
    if samples > 4 or (samples == 2 and extra and extra[0] == 0):
        raise ValueError(f"it has {samples} channels: write it with 1 or 3 channels")
    if max(bits) > 8 and samples > 1 and tags.get(PLANAR) == APART:
        raise ValueError("its channels of 16 bits are stored apart: write them interleaved")
    if max(bits) == 8 and SIGNED in tags.get(SAMPLE_FORMAT, ()):
        raise ValueError("its 8 bits are signed: write it unsigned")
    if tags.get(SUBFILE_TYPE, 0) & REDUCED:
        raise ValueError("its first page is a preview, as in raw photos: develop it to PNG")
    if image.is_animated:
        size = image.size
        for i in range(1, image.n_frames):  # smaller pages are overviews or previews of the first
            image.seek(i)
            if image.width >= size[0] and image.height >= size[1] and not _is_mask(image):
                raise ValueError(SEVERAL_PAGES.format(image.n_frames))
        image.seek(0)


def _is_mask(image: TiffImageFile) -> bool:
    return bool(image.tag_v2.get(SUBFILE_TYPE, 0) & MASK)


def _check_jpeg2000(data: bytes, image: Image.Image) -> None:
    """Raise ValueError for a depth that Pillow rounds to 8 bits or shifts."""
    depth = depth_of_jpeg2000(data)
    if depth not in (range(9, 17) if image.mode == "I;16" else (8,)):
        raise ValueError(f"it is a JPEG 2000 of {abs(depth)} bits per channel: write it as PNG")
