"""Unique names of results, and what happens where one of them cannot be written."""

import errno
import os
from pathlib import Path

import pytest

from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.results import Writing, make_writable, unique_names


@pytest.mark.parametrize(
    "paths, expected",
    [
        (["a/x.jpg", "a/y.png"], ["x", "y"]),
        (["a/x.jpg", "a/x.png", "a/y.png"], ["x.jpg", "x.png", "y"]),
        (["a/x.jpg", "a/x.png", "a/x.jpg.png"], ["x.jpg", "x.png", "x.jpg.png"]),
        (["a/x.jpg", "b/x.jpg", "b/y.jpg"], ["a/x", "b/x", "b/y"]),
        (["a/x.jpg", "b/x.jpg", "b/x.png"], ["a/x", "b/x.jpg", "b/x.png"]),
        (["x.jpg", "x/x.jpg"], ["x", "x/x"]),
        (["a/../x.jpg", "../x.jpg"], ["here/x", "x"]),
        (["a/.jpg", "a/x.", "a/x ", "a/x.."], [".jpg", "x.", "x ", "x.."]),
        ([], []),
    ],
)
def test_names_are_stems_and_as_long_as_they_must_be(paths, expected, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    paths = [Path(path) for path in paths]
    names = unique_names([Path(path.name) for path in paths], paths)
    assert [str(name) for name in names] == expected


def test_names_in_folders_are_kept_where_they_are_unique():
    paths = [Path("/data/a/1.png"), Path("/data/b/1.png")]
    names = [Path("a/1.png"), Path("b/1.png")]
    assert unique_names(names, paths) == [Path("a/1"), Path("b/1")]
    names = [Path("deep/1.png"), Path("deep/1.png")]  # of two folders that were given
    assert unique_names(names, paths) == [Path("a/1"), Path("b/1")]


def test_a_result_that_cannot_be_written_is_noted_and_others_follow(tmp_path):
    writing = Writing()
    for name in ("a", "x" * 300, "b"):
        with writing.of(name[:3]):
            (tmp_path / name).write_text("result")
    assert writing.count == 2 and (tmp_path / "b").exists()
    assert writing.failures == ["the results of xxx could not be written: File name too long"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_a_full_disk_ends_the_writing(code):
    writing = Writing()
    with writing.of("a"):
        pass
    with pytest.raises(InputError, match="results of b could not .*; 1 were written before, whole"):
        with writing.of("b"):
            raise OSError(code, os.strerror(code))


def test_defects_are_raised():
    for error in (OSError("no code"), ValueError()):
        with pytest.raises(type(error)), Writing().of("a"):
            raise error


def test_a_folder_that_cannot_be_written_to_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "deep", Path("/proc/results")):
        with pytest.raises(InputError, match=f"results cannot be written to {folder}: "):
            make_writable(folder)
    make_writable(tmp_path / "new" / "deep")
    assert not list((tmp_path / "new" / "deep").iterdir())
