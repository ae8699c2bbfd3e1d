import json

import numpy as np
import pytest
from PIL import Image

from gfnet_dense.utils.errors import InputError
from gfnet_dense.visualization.log_curves import format_logs, read_log, smooth
from tests.commands import error_of, run, tool


def write_log(folder, entries):
    folder.mkdir(parents=True)
    (folder / "scalars.json").write_text("\n".join(map(json.dumps, entries)) + '\n{"lr": 0.0')
    return folder


@pytest.fixture
def by_iterations(tmp_path):
    """Return a run that was resumed from iteration 2; the last line of each log is cut off."""
    first = [{"loss": 9.0 - i, "lr": 0.1, "step": i} for i in (1, 2, 3)]
    write_log(tmp_path / "a" / "2026_1" / "vis_data", [*first, {"mIoU": 10.0, "step": 2}])
    second = [{"loss": 2.0, "step": 3}, {"loss": 1.0, "step": 4}]
    metrics = [{"mIoU": 30.0, "aAcc": 50.0, "step": 3}, {"mIoU": 20.0, "aAcc": 60.0, "step": 4}]
    write_log(tmp_path / "a" / "2026_2" / "vis_data", [*second, *metrics])
    return tmp_path / "a"


@pytest.fixture
def by_epochs(tmp_path):
    entries = []
    for epoch in (1, 2):
        entries += [{"loss": 1.0, "epoch": epoch, "step": 50 * epoch - i} for i in (25, 0)]
        entries.append({"coco/bbox_mAP_50": 0.2 * epoch, "step": epoch})
    write_log(tmp_path / "b" / "1" / "vis_data", entries)
    return tmp_path / "b"


def test_values_after_resuming_replace_earlier_values_of_the_same_iterations(by_iterations):
    log = read_log(by_iterations)
    assert log.name == "a" and log.loss == {1: 8.0, 2: 7.0, 3: 2.0, 4: 1.0}
    assert log.metrics == {"mIoU": {2: 10.0, 3: 30.0, 4: 20.0}, "aAcc": {3: 50.0, 4: 60.0}}


def test_epochs_of_metrics_become_iterations(by_epochs):
    assert read_log(by_epochs).metrics == {"box AP50": {50: 20.0, 100: 40.0}}
    (file,) = by_epochs.rglob("scalars.json")
    assert read_log(file).name == "b"


def test_table_has_a_row_for_each_run_with_its_best_and_last_metrics(by_iterations, by_epochs):
    lines = format_logs([read_log(by_iterations), read_log(by_epochs)]).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0][:6] == ["run", "iterations", "loss", "best mIoU", "at", "last mIoU"]
    assert cells[2] == ["a", "4", "1", "30.00", "3", "20.00", "60.00", "4", "60.00", "", "", ""]
    assert cells[3] == ["b", "100", "1", *[""] * 6, "40.00", "100", "40.00"]


def test_smoothing_is_the_mean_of_the_neighbors():
    steps, values = smooth({10: 1.0, 20: 5.0, 30: 3.0, 40: 7.0}, share=0.75)
    assert steps.tolist() == [10, 20, 30, 40]
    np.testing.assert_allclose(values, [3, 3, 5, 5])


def test_analyze_logs_command_prints_a_table_and_writes_the_curves(
    by_iterations, by_epochs, tmp_path
):
    command = tool("analyze_logs", by_iterations, by_epochs, "--names", "first", "second")
    result = run(command, tmp_path)
    assert result.returncode == 0, result.stderr
    assert "| first" in result.stdout and "written: curves.png" in result.stdout
    assert min(Image.open(tmp_path / "curves.png").size) > 300


def test_empty_folders_and_a_wrong_number_of_names_are_refused(by_iterations, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no logs of a training"):
        read_log(tmp_path / "empty")
    assert "--names are 1 for 2 runs" in error_of(
        run(tool("analyze_logs", "a", "a", "--names", "x"), tmp_path)
    )
