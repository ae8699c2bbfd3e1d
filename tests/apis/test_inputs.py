"""Everything that can be given to infer.py, in one folder, and what becomes of it."""

import errno
import os
from pathlib import Path

import pytest

from gfnet_dense.apis.inputs import find_inputs
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.results import mark_results

FILES = """
photos/1.png photos/2.JPG photos/deep/1.png photos/notes.txt photos/b.heic photos/README
photos/film.MP4 photos/.hidden.png photos/.thumbnails/1.png photos/__MACOSX/._1.png
many/a.txt many/b.txt many/c.txt many/d.txt many/e.png
same/1.png same/1.jpg same/1.mp4 same/1.jpg.png
earlier/1.png other/1.png other/3.png odd[1]/1.png odd1/2.png empty/notes.txt
photo[1].png photo1.png plain.dat *.png loop/1.png links/real.png
""".split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("inputs")
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    for results in ("overlays", "labels"):
        mark_results(root / "earlier" / "out" / results)
        (root / "earlier" / "out" / results / "1.png").touch()
    (root / "void").mkdir()
    os.mkfifo(root / "links" / "pipe.png")
    for link, target in [
        ("loop/self", "."), ("links/broken.png", "nothing.png"), ("links/again.png", "real.png"),
        ("links/deep", "../photos/deep"), ("links/twice", "../photos/deep"), ("dangling.png", "no"),
    ]:  # fmt: skip
        (root / link).symlink_to(target)
    return root


NOTHING_KNOWN = "holds no images or videos that are known by their suffix"
NO_MATCH = "is no image, folder, pattern of files, or video"
NO_FILE = "is a link to nothing, or no regular file"
# Inputs, names of the results, and what is left out or why all is refused
INPUTS = [
    ("an image", "plain.dat", "plain", ""),
    ("a folder", "photos", "1 2 deep/1 film",
     "photos: left out: 3 hidden (.thumbnails/, __MACOSX/, .hidden.png), "
     "1 without suffix (README), 1 .heic (b.heic), 1 .txt (notes.txt)"),
    ("a folder, with a slash", "photos/deep/", "1", ""),
    ("many files that are no images", "many", "e",
     "many: left out: 4 .txt (a.txt, b.txt, c.txt, ...)"),
    ("a folder without images", "empty", None,
     f"empty {NOTHING_KNOWN}; left out: 1 .txt (notes.txt)"),
    ("an empty folder", "void", None, f"void {NOTHING_KNOWN}"),
    ("nothing", "", None, "an input is empty: give an image, a video, a folder or a pattern"),
    ("a missing file", "no.png", None, f"no.png {NO_MATCH}"),
    ("a broken link", "dangling.png", None, f"dangling.png {NO_FILE}"),
    ("a pipe", "links/pipe.png", None, f"links/pipe.png {NO_FILE}"),
    ("a file twice", "photos/1.png ./photos/1.png photos/deep/../1.png", "1", ""),
    ("a file and its folder", "photos/deep/1.png photos/deep", "1", ""),
    ("images and a video of one stem", "same", "1.jpg 1.jpg.png 1.mp4 1.png", ""),
    ("one name in two folders", "photos/1.png other", "photos/1 other/1 other/3", ""),
    ("two folders with one name", "other odd[1] odd1", "other/1 other/3 odd[1]/1 odd1/2", ""),
    ("results of an earlier run in it", "earlier", "1",
     "earlier: left out: 2 with results of an earlier run (out/labels/, out/overlays/)"),
    ("results of an earlier run themselves", "earlier/out/labels", "1", ""),
    ("a link to itself in it", "loop", "1",
     "loop: left out: 1 linked to a folder that is read anyway (self/)"),
    ("links in it", "links", "again deep/1 real",
     "links: left out: 2 no regular file (broken.png, pipe.png), "
     "1 linked to a folder that is read anyway (twice/)"),
    ("a pattern", "photos/*.png", "1", ""),
    ("a pattern of all files", "other/*", "1 3", ""),
    ("a pattern of files and folders", "photos/[1d]*", "1 deep/1", ""),
    ("a pattern of all depths", "photos/**/*.png", "1 deep/1", ""),
    ("a pattern that matches nothing", "photos/*.gif", None, f"photos/*.gif {NO_MATCH}"),
    ("a pattern in a folder with brackets", "odd[1]/*.png", "1", ""),
    ("a file with brackets", "photo[1].png", "photo[1]", ""),
    ("a pattern with brackets", "photo[12].png", "photo1", ""),
    ("a file with the name of a pattern", "*.png", "*", ""),
    ("a home folder", "~/other", "1 3", ""),
]  # fmt: skip


def test_what_is_left_out_of_inputs_is_said(folder, monkeypatch, check_table):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder))
    rows = [["given", "as", "results", "what is said"]]
    for given, text, names, said in INPUTS:
        try:
            inputs = find_inputs(text.split() or [""])
            found = " ".join(str(file.name) for file in inputs.files), "; ".join(inputs.left_out)
            assert not inputs.unreadable
        except InputError as e:
            found = None, str(e)
        assert found == (names, said), given
        rows.append([given, text or "''", names or "refused", said or "nothing"])
    check_table("inputs of infer", rows)


def test_a_subfolder_that_cannot_be_read_is_said(tmp_path):
    """Its path is too long, which holds for the administrator as well."""
    (tmp_path / "1.png").touch()
    deep = os.open(tmp_path, os.O_RDONLY)
    for _ in range(18):  # a path of more than 4096 bytes
        os.mkdir("x" * 250, dir_fd=deep)
        deep, above = os.open("x" * 250, os.O_RDONLY, dir_fd=deep), deep
        os.close(above)
    os.close(os.open("2.png", os.O_CREAT, dir_fd=deep))
    os.close(deep)
    inputs = find_inputs([str(tmp_path)])
    assert [str(file.name) for file in inputs.files] == ["1"]
    (sentence,) = inputs.unreadable
    assert sentence.endswith(f"could not be read: {os.strerror(errno.ENAMETOOLONG)}")


@pytest.mark.parametrize(
    "name",
    ["a\nb", "a b ", "-v", "#1 50%d", "\u00e9\U0001f600", os.fsdecode(b"\xff"), "a'\"`$x", "x."],
)
def test_names_of_all_kinds_are_found_in_a_folder_and_by_themselves(tmp_path, name):
    (tmp_path / f"{name}.png").touch()
    for text in (tmp_path, tmp_path / f"{name}.png"):
        (file,) = find_inputs([str(text)]).files
        assert file.path == tmp_path / f"{name}.png" and file.name == Path(name)


def test_each_folder_of_a_web_of_links_is_read_once(tmp_path):
    """Ten folders, each with a link to all: followed without end, there were 10! ways."""
    for i in range(10):
        (tmp_path / f"{i}").mkdir()
        (tmp_path / f"{i}" / "x.png").touch()
        for j in range(10):
            (tmp_path / f"{i}" / f"to{j}").symlink_to(f"../{j}")
    assert len(find_inputs([str(tmp_path)]).files) == 10
