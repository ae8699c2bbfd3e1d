import pytest

from gfnet_dense.utils.tables import format_number, format_table
from tests.markdown import read_table


def test_columns_are_aligned_as_markdown_and_as_text():
    rows = [["", "n", "path"], ["long name", "1", "a"], ["x", "12345", "bc"]]
    assert format_table(rows, left=(0, 2)).splitlines() == [
        "|           |     n | path |",
        "|-----------|------:|------|",
        "| long name |     1 | a    |",
        "| x         | 12345 | bc   |",
    ]
    assert format_table(rows, markdown=False, left=(0, 2)).splitlines() == [
        "               n  path",
        "long name      1  a",
        "x          12345  bc",
    ]


def test_cells_are_taken_as_they_are():
    """No markup, no emoji, no number highlighted, no line wrapped however long."""
    rows = [["[red]a[/red]", ":smile:"], ["x" * 500, "[1, 2]"], ["", ""]]
    assert read_table(format_table(rows)) == rows


def test_a_notebook_gets_the_same_text(monkeypatch):
    rows = [["a", "b"], ["1", "2"]]
    expected = format_table(rows)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert format_table(rows) == expected


def test_wide_characters_keep_the_columns_aligned():
    lines = format_table([["class", "n"], ["道路", "1"], ["ab", "2"]]).splitlines()
    assert lines[2:] == ["| 道路  |   1 |", "| ab    |   2 |"]  # each ideogram is two columns wide


@pytest.mark.parametrize(
    "value, text",
    [(None, ""), (0, "0"), (0.01234, "0.0123"), (1.2345, "1.23"), (12345.6, "12346")]
    + [(1.2e-7, "1.2e-07"), (99.96, "100"), (-3, "-3")],
)
def test_numbers(value, text):
    assert format_number(value) == text
