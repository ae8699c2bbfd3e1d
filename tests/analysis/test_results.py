"""Files of an analysis: odd values, and what becomes of the files of an earlier one."""

import json

import numpy as np

from gfnet_dense.analysis.results import FIGURES, Results


def test_values_that_are_not_finite_are_null_and_empty(tmp_path):
    results = Results(tmp_path)
    results.write_table("t.csv", ["a,b", "c"], [['x"', float("nan")], ["é", np.float32("nan")]])
    assert (tmp_path / "t.csv").read_bytes() == 'a,b,c\r\n"x""",\r\né,\r\n'.replace(
        "a,b,c", '"a,b",c'
    ).encode()
    results.finish(dict(a=np.array([1, np.nan]), b=float("inf"), c=[(np.int64(3), True)]))
    figures = json.loads((tmp_path / FIGURES).read_text(), parse_constant=lambda _: 1 / 0)
    assert figures == dict(a=[1, None], b=None, c=[[3, True]], files=[FIGURES, "t.csv"])


def test_files_of_an_earlier_analysis_go_and_others_stay(tmp_path):
    for names in (["a.csv", "b.csv"], ["b.csv"]):
        results = Results(tmp_path)
        for name in names:
            results.write_text(name, name)
        results.finish({})
        (tmp_path / "own.csv").touch()
    assert {path.name for path in tmp_path.iterdir()} == {
        ".gfnet-dense-results", "b.csv", FIGURES, "own.csv",
    }  # fmt: skip


def test_a_file_of_another_program_names_nothing_to_remove(tmp_path):
    (tmp_path / "keep.csv").touch()
    folder = tmp_path / "out"
    for text in ("[1", "[]", '{"files": 3}', '{"files": ["../keep.csv", "sub", null]}'):
        (folder / "sub").mkdir(parents=True, exist_ok=True)
        (folder / FIGURES).write_text(text)
        Results(folder).finish({})
        assert json.loads((folder / FIGURES).read_text()) == {"files": [FIGURES]}
    assert (tmp_path / "keep.csv").exists() and (folder / "sub").exists()
