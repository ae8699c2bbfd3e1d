"""Writers of image files of all kinds, byte by byte where no library writes the kind."""

import io
import struct
import sys
import zlib

import numpy as np
from PIL import Image

# By EXIF orientation: where the first row and the first column of the stored image belong
# (https://exif.org/Exif2-2.PDF, page 18).
SIDES = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}


_watched: dict[str, int] = {}  # how often each file was opened


def _count(event, args):
    if event == "open" and str(args[0]) in _watched:
        _watched[str(args[0])] += 1


sys.addaudithook(_count)  # it cannot be removed


def count_opens(paths, call):
    """Return how often Python opens each of some files during a call."""
    _watched.update(dict.fromkeys(map(str, paths), 0))
    call()
    return [_watched.pop(str(path)) for path in paths]


def shown(stored, orientation):
    """Return a stored array (H, W, ...) as it is shown, pixel by pixel."""
    rows, columns = SIDES[orientation]
    H, W = stored.shape[:2]
    swaps = rows in ("left", "right")
    result = np.zeros((W, H, *stored.shape[2:]) if swaps else stored.shape, stored.dtype)
    for i in range(H):
        for j in range(W):
            row = i if rows in ("top", "left") else H - 1 - i
            column = j if columns in ("top", "left") else W - 1 - j
            result[(column, row) if swaps else (row, column)] = stored[i, j]
    return result


def pillow(image, kind, **options):
    """Return the file of an array or an image, written by Pillow."""
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def png(values, bits=None, orientation=None, gray_alpha=False):
    """Return a PNG of gray (H, W) or of channels (H, W, 2..4), of 1, 2, 4, 8 or 16 bits."""
    bits = bits or 8 * values.dtype.itemsize
    H, W = values.shape[:2]
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[1 if values.ndim == 2 else values.shape[2]]
    rows = values.astype(">u2" if bits == 16 else np.uint8).reshape(H, -1)
    if bits < 8:
        each = (rows[..., None] >> np.arange(bits - 1, -1, -1, dtype=np.uint8)) & 1
        rows = np.packbits(each.reshape(H, -1), axis=1)
    content = b"".join(b"\0" + row.tobytes() for row in rows)

    def chunk(name, data):
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    chunks = [chunk(b"IHDR", struct.pack(">IIBBBBB", W, H, bits, kind, 0, 0, 0))]
    if orientation:
        chunks.append(chunk(b"eXIf", exif(orientation).removeprefix(b"Exif\0\0")))
    chunks += [chunk(b"IDAT", zlib.compress(content)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def tiff(values, order="<", compress=False, planar=False, bits=None, **tags):
    """Return a TIFF of gray (H, W) or of channels (H, W, C), or of several pages.

    Args:
        values: An array, or a list of pairs of an array and its tags.
        order: Byte order, '<' or '>'.
        compress: Whether to compress by deflate.
        planar: Whether channels are stored one after the other.
        bits: Bits of a value, if they are not those of the dtype: 12.
        tags: Values of further tags by number, as ``t262=0``; a tuple is of shorts.
    """
    pages = values if isinstance(values, list) else [(values, tags)]
    out = bytearray(struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, 0))
    link = 4
    for array, more in pages:
        H, W = array.shape[:2]
        channels = 1 if array.ndim == 2 else array.shape[2]
        data = array.astype(array.dtype.newbyteorder(order))
        planes = [data[..., c] for c in range(channels)] if planar else [data]
        strips = [plane.tobytes() for plane in planes]
        if bits == 12:
            pairs = array.reshape(-1, 2).astype(np.uint32)
            packed = pairs[:, 0] << 12 | pairs[:, 1]
            strips = [b"".join(int(each).to_bytes(3, "big") for each in packed)]
        strips = [zlib.compress(strip) if compress else strip for strip in strips]
        places = []
        for strip in strips:
            places.append(len(out))
            out += strip + b"\0" * (len(strip) % 2)
        depth, kind = bits or 8 * array.dtype.itemsize, dict(u=1, i=2, f=3)[array.dtype.kind]
        entries = {
            256: W, 257: H, 258: (depth,) * channels, 259: 8 if compress else 1,
            262: 2 if channels >= 3 else 1, 273: places, 277: channels, 278: H,
            279: [len(strip) for strip in strips], 284: 2 if planar else 1,
            339: (kind,) * channels,
        }  # fmt: skip
        entries |= {int(name[1:]): value for name, value in more.items()}
        fields = b""
        for tag, value in sorted(entries.items()):
            longs = isinstance(value, list)
            numbers = list(value) if isinstance(value, (list, tuple)) else [value]
            content = struct.pack(f"{order}{len(numbers)}{'I' if longs else 'H'}", *numbers)
            if len(content) > 4:
                place = len(out)
                out += content + b"\0" * (len(content) % 2)
                content = struct.pack(order + "I", place)
            head = struct.pack(order + "HHI", tag, 4 if longs else 3, len(numbers))
            fields += head + content.ljust(4, b"\0")
        out[link : link + 4] = struct.pack(order + "I", len(out))
        out += struct.pack(order + "H", len(entries)) + fields
        link = len(out)
        out += b"\0\0\0\0"
    return bytes(out)


def netpbm(values, largest, plain=False):
    """Return a PGM (H, W) or PPM (H, W, 3), of two bytes a value if its largest is above 255."""
    H, W = values.shape[:2]
    number = (2 if plain else 5) + (values.ndim == 3)
    head = f"P{number}\n# a comment\n{W} {H}\n{largest}\n".encode()
    if plain:
        text = " ".join(map(str, values.ravel()))
        return head + b"# another\n" + text.encode() + b"\n"
    return head + values.astype(">u2" if largest > 255 else np.uint8).tobytes()
