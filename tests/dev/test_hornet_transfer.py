import json

import pytest

import hornet_transfer
from gfnet_dense.demo.shrink_segmentation import MAX_ITERS
from gfnet_dense.utils.errors import InputError
from tests.markdown import read_table


def results(**settings):
    """Return results of a sweep with the mIoU of each setting at the scales 1, 1.5 and 2."""
    cases = [
        {
            "series": name,
            "size": scale,
            "status": "ok",
            "records": [{"metric": "mIoU", "mIoU": value}],
        }
        for name, values in settings.items()
        for scale, value in zip((1, 1.5, 2), values, strict=True)
    ]
    return {"cases": cases}


def test_table_has_means_over_seeds_and_differences_to_sliding_windows():
    seeds = [
        results(slide=(50, 40, 30), whole=(51, 42, 27)),
        results(slide=(54, 40, 30), whole=(57, 42, 27)),
    ]
    table = read_table(hornet_transfer.format_table({"bilinear": seeds, "trigonometric": seeds}))
    assert table[0] == ["trained with", "tested", "x 1", "x 1.5", "x 2"]
    assert [row[:2] for row in table[1:]] == [
        [mode, setting] for mode in hornet_transfer.TRAININGS for setting in ("slide", "whole")
    ]
    assert table[1][2:] == ["52.0 ± 2.8", "40.0 ± 0.0", "30.0 ± 0.0"]
    assert table[2][2:] == [
        "54.0 ± 4.2 (+2.0 ± 1.4)",
        "42.0 ± 0.0 (+2.0 ± 0.0)",
        "27.0 ± 0.0 (-3.0 ± 0.0)",
    ]


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """Replace the tools, which take minutes, by stubs; return the commands that are run."""
    monkeypatch.chdir(tmp_path)
    commands = []

    def run(tool, *words):
        commands.append((tool, *map(str, words)))
        folder = hornet_transfer.WORK_DIR / "bilinear" / "seed1"
        (folder / "transfer").mkdir(parents=True, exist_ok=True)
        (folder / f"iter_{MAX_ITERS}.pth").touch()
        (folder / "transfer" / "results.json").write_text(json.dumps({"cases": []}))

    monkeypatch.setattr(hornet_transfer, "_run", run)
    return commands


def test_a_complete_training_is_not_repeated_and_its_test_goes_on(tools):
    assert hornet_transfer.train_and_test("bilinear", 1) == {"cases": []}
    (train, *words), (test, *others) = tools
    assert (train, test) == ("train", "benchmark")
    assert {"--demo", "randomness.seed=1", "model.backbone.filter_resize=bilinear"} <= set(words)
    assert {"--demo", "--resume", "model.backbone.filter_resize=bilinear"} <= set(others)
    hornet_transfer.train_and_test("bilinear", 1)
    assert [tool for tool, *_ in tools] == ["train", "benchmark", "benchmark"]


def test_a_tool_that_fails_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="train.py ended with code 2"):
        hornet_transfer._run("train", "--no-such-option")
