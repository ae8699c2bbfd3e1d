"""Lists of edits in MP4 files, in both versions of their boxes, and files that are none."""

import struct

import numpy as np
import pytest

from gfnet_dense.apis.mp4_edits import hidden_seconds


def box(name, *contents):
    content = b"".join(contents)
    return struct.pack(">I4s", 8 + len(content), name) + content


def header(version, per_second, duration):
    if version:
        return b"\1\0\0\0" + bytes(16) + struct.pack(">IQ", per_second, duration)
    return bytes(12) + struct.pack(">II", per_second, duration)


def movie(edits, version=0, handler=b"vide", before=b""):
    """A file of 10 seconds in ticks of 1/600 s, with edits in ms: (duration, start or -1)."""
    form = ">QqI" if version else ">IiI"
    entries = b"".join(struct.pack(form, duration, start, 1 << 16) for duration, start in edits)
    table = bytes([version, 0, 0, 0]) + struct.pack(">I", len(edits)) + entries
    media = box(b"mdia", box(b"mdhd", header(version, 600, 6000)), box(b"hdlr", bytes(8) + handler))
    track = box(b"trak", box(b"edts", box(b"elst", table)), media)
    tables = box(b"moov", box(b"mvhd", header(version, 1000, 4000)), track)
    return box(b"ftyp", b"isom") + before + tables


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize(
    "edits, hidden",
    [
        ([(10000, 0)], 0),
        ([(4000, 600)], 6),
        ([(1000, -1), (4000, 600)], 6),  # begins with nothing for a second
        ([(2000, 0), (3000, 3000)], 5),
        ([(10000, 0), (10000, 0)], 0),  # shown twice
        ([], 10),
    ],
)
def test_what_is_hidden_is_what_no_edit_shows(tmp_path, version, edits, hidden):
    (tmp_path / "film.mp4").write_bytes(movie(edits, version))
    assert hidden_seconds(tmp_path / "film.mp4") == pytest.approx(hidden)


def test_a_large_box_before_the_tables_is_not_read(tmp_path):
    large = struct.pack(">I4sQ", 1, b"mdat", 16 + 100) + bytes(100)  # with a size of 64 bits
    (tmp_path / "film.mp4").write_bytes(movie([(4000, 0)], before=large))
    assert hidden_seconds(tmp_path / "film.mp4") == pytest.approx(6)


def test_files_without_a_list_of_edits_hide_nothing(tmp_path):
    path = tmp_path / "film.mp4"
    for data in (b"", b"text", bytes(100), movie([(4000, 0)], handler=b"soun"), box(b"moov")):
        path.write_bytes(data)
        assert hidden_seconds(path) == 0


def test_damaged_files_raise_nothing(tmp_path):
    path = tmp_path / "film.mp4"
    random = np.random.default_rng(0)
    for _ in range(500):
        data = bytearray(movie([(4000, 0)]))
        for place in random.integers(0, len(data), 3):
            data[place] = random.integers(0, 256)
        path.write_bytes(data[: random.integers(1, len(data))] if random.random() < 0.3 else data)
        assert hidden_seconds(path) >= 0
