"""Frames of an MP4 or MOV file that its list of edits hides, as after trimming it on a phone."""

import struct
from collections.abc import Iterator
from pathlib import Path

MAX_BYTES = 2**26  # largest box of tables that is read


def hidden_seconds(path: Path) -> float:
    """Return the duration of the frames that are stored in a file and are not to be shown.

    See the edit list box in ISO/IEC 14496-12. Other files, and files that cannot be parsed, give 0.
    """
    try:
        boxes = list(_boxes(_movie_box(path)))
        for name, track in boxes:
            media = dict(_boxes(dict(_boxes(track)).get(b"mdia", b"")))
            if name == b"trak" and media[b"hdlr"][8:12] == b"vide":
                edits = dict(_boxes(dict(_boxes(track))[b"edts"]))[b"elst"]
                _, per_second = _duration(dict(boxes)[b"mvhd"])
                shown = sum(_segments(edits)) / per_second
                stored, per_second = _duration(media[b"mdhd"])
                return max(stored / per_second - shown, 0.0)
    except (KeyError, struct.error, ZeroDivisionError):  # no such box, or a damaged one
        pass
    return 0.0


def _movie_box(path: Path) -> bytes:
    """Return the content of the box that has all tables of a file."""
    with open(path, "rb") as file:
        while len(head := file.read(8)) == 8:
            size, name = struct.unpack(">I4s", head)
            if size == 1:  # the size follows, with 64 bits
                size = int.from_bytes(file.read(8), "big") - 8
            if name == b"moov" and size <= MAX_BYTES:
                return file.read(size - 8)
            if size < 8:
                break
            file.seek(size - 8, 1)
    return b""


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and content of each box in the content of another."""
    place = 0
    while place + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, place)
        if size < 8:
            return
        yield name, data[place + 8 : place + size]
        place += size


def _duration(header: bytes) -> tuple[int, int]:
    """Return the duration in a box of type mvhd or mdhd, and its units in a second."""
    form = ">20xIQ" if header[:1] == b"\1" else ">12xII"
    per_second, duration = struct.unpack_from(form, header)
    return duration, per_second


def _segments(edits: bytes) -> Iterator[int]:
    """Yield the durations in a box of type elst, in units of the movie."""
    form = ">QqI" if edits[:1] == b"\1" else ">IiI"
    (count,) = struct.unpack_from(">4xI", edits)
    for i in range(count):
        duration, media_time, _ = struct.unpack_from(form, edits, 8 + i * struct.calcsize(form))
        if media_time >= 0:  # else nothing is shown
            yield duration
