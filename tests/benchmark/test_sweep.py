import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from gfnet_dense.benchmark.processes import Case
from gfnet_dense.benchmark.sweep import (
    describe_machine,
    describe_seconds,
    run_sweep,
    seconds_left,
)
from gfnet_dense.utils.errors import InputError
from tests.conftest import ROOT


def record(size, **options):
    return {"pid": os.getpid(), "size": size, **options}


def petabyte(size):
    torch.empty(2**50, dtype=torch.uint8)


def killed(size):
    os.kill(os.getpid(), signal.SIGKILL)


def bad_from_20(size):
    if size >= 20:
        raise ValueError("two\nlines")
    return {}


def sleeping(size):
    time.sleep(60)


def memory_error(size):
    raise MemoryError


def leaving(size):
    os._exit(3)


def unserializable(size):
    return {"a": {1}}


def printing(size):
    print("on stdout")
    os.system("echo of a child")
    return {}


def counting(size, folder):
    """Leave a file for every run."""
    files = len(os.listdir(folder))
    open(os.path.join(folder, f"{files:03d}-{size}"), "w").close()
    return {"number": files}


def sweep(cases, path, rounds=1, time_limit=60.0, **kwargs):
    results = run_sweep(cases, path, rounds, time_limit, **kwargs)
    assert json.loads(path.read_text()) == results
    return results


def statuses(results):
    return {(e["series"], e["size"]): e["status"] for e in results["cases"]}


def test_each_run_is_a_process_of_its_own_and_is_recorded(tmp_path):
    cases = [
        Case("a", 2, record, {"x": (1, 2)}),
        Case("b", 1, record, {}),
        Case("a", 1, record, {}),
    ]
    results = sweep(cases, tmp_path / "r.json", rounds=2, settings={"some": "thing"})
    pids = [r["pid"] for e in results["cases"] for r in e["records"]]
    assert len(set(pids)) == 6 and os.getpid() not in pids
    first = results["cases"][0]
    assert (first["series"], first["size"], first["status"]) == ("a", 2, "ok")
    assert first["records"][1]["x"] == [1, 2]
    assert results["settings"] == {"some": "thing"} and results["complete"]
    assert results["machine"]["torch"] == torch.__version__
    assert results["machine"]["memory"] > 2**28
    assert results["machine"]["instructions"] == torch.backends.cpu.get_cpu_capability()


def test_failed_runs_are_recorded_and_do_not_stop_the_sweep(tmp_path):
    cases = [
        Case("petabyte", 2, petabyte, {}),
        Case("petabyte", 3, petabyte, {}),
        Case("killed", 1, killed, {}),
        Case("python", 1, memory_error, {}),
        Case("leaving", 1, leaving, {}),
        Case("sleeping", 1, sleeping, {}),
        *(Case("bad", size, bad_from_20, {}) for size in (40, 10, 30, 20)),
        Case("unserializable", 1, unserializable, {}),
        Case("good", 50, record, {}),
    ]
    results = sweep(cases, tmp_path / "r.json", rounds=2, time_limit=2.0)
    assert statuses(results) == {
        ("petabyte", 2): "out of memory",
        ("petabyte", 3): "skipped: out of memory at 2",
        ("killed", 1): "out of memory",
        ("python", 1): "out of memory",
        ("leaving", 1): "failed: the process ended with code 3",
        ("sleeping", 1): "time limit",
        ("bad", 10): "ok",
        ("bad", 20): "failed: ValueError: two lines",
        ("bad", 30): "skipped: failed at 20",
        ("bad", 40): "skipped: failed at 20",
        ("unserializable", 1): "failed: TypeError: Object of type set is not JSON serializable",
        ("good", 50): "ok",
    }
    runs = {(e["series"], e["size"]): len(e["records"]) for e in results["cases"]}
    assert runs["bad", 10] == runs["good", 50] == 2 and runs["bad", 20] == 0
    log = (tmp_path / "r.log").read_text()
    assert log.count("ValueError: two") == 1 and "Traceback" in log  # not tried in round 2


def test_output_of_cases_goes_to_the_log_only(tmp_path, capfd):
    sweep([Case("loud", 1, printing, {})], tmp_path / "r.json")
    out = capfd.readouterr().out
    assert "loud at 1: ok" in out and "on stdout" not in out and "of a child" not in out
    log = (tmp_path / "r.log").read_text()
    assert "on stdout" in log and "of a child" in log


def numbers(results):
    return {(e["series"], e["size"]): [r["number"] for r in e["records"]] for e in results["cases"]}


def test_resume_runs_only_missing_cases_and_rounds(tmp_path):
    (tmp_path / "runs").mkdir()
    options = {"folder": str(tmp_path / "runs")}
    path = tmp_path / "r.json"
    cases = [Case("a", size, counting, options) for size in (1, 2)]
    assert numbers(sweep(cases, path)) == {("a", 1): [0], ("a", 2): [1]}
    more = [*cases, Case("b", 1, counting, options)]
    results = sweep(more, path, rounds=2, resume=True)
    # Round 1 of b, then round 2 of all cases, by size.
    expected = {("a", 1): [0, 3], ("b", 1): [2, 4], ("a", 2): [1, 5]}
    assert numbers(results) == expected
    assert numbers(sweep(cases[:1], path, rounds=2, resume=True)) == expected  # others are kept
    assert numbers(sweep(cases, path)) == {("a", 1): [6], ("a", 2): [7]}  # complete: a new sweep


def test_resume_retries_failed_cases_but_not_those_out_of_memory(tmp_path):
    path = tmp_path / "r.json"
    cases = [Case("a", 1, petabyte, {}), *(Case("b", size, leaving, {}) for size in (1, 2))]
    sweep(cases, path)
    cases = [Case("a", 1, record, {}), *(Case("b", size, record, {}) for size in (1, 2))]
    results = sweep(cases, path, resume=True)
    assert statuses(results) == {("a", 1): "out of memory", ("b", 1): "ok", ("b", 2): "ok"}


def test_resume_refuses_other_settings(tmp_path):
    path = tmp_path / "r.json"
    cases = [Case("a", 1, record, {"amp": False})]
    sweep(cases, path)
    with pytest.raises(InputError, match="time limit 60.0, not 61"):
        run_sweep(cases, path, 2, 61, resume=True)
    with pytest.raises(InputError, match="options {'amp': False}, not {'amp': True}"):
        run_sweep([Case("a", 1, record, {"amp": True})], path, 2, 60, resume=True)
    stored = json.loads(path.read_text())
    stored["machine"]["cpu"] = "abacus"
    path.write_text(json.dumps(stored))
    with pytest.raises(InputError, match="cpu abacus"):
        run_sweep(cases, path, 2, 60, resume=True)
    assert json.loads(path.read_text()) == stored


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"cases": [3]}', "\x00"])
def test_files_that_are_no_results_are_refused_and_left_unchanged(tmp_path, text):
    path = tmp_path / "r.json"
    path.write_text(text)
    for resume in (False, True):
        with pytest.raises(InputError, match="no result of a benchmark"):
            run_sweep([Case("a", 1, record, {})], path, 1, 60, resume)
    assert path.read_text() == text


INTERRUPTED = """
import signal
import sys
from pathlib import Path
from gfnet_dense.benchmark.sweep import Case, run_sweep
from tests.benchmark.test_sweep import record, sleeping_after

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it in background jobs
    path = Path(sys.argv[1])
    cases = [Case("a", 1, record, {}), Case("a", 2, sleeping_after, {"path": str(path) + ".pid"})]
    run_sweep(cases, path, 1, 60)
"""


def sleeping_after(size, path):
    """Write the process id to a file, then sleep."""
    with open(path + ".part", "w") as file:
        file.write(str(os.getpid()))
    os.replace(path + ".part", path)
    time.sleep(60)


def wait_until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def is_alive(pid):
    try:
        return "zombie" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_sweep_keeps_its_results_and_leaves_no_process(tmp_path, number):
    path, script = tmp_path / "r.json", tmp_path / "script.py"
    script.write_text(INTERRUPTED)
    process = subprocess.Popen(
        [sys.executable, script, path],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    pid_file = Path(f"{path}.pid")
    wait_until(pid_file.exists)
    process.send_signal(number)
    out, _ = process.communicate(timeout=30)
    assert process.returncode != 0 and "a at 1: ok" in out
    wait_until(lambda: not is_alive(int(pid_file.read_text())))
    results = json.loads(path.read_text())
    assert not results["complete"]
    assert statuses(results) == {("a", 1): "ok", ("a", 2): "ok"}
    assert [len(e["records"]) for e in results["cases"]] == [1, 0]
    assert set(os.listdir(tmp_path)) == {"r.json", "r.json.pid", "r.log", "script.py"}

    cases = [Case("a", 1, record, {}), Case("a", 2, record, {"path": str(pid_file)})]
    with pytest.raises(InputError, match="half done: --resume"):
        run_sweep(cases, path, 1, 60)
    assert json.loads(path.read_text()) == results
    again = sweep(cases, path, resume=True)
    assert again["complete"] and again["cases"][0] == results["cases"][0]
    assert again["cases"][1]["records"][0]["size"] == 2


def test_time_left_is_extrapolated_from_measured_sizes():
    def entry(series, size, seconds, status="ok"):
        records = [{}] * len(seconds)
        return dict(series=series, size=size, seconds=seconds, records=records, status=status)

    entries = [
        entry("a", 10, [1.0, 3.0]),  # one round to come: 2 s
        entry("a", 20, []),  # linear: three rounds of 4 s to come
        entry("b", 10, [1.0, 1.0, 1.0]),
        entry("b", 20, [8.0, 8.0, 8.0]),
        entry("b", 30, []),  # cubic: 27 s
        entry("b", 100, []),  # cubic would be 1000 s, the time limit is 50 s
        entry("b", 200, [], "out of memory"),
        entry("c", 10, []),  # the mean of the known times, 11 / 3 s
    ]
    results = {"cases": entries, "time_limit": 50}
    assert seconds_left(results, 3) == pytest.approx(2 + 3 * (4 + 27 + 50 + 11 / 3))
    assert seconds_left({"cases": entries[-1:], "time_limit": 50}, 3) == 0


@pytest.mark.parametrize(
    "rounds, time_limit, size, text",
    [
        (0, 60, 1, "rounds is 1 or more, got 0"),
        (1, 0, 1, "seconds above 0, got 0"),
        (1, float("nan"), 1, "seconds above 0, got nan"),
        (1, float("inf"), 1, "seconds above 0, got inf"),
        (1, 60, -4, "a size is above 0, got -4"),
    ],
)
def test_invalid_rounds_time_limits_and_sizes_are_rejected(
    tmp_path, rounds, time_limit, size, text
):
    with pytest.raises(InputError, match=text):
        run_sweep([Case("a", size, record, {})], tmp_path / "r.json", rounds, time_limit)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "seconds, text",
    [(0.44, "0.4 s"), (59.6, "60 s"), (119, "119 s"), (150, "2 min"), (9000, "2.5 h")],
)
def test_durations_are_described_in_a_suitable_unit(seconds, text):
    assert describe_seconds(seconds) == text


def sleeping_for(size):
    time.sleep(0.05 * size)
    return {}


def test_runs_that_do_not_fit_into_the_budget_are_left_out_and_run_by_resume(tmp_path):
    path = tmp_path / "r.json"
    cases = [Case("a", size, sleeping_for, {}) for size in (1, 10, 10_000, 20_000)]
    cases += [Case("b", 600, sleeping_for, {})]
    start = time.monotonic()
    results = sweep(cases, path, budget=15)
    assert time.monotonic() - start < 25
    assert statuses(results) == {
        ("a", 1): "ok",
        ("a", 10): "ok",
        ("a", 10_000): "no time left",  # expected to take minutes: it is not even begun
        ("a", 20_000): "skipped: no time left at 10000",
        ("b", 600): "no time left",  # nothing is known: it is ended with the budget
    }
    assert results["complete"]
    cases = [Case(case.series, case.size, record, {}) for case in cases]
    assert set(statuses(sweep(cases, path, resume=True)).values()) == {"ok"}
    assert all(entry["records"] for entry in json.loads(path.read_text())["cases"])


def test_machine_has_the_names_of_all_gpus_and_the_driver(monkeypatch):
    def answer(command, **kwargs):
        assert command[0] == "nvidia-smi"
        return subprocess.CompletedProcess(command, 0, "555.42\n555.42\n", "")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", "AB".__getitem__)
    monkeypatch.setattr(subprocess, "run", answer)
    machine = describe_machine()
    assert (machine["gpu"], machine["driver"]) == ("A, B", "555.42")

    def missing(*args, **kwargs):
        raise FileNotFoundError

    monkeypatch.setattr(subprocess, "run", missing)
    assert describe_machine()["driver"] is None
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert describe_machine()["gpu"] is None
