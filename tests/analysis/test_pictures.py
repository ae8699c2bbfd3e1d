"""Pictures show what they are given, whatever the names and the number of classes."""

import numpy as np
import pytest
from PIL import Image

from gfnet_dense.analysis.pictures import (
    MAX_NAME,
    draw_bars,
    draw_confusions,
    draw_error_map,
    draw_precision_recall,
    end_of,
    shorten,
    some_of,
)
from gfnet_dense.visualization.sheets import draw_sheet

RED = (230, 30, 30)


@pytest.mark.parametrize("count", [1, 2, 16, 32, 33, 150])
def test_confusions_of_any_number_of_classes(count, tmp_path):
    matrix = np.random.default_rng(0).integers(0, 1000, (count, count))
    matrix[-1] = 0
    names = [f"$class_{i}^ & <b> that has a long name" for i in range(count)]
    draw_confusions(matrix, names, names, "pixels", tmp_path / "matrix.png")
    with Image.open(tmp_path / "matrix.png") as picture:
        assert 200 < min(picture.size) and max(picture.size) < 1300


def test_no_confusion_among_many_classes(tmp_path):
    names = [str(i) for i in range(40)]
    draw_confusions(np.diag(np.arange(40)), names, names, "pixels", tmp_path / "matrix.png")
    draw_bars([0.0, 0.0], ["a", "b"], ["", ""], "x", tmp_path / "bars.png")
    draw_precision_recall({}, {}, tmp_path / "curves.png")


def test_captions_are_below_their_row(tmp_path):
    cell = np.full((30, 60, 3), RED, np.uint8)
    rows, titles = [(cell, cell), (cell,)], ("a", "b")
    draw_sheet(rows, titles, {}, tmp_path / "without.png")
    draw_sheet(rows, titles, {}, tmp_path / "with.png", captions=[("$x_\n2",), ("3",)])
    pictures = []
    for name in ("without", "with"):
        with Image.open(tmp_path / f"{name}.png") as picture:
            pictures.append(np.asarray(picture.convert("RGB")).astype(int))
    without, captioned = pictures
    is_red = (np.abs(captioned - RED).max(-1) < 30)[:, 100]
    starts = np.flatnonzero(np.diff(is_red.astype(int)) == 1)
    ends = np.flatnonzero(np.diff(is_red.astype(int)) == -1)
    assert len(starts) == len(ends) == 2
    for end, stop in zip(ends, (starts[1], len(captioned)), strict=True):
        below = captioned[end + 1 : stop, :100]
        assert (below.max(-1) < 128).any()  # black text
        assert (captioned[end + 1 : stop].min(-1)[:, 500:700] > 250).all()
    heights = np.array([ends[0] - starts[0], ends[1] - starts[1]])
    plain = (np.abs(without - RED).max(-1) < 30)[:, 100].sum() / 2
    assert np.abs(heights - plain).max() <= 4  # the images are as large as without captions


def test_an_error_map_has_wrong_pixels_red_and_ignored_ones_black():
    image = np.full((2, 2, 3), 100, np.uint8)
    drawn = draw_error_map(
        image, np.array([[True, False]] * 2), np.array([[False] * 2, [True] * 2])
    )
    assert drawn.tolist() == [[list(RED), [197] * 3], [[0] * 3, [0] * 3]]


def test_texts_are_shortened():
    assert shorten("a" * MAX_NAME) == "a" * MAX_NAME and len(shorten("a" * 99)) == MAX_NAME
    assert end_of("folder/file", 20) == "folder/file" and end_of("folder/file", 5) == "…file"
    assert end_of("\udcff", 9) == "\\udcff"
    assert some_of(["a", "b"], 2) == "a, b" and some_of(["a", "b", "c"], 2) == "a, b, …"
