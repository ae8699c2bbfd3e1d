import os
import stat

import pytest

from gfnet_dense.utils.atomic_write import atomic_replace, atomic_write


@pytest.fixture
def events(monkeypatch):
    """Record flushes to the disk as (inode, is a folder, size), and renames of files."""
    happened, fsync, replace = [], os.fsync, os.replace

    def flushing(descriptor):
        found = os.fstat(descriptor)
        is_folder = stat.S_ISDIR(found.st_mode)
        happened.append((found.st_ino, is_folder, None if is_folder else found.st_size))
        fsync(descriptor)

    def replacing(*args):
        happened.append("replace")
        replace(*args)

    monkeypatch.setattr(os, "fsync", flushing)
    monkeypatch.setattr(os, "replace", replacing)
    return happened


def check(events, path):
    """Check the order: the complete file is flushed, renamed, then its folder is flushed."""
    file, folder = path.stat(), path.parent.stat()
    assert events == [(file.st_ino, False, 9), "replace", (folder.st_ino, True, None)]


def test_a_file_reaches_the_disk_before_it_has_its_name_and_the_folder_after(tmp_path, events):
    path = tmp_path / "folder" / "file.bin"
    with atomic_write(path) as part:
        part.write_bytes(b"old bytes")
        assert not path.exists() and not events
    check(events, path)
    events.clear()
    part = path.with_name("part")
    part.write_bytes(b"new bytes")
    atomic_replace(part, path)
    check(events, path)
    assert path.read_bytes() == b"new bytes" and [*path.parent.iterdir()] == [path]


def test_after_an_error_the_old_file_stays_and_nothing_else(tmp_path, events):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old bytes")
    with pytest.raises(ZeroDivisionError), atomic_write(path) as part:
        part.write_bytes(b"new")
        raise ZeroDivisionError
    assert not events and path.read_bytes() == b"old bytes" and [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize(
    "name",
    ["x" * 251 + ".jpg", "\u00e4" * 125 + ".jpg", "\U0001f600" * 62 + ".png", "a." + "x" * 253],
    ids=["ascii", "two bytes", "four bytes", "long suffix"],
)
def test_the_longest_names_can_be_written(tmp_path, name):
    """Linux takes names of 255 bytes."""
    assert 250 <= len(os.fsencode(name)) <= 255
    with atomic_write(tmp_path / name) as part:
        assert len(os.fsencode(part.name)) < 40
        part.write_bytes(b"bytes")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_temporary_names_differ_between_writers_of_one_file_and_keep_its_suffix(tmp_path):
    """Processes of two machines may have the same number."""
    path = tmp_path / "file.mp4"
    with atomic_write(path) as first, atomic_write(path) as second:
        assert first != second and {first.suffix, second.suffix} == {".mp4"}
        first.write_bytes(b"1")
        second.write_bytes(b"2")
    assert path.read_bytes() == b"1"
