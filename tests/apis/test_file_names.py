"""Images with names of all kinds: none may stop the others."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from gfnet_dense.apis.inputs import find_inputs
from gfnet_dense.apis.predict_files import PredictOptions, predict_files
from tests.apis.red_segmentor import RedSegmentor

TOO_LONG = "could not be written: File name too long"
# Kind of the name, files, names of the results, what is said
NAMES = [
    ("255 bytes", ["x" * 251 + ".jpg"], ["x" * 251], ""),
    ("255 bytes, characters of 2 bytes", ["\u00e4" * 125 + "x.png"], ["\u00e4" * 125 + "x"], ""),
    ("255 bytes, characters of 4 bytes", ["\U0001f600" * 62 + "xxx.png"],
     ["\U0001f600" * 62 + "xxx"], ""),
    ("255 bytes, the suffix of the result is longer", ["x" * 253 + ".x"], [], TOO_LONG),
    ("255 bytes, two of one stem", ["x" * 251 + ".jpg", "x" * 251 + ".png"], [], TOO_LONG),
    ("dots and spaces at the end", ["a..png", "a .png", "a. .png"], ["a ", "a.", "a. "], ""),
    ("hidden, given by itself", [".a.png"], [".a"], ""),
    ("a suffix alone", [".png"], [".png"], ""),
    ("line break, tab", ["a\nb.png", "a\tb.png"], ["a\tb", "a\nb"], ""),
    ("quotes, backslash, $", ["a'\"`\\$x.png"], ["a'\"`\\$x"], ""),
    ("not UTF-8", [os.fsdecode(b"a\xff.png")], [os.fsdecode(b"a\xff")], ""),
    ("begins with a minus", ["--help.png"], ["--help"], ""),
    ("#, %, ?, *, [1]", ["#1.png", "50%.png", "%s.png", "a?*[1].png"],
     ["#1", "%s", "50%", "a?*[1]"], ""),
    ("upper case", ["A.PNG", "b.Jpg"], ["A", "b"], ""),
    ("several suffixes", ["a.b.tar.png", "a.png.png"], ["a.b.tar", "a.png"], ""),
]  # fmt: skip


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo"
    Image.fromarray(np.full((20, 30, 3), 200, np.uint8)).save(path, format="PNG")
    return path.read_bytes()


def test_every_name_has_its_results_or_is_reported(tmp_path, photo, check_table):
    """In each folder a further image shows that the others were predicted."""
    rows = [["name", "results", "what is said"]]
    for i, (kind, names, expected, said) in enumerate(NAMES):
        folder, out = tmp_path / str(i), tmp_path / f"out{i}"
        folder.mkdir()
        for name in [*names, "other.png"]:
            (folder / name).write_bytes(photo)
        inputs = find_inputs([str(folder / name) for name in [*names, "other.png"]])
        summary = predict_files(RedSegmentor(), inputs.files, PredictOptions(out))
        for results, suffix in (("overlays", ".jpg"), ("labels", ".png")):
            found = [path.name for path in (out / results).glob("*") if path.suffix == suffix]
            stems = [name.removesuffix(suffix) for name in found if name != f"other{suffix}"]
            assert sorted(stems) == sorted(expected), kind
            assert f"other{suffix}" in found
        sentences = [f"the results of {folder / n} {said}" for n in names if said]
        assert summary.skipped == sentences, kind
        rows.append([kind, "written" if expected else "not written", said or "nothing"])
    check_table("file names", rows)


def test_an_output_folder_near_the_longest_path_loses_the_deep_images_alone(tmp_path, photo):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "a.png").write_bytes(photo)
    (tmp_path / "in" / "deep" / ("x" * 200 + ".png")).write_bytes(photo)
    out = tmp_path
    while len(str(out)) < 3800:  # of 4096 bytes
        out = out / ("y" * min(200, 3900 - len(str(out))))
    inputs = find_inputs([str(tmp_path / "in")])
    summary = predict_files(RedSegmentor(), inputs.files, PredictOptions(out))
    assert summary.images == 1 and (out / "labels" / "a.png").exists()
    (sentence,) = summary.skipped
    assert sentence.endswith(TOO_LONG)


def test_a_result_in_whose_place_is_a_folder_is_reported(tmp_path, photo):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(photo)
    (tmp_path / "out" / "labels" / "a.png").mkdir(parents=True)
    inputs = find_inputs([str(tmp_path / "*.png")])
    summary = predict_files(RedSegmentor(), inputs.files, PredictOptions(tmp_path / "out"))
    assert summary.images == 1 and (tmp_path / "out" / "labels" / "b.png").exists()
    assert summary.skipped == [
        f"the results of {tmp_path / 'a.png'} could not be written: Is a directory"
    ]


def test_files_of_other_suffixes_are_read_by_their_content(tmp_path, photo):
    (tmp_path / "photo.dat").write_bytes(photo)
    (tmp_path / "text.dat").write_text("neither an image nor a video")
    writer = cv2.VideoWriter(
        str(tmp_path / "film.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 5, (32, 32)
    )
    for _ in range(3):
        writer.write(np.zeros((32, 32, 3), np.uint8))
    writer.release()
    (tmp_path / "film.mp4").rename(tmp_path / "film.dat")
    inputs = find_inputs([str(tmp_path / "*.dat")])
    summary = predict_files(RedSegmentor(), inputs.files, PredictOptions(tmp_path / "out"))
    written = {path.name for path in (tmp_path / "out" / "overlays").glob("[!.]*")}
    assert written == {"photo.jpg", "film.mp4"} and summary.images == 4
    (sentence,) = summary.skipped
    assert "text.dat" in sentence


def test_results_are_no_inputs_of_the_next_run(tmp_path, photo):
    (tmp_path / "a.png").write_bytes(photo)
    for _ in range(2):
        inputs = find_inputs([str(tmp_path)])
        assert [file.path for file in inputs.files] == [tmp_path / "a.png"]
        predict_files(RedSegmentor(), inputs.files, PredictOptions(tmp_path))
    assert "2 with results of an earlier run (labels/, overlays/)" in inputs.left_out[0]


def test_the_key_of_label_maps_names_their_numbers(tmp_path, photo):
    (tmp_path / "a.png").write_bytes(photo)
    predict_files(
        RedSegmentor(), find_inputs([str(tmp_path)]).files, PredictOptions(tmp_path / "out")
    )
    assert (tmp_path / "out" / "labels" / "classes.txt").read_text() == "0 little\n1 much\n"
    labels = np.asarray(Image.open(Path(tmp_path, "out", "labels", "a.png")))
    assert labels.shape == (20, 30) and (labels == 1).all()
