"""Running the cases of a benchmark, each in a process of its own, and keeping what they tell."""

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
from pathlib import Path
from statistics import fmean

import torch

from gfnet_dense.utils.atomic_write import atomic_write
from gfnet_dense.utils.errors import InputError

OK, OUT_OF_MEMORY, TIME_LIMIT = "ok", "out of memory", "time limit"
NO_MEMORY = re.compile(r"can't allocate memory|out of memory|bad_alloc|ALLOC_FAILED")


@dataclass(frozen=True)
class Case:
    """One thing to measure.

    Attributes:
        series: A line of the plot, rows of the table: ``GFNet-H-Ti``.
        size: Its x value: side of an image or map in pixels, or a scale.
        run: A function of a module, ``run(size, **options)``, that returns a record (JSON-able).
            What its module imports is imported once, for all cases.
        options: Keyword arguments (JSON-able).
    """

    series: str
    size: int | float
    run: Callable[..., dict]
    options: dict


def run_sweep(
    cases: list[Case],
    path: Path,
    rounds: int,
    time_limit: float,
    resume: bool = False,
    settings: dict | None = None,
) -> dict:
    """Run every case once in each round, small sizes first, and keep the results in a JSON file.

    Every run is a process of its own. What it prints, and the traceback of a failure, are in a log
    beside the JSON file. A case that runs out of memory or time, or fails, has that as its status;
    it is not run again, and larger sizes of its series are skipped.

    Args:
        cases: No two with the same series and size.
        path: The JSON file, which is whole after every run.
        rounds: How often each case runs.
        time_limit: Seconds of one run, imports excluded.
        resume: Go on with what the file holds. Cases and rounds may be added; what failed is tried
            again.
        settings: What the file shall tell about the command (JSON-able).

    Returns:
        What is in the file: ``machine``, ``date``, ``time_limit``, ``settings``, ``complete``, and
        ``cases``, dicts with ``series``, ``size``, ``options``, ``status`` (``ok``, ``out of
        memory``, ``time limit``, ``failed: ...``, ``skipped: ...``), ``records`` and ``seconds``,
        one of each run that was ok.

    Raises:
        InputError: For rounds below 1, or a limit or size that is not above 0; if the file is of
            another benchmark, machine or time limit, or if it is half done and would be lost.
    """
    if rounds < 1:
        raise InputError(f"rounds is 1 or more, got {rounds}")
    if not 0 < time_limit < math.inf:
        raise InputError(f"the time limit is a number of seconds above 0, got {time_limit:g}")
    if smallest := [case.size for case in cases if not case.size > 0]:
        raise InputError(f"a size is above 0, got {smallest[0]:g}")
    results = {
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
            status, record = _skipped(entry, results["cases"]), None
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


def _new_entry(case: Case) -> dict:
    entry = {"series": case.series, "size": case.size, "options": _as_json(case.options)}
    return {**entry, "status": OK, "records": [], "seconds": []}


def _as_json(value: dict) -> dict:
    """Return ``value`` as it would be read back: lists for tuples."""
    return json.loads(json.dumps(value))


def _take_over(results: dict, path: Path, resume: bool) -> None:
    """Put the cases that a file holds into ``results``, in place, if they belong there."""
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
    results["cases"] += kept.values()  # of a command with more cases
    results["date"] = date
    for entry in results["cases"]:
        if "failed" in entry["status"]:
            entry["status"] = OK


def _skipped(entry: dict, entries: list[dict]) -> str:
    """Return why a case is not run, ``ok`` if it is."""
    for other in sorted(entries, key=lambda other: other["size"]):
        smaller = other["series"] == entry["series"] and other["size"] < entry["size"]
        if smaller and other["status"] != OK:
            return f"skipped: {other['status'].partition(':')[0]} at {other['size']}"
    return OK


def seconds_left(results: dict, rounds: int) -> float:
    """Return how long the runs to come may take.

    A case takes as long as it did. Before it ran, the time of the smaller ones of its series goes
    on to grow as it last did, but at least linearly with the size; without any, it takes as long
    as the cases of other series.
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


def run_apart(context, case: Case, log: Path, time_limit: float) -> tuple[str, dict | None]:
    """Run a case in a new process; return its status and, if that is ``ok``, its record."""
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(
        target=_work, args=(sender, str(log), case.run, case.size, case.options)
    )
    process.start()
    sender.close()
    try:
        try:
            receiver.recv()  # it has imported what it needs, the time starts
            if not wait([receiver, process.sentinel], time_limit):
                return TIME_LIMIT, None
            answer = receiver.recv()
            process.join(10)  # to clean up
            return answer
        except EOFError:
            process.join()
            if process.exitcode == -9:  # SIGKILL: by the kernel, when memory was full
                return OUT_OF_MEMORY, None
            return f"failed: the process ended with code {process.exitcode}", None
    finally:
        process.kill()
        process.join()


def _work(sender: Connection, log: str, run: Callable[..., dict], size, options: dict) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the sweep, too, which kills this
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        # When memory is full the kernel ends this process, not another one.
        Path("/proc/self/oom_score_adj").write_text("1000")
    except OSError:
        pass  # not Linux
    with open(log, "a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sender.send("started")
    try:
        answer = OK, _as_json(run(size, **options))
    except Exception as e:
        traceback.print_exc()
        sys.stderr.flush()
        answer = _status_of(e), None
    sys.stdout.flush()
    sender.send(answer)


def _end_with_parent() -> None:
    """End this process when the sweep is killed, which leaves it no time to do so."""
    wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def _status_of(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and NO_MEMORY.search(text)
    ):
        return OUT_OF_MEMORY
    return f"failed: {type(error).__name__}: {text}"


def describe_machine() -> dict:
    """Return what times depend on: processor, cores, threads, memory, GPU, versions."""
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


def _write(results: dict, path: Path) -> None:
    """Write a JSON file, whole or not at all."""
    with atomic_write(path) as part:
        part.write_text(json.dumps(results, indent=1))
