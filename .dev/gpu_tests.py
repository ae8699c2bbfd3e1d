"""Run the tests of tests/gpu within a time, for .dev/gpu.py."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TextIO
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
MAX_WORKERS = 8  # processes of the tests, which share the GPU
THREADS = 2  # CPU threads of each: with a thread for each core they would fight for the cores
REPORT_SECONDS = 15  # for the report of interrupted tests


def run_tests(path: Path, limit: float) -> None:
    """Run the tests of tests/gpu in at most ``limit`` seconds, and write how they went as JSON.

    Their log stays unless all have passed. Tests that have no time left are interrupted: pytest
    then still reports the others.
    """
    from gfnet_dense.benchmark.processes import NO_TIME, OK

    results: dict = {}
    if find_spec("pytest") is None:
        results = {"status": "left out: pytest is not installed"}
    else:
        xml, log = path.resolve().with_suffix(".xml"), path.with_suffix(".log")
        with log.open("w") as file:
            in_time = run_pytest(xml, file, limit)
        try:
            results = read_junit(xml, in_time)
        except (OSError, ElementTree.ParseError, StopIteration):
            failed = "failed: pytest wrote no results"
            results = {"status": failed if in_time else NO_TIME}
        xml.unlink(missing_ok=True)
        if results["status"] == OK:
            log.unlink()
    path.write_text(json.dumps(results, indent=1))
    print(f"tests: {results}", flush=True)


def run_pytest(xml: Path, log: TextIO, limit: float) -> bool:
    """Run the tests with their output in ``log``; return whether they ended in time."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "tests/gpu", f"--junitxml={xml}"]
    command += ["-q", "-p", "no:cacheprovider"]
    if find_spec("xdist") is not None:
        command += ["-n", str(max(1, min(MAX_WORKERS, (os.cpu_count() or 1) // THREADS)))]
    # An outer pytest, which tests this command, has variables of its own.
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    env["OMP_NUM_THREADS"] = str(THREADS)
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log)
    try:
        process.wait(limit)
        return True
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(REPORT_SECONDS)
        return False
    finally:
        process.kill()
        process.wait()


def read_junit(path: Path, in_time: bool) -> dict:
    """Return the counts of a JUnit file of pytest, and the names of the tests that failed."""
    from gfnet_dense.benchmark.processes import NO_TIME, OK

    suite = next(ElementTree.parse(path).getroot().iter("testsuite"))
    counts = {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")}
    failed = [
        f"{case.get('classname')}.{case.get('name')}"
        for case in suite.iter("testcase")
        if case.find("failure") is not None or case.find("error") is not None
    ]
    status = "failed" if failed else OK if in_time else NO_TIME
    seconds = float(suite.get("time", 0))
    return {"status": status, "in_time": in_time, **counts, "seconds": seconds, "failed": failed}
