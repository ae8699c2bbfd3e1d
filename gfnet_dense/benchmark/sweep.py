"""Run the cases of a benchmark, each in a process of its own, and keep the results in a file."""

import json
import math
import multiprocessing
import os
import platform
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from gfnet_dense.utils.atomic_write import atomic_write
from gfnet_dense.utils.errors import InputError

OK, OUT_OF_MEMORY, TIME_LIMIT = "ok", "out of memory", "time limit"
# Messages of a RuntimeError by which PyTorch and its libraries report that memory is full
NO_MEMORY = re.compile(r"can't allocate memory|out of memory|bad_alloc|ALLOC_FAILED")


@dataclass(frozen=True)
class Case:
    """One measurement of a sweep.

    Attributes:
        series: The line of the plot to which the case belongs, such as ``GFNet-H-Ti``.
        size: Position on the x axis: the side of an image or map, or a scale.
        run: Function at the top of a module, called as ``run(size, **options)``, that returns a
            record of JSON values. Its module is imported once for all cases.
        options: Keyword arguments of ``run``, JSON values.
    """

    series: str
    size: int | float
    run: Callable[..., dict[str, Any]]
    options: dict[str, Any]


def run_sweep(
    cases: list[Case],
    path: Path,
    rounds: int,
    time_limit: float,
    resume: bool = False,
    settings: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Run every case once in each round, small sizes first, and keep the results in a JSON file.

    Every run has a process of its own. Its output and the traceback of a failure go to a log beside
    the JSON file. A case that runs out of memory or time, or fails, gets this as its status. It is
    not run again, and larger sizes of its series are skipped.

    Args:
        cases: Cases that differ in series or size.
        path: The JSON file, which is rewritten atomically after every run.
        rounds: Number of runs of each case.
        time_limit: Seconds of one run, imports excluded.
        resume: Keep the results in the file and run only what is missing. Cases and rounds may be
            added. Failed cases are tried again; cases that ran out of memory or time are not.
        settings: Settings of the command, JSON values that are stored in the file.

    Returns:
        The content of the file: ``machine``, ``date``, ``time_limit``, ``settings``, ``complete``
        (whether all runs were made) and ``cases``: dicts with ``series``, ``size``, ``options``,
        ``status`` (``ok``, ``out of memory``, ``time limit``, ``failed: ...``, ``skipped: ...``),
        ``records`` and ``seconds``, the last two with an item for each run that was ok.

    Raises:
        InputError: For rounds below 1, a time limit or size that is not above 0, a file that holds
            something else, a file of an interrupted sweep without ``resume``, and with ``resume`` a
            file that was measured on another machine, with another time limit or other options.
    """
    if rounds < 1:
        raise InputError(f"rounds is 1 or more, got {rounds}")
    if not 0 < time_limit < math.inf:
        raise InputError(f"the time limit is a number of seconds above 0, got {time_limit:g}")
    if smallest := [case.size for case in cases if not case.size > 0]:
        raise InputError(f"a size is above 0, got {smallest[0]:g}")
    results: dict[str, Any] = {
        "machine": describe_machine(),
        "date": datetime.now().isoformat(timespec="seconds"),
        "time_limit": time_limit,
        "settings": settings or {},
        "complete": False,
        "cases": [_new_entry(case) for case in cases],
    }
    log = path.with_suffix(".log")
    if path.exists():
        _take_over(results, path, resume)
    if not resume:
        log.unlink(missing_ok=True)
    _write(results, path)

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(sorted({case.run.__module__ for case in cases}))
    entries = {(entry["series"], entry["size"]): entry for entry in results["cases"]}
    cases = sorted(cases, key=lambda case: case.size)
    for round_ in range(rounds):
        for i, case in enumerate(cases):
            entry = entries[case.series, case.size]
            if entry["status"] != OK or len(entry["records"]) > round_:
                continue
            print(f"round {round_ + 1}/{rounds}, {i + 1}/{len(cases)}: ", end="")
            print(f"{case.series} at {case.size}: ", end="", flush=True)
            start = time.perf_counter()
            status, record = _skip_status(entry, results["cases"]), None
            if status == OK:
                status, record = run_apart(context, case, log, time_limit)
            seconds = time.perf_counter() - start
            entry["status"] = status
            if status == OK:
                entry["records"].append(record)
                entry["seconds"].append(seconds)
            _write(results, path)
            left = describe_seconds(seconds_left(results, rounds))
            print(f"{status}, {describe_seconds(seconds)}; about {left} left", flush=True)
    results["complete"] = True
    _write(results, path)
    return results


def _new_entry(case: Case) -> dict[str, Any]:
    """Return the entry of a case in the file before its first run."""
    entry = {"series": case.series, "size": case.size, "options": _as_json(case.options)}
    return {**entry, "status": OK, "records": [], "seconds": []}


def _as_json(value: dict[str, Any]) -> dict[str, Any]:
    """Return ``value`` as it is read back from JSON; raise TypeError if JSON cannot hold it."""
    return json.loads(json.dumps(value))


def _take_over(results: dict[str, Any], path: Path, resume: bool) -> None:
    """Check an existing file and, with ``resume``, put its cases into ``results``, in place.

    Raises:
        InputError: See :func:`run_sweep`.
    """
    try:
        old = json.loads(path.read_text())
        kept = {(entry["series"], entry["size"]): entry for entry in old["cases"]}
        complete, date, machine, limit = (
            old[key] for key in ("complete", "date", "machine", "time_limit")
        )
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{path} is no result of a benchmark: take another folder") from None
    if not resume:
        if complete:
            return
        raise InputError(
            f"{path} is half done: --resume goes on with it, delete it to start anew, or take "
            "another folder"
        )
    pairs = [("time limit", limit, results["time_limit"])]
    pairs += [(key, machine.get(key), value) for key, value in results["machine"].items()]
    for i, entry in enumerate(results["cases"]):
        old_entry = kept.pop((entry["series"], entry["size"]), None)
        if old_entry is not None:
            pairs.append(("options", old_entry["options"], entry["options"]))
            results["cases"][i] = old_entry
    for name, was, now in pairs:
        if was != now:
            raise InputError(
                f"{path} was measured with {name} {was}, not {now}: take the same to go on, or "
                "another folder"
            )
    results["cases"] += kept.values()  # cases that only the earlier command had
    results["date"] = date
    for entry in results["cases"]:
        if "failed" in entry["status"]:
            entry["status"] = OK


def _skip_status(entry: dict[str, Any], entries: list[dict[str, Any]]) -> str:
    """Return ``skipped: ...`` if a smaller size of the series did not succeed, else ``ok``."""
    for other in sorted(entries, key=lambda other: other["size"]):
        smaller = other["series"] == entry["series"] and other["size"] < entry["size"]
        if smaller and other["status"] != OK:
            return f"skipped: {other['status'].partition(':')[0]} at {other['size']}"
    return OK


def seconds_left(results: dict[str, Any], rounds: int) -> float:
    """Return an estimate of the seconds that the remaining runs take.

    A case that has run is expected to take its mean time again. A case that has not is extrapolated
    from the two largest sizes of its series by a power law, with an exponent of at least 1 in the
    size. In a series that has not run at all, a case is expected to take the mean time of all cases
    that have.

    Args:
        results: The content of the file, see :func:`run_sweep`.
        rounds: Number of runs of each case.
    """
    ok = [entry for entry in results["cases"] if entry["status"] == OK]
    known = {
        (entry["series"], entry["size"]): fmean(entry["seconds"])
        for entry in ok
        if entry["seconds"]
    }
    left = 0.0
    for entry in ok:
        series, size = entry["series"], entry["size"]
        smaller = sorted((s, t) for (name, s), t in known.items() if name == series and s <= size)
        if smaller:
            (size_0, time_0), (size_1, time_1) = smaller[-2:][0], smaller[-1]
            power = 1.0
            if size_0 < size_1:
                power = max(power, math.log(time_1 / time_0) / math.log(size_1 / size_0))
            expected = time_1 * (size / size_1) ** power
        else:
            expected = fmean(known.values() or [0])
        left += max(0, rounds - len(entry["records"])) * min(expected, results["time_limit"])
    return left


def run_apart(
    context: ForkServerContext, case: Case, log: Path, time_limit: float
) -> tuple[str, dict[str, Any] | None]:
    """Run a case in a new process; return its status and, if the status is ``ok``, its record."""
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(
        target=_work, args=(sender, str(log), case.run, case.size, case.options)
    )
    process.start()
    sender.close()
    try:
        try:
            receiver.recv()  # the process has finished its imports: the time starts
            if not wait([receiver, process.sentinel], time_limit):
                return TIME_LIMIT, None
            answer = receiver.recv()
            process.join(10)  # seconds for the process to clean up
            return answer
        except EOFError:
            process.join()
            if process.exitcode == -9:  # SIGKILL, sent by the kernel when memory is full
                return OUT_OF_MEMORY, None
            return f"failed: the process ended with code {process.exitcode}", None
    finally:
        process.kill()
        process.join()


def _work(
    sender: Connection,
    log: str,
    run: Callable[..., dict[str, Any]],
    size: float,
    options: dict[str, Any],
) -> None:
    """Run a case in this process, and send first "started", then the status and the record."""
    # Ctrl-C reaches the sweep as well, which then kills this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        # Make this process the first one that the kernel kills when memory is full.
        Path("/proc/self/oom_score_adj").write_text("1000")
    except OSError:
        pass  # not Linux
    with open(log, "a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sender.send("started")
    answer: tuple[str, dict[str, Any] | None]
    try:
        answer = OK, _as_json(run(size, **options))
    except Exception as e:
        traceback.print_exc()
        sys.stderr.flush()
        answer = _status_of(e), None
    sys.stdout.flush()
    sender.send(answer)


def _end_with_parent() -> None:
    """End this process when the sweep ends: a sweep that is killed cannot end its processes."""
    sweep = multiprocessing.parent_process()
    assert sweep is not None  # a case runs in a child process
    wait([sweep.sentinel])
    os._exit(1)


def _status_of(error: Exception) -> str:
    """Return ``out of memory``, or ``failed: ...`` with the error on one line."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and NO_MEMORY.search(text)
    ):
        return OUT_OF_MEMORY
    return f"failed: {type(error).__name__}: {text}"


def describe_machine() -> dict[str, Any]:
    """Return the properties of the machine on which times depend, with memory in bytes."""
    cpuinfo = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*: (.+)", cpuinfo.read_text()) if cpuinfo.exists() else []
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def describe_seconds(seconds: float) -> str:
    """Return a duration as ``0.4 s``, ``12 min`` or ``1.5 h``."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.{1 if unit == 'h' else 0}f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def _write(results: dict[str, Any], path: Path) -> None:
    """Write a JSON file atomically."""
    with atomic_write(path) as part:
        part.write_text(json.dumps(results, indent=1))
