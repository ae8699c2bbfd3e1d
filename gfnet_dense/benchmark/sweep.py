"""Run the cases of a benchmark, each in a process of its own, and keep the results in a file."""

import json
import math
import os
import platform
import re
import subprocess
import time
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from gfnet_dense.utils.atomic_write import atomic_write
from gfnet_dense.utils.errors import InputError

from .processes import (
    NO_TIME,
    OK,
    TIME_LIMIT,
    Case,
    as_json,
    run_apart,
    start_method,
    usable_gpus,
)


def run_sweep(
    cases: list[Case],
    path: Path,
    rounds: int,
    time_limit: float,
    resume: bool = False,
    settings: dict[str, Any] | None = None,
    budget: float = math.inf,
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
        budget: Seconds of the whole sweep. A run that would not end in time, as far as the smaller
            sizes tell, is left out with the status ``no time left``.

    Returns:
        The content of the file: ``machine``, ``date``, ``time_limit``, ``settings``, ``complete``
        (whether all runs were made) and ``cases``: dicts with ``series``, ``size``, ``options``,
        ``status`` (``ok``, ``out of memory``, ``time limit``, ``no time left``, ``failed: ...``,
        ``skipped: ...``),
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

    entries = {(entry["series"], entry["size"]): entry for entry in results["cases"]}
    cases = sorted(cases, key=lambda case: case.size)
    end = time.monotonic() + budget
    with usable_gpus():
        context = start_method({case.run.__module__ for case in cases}, log)
        for round_ in range(rounds):
            for i, case in enumerate(cases):
                entry = entries[case.series, case.size]
                if entry["status"] != OK or len(entry["records"]) > round_:
                    continue
                print(f"round {round_ + 1}/{rounds}, {i + 1}/{len(cases)}: ", end="")
                print(f"{case.series} at {case.size}: ", end="", flush=True)
                start = time.perf_counter()
                status, record = _skip_status(entry, results["cases"]), None
                left = end - time.monotonic()
                if status == OK and expected_seconds(entry, results) > left:
                    status = NO_TIME
                if status == OK:
                    limit = min(time_limit, left)
                    status, record = run_apart(context, case, log, limit)
                    if status == TIME_LIMIT and limit < time_limit:
                        status = NO_TIME
                seconds = time.perf_counter() - start
                entry["status"] = status
                if status == OK:
                    entry["records"].append(record)
                    entry["seconds"].append(seconds)
                _write(results, path)
                left = min(seconds_left(results, rounds), max(0, end - time.monotonic()))
                print(f"{status}, {describe_seconds(seconds)}; ", end="")
                print(f"about {describe_seconds(left)} left", flush=True)
    results["complete"] = True
    _write(results, path)
    return results


def _new_entry(case: Case) -> dict[str, Any]:
    """Return the entry of a case in the file before its first run."""
    entry = {"series": case.series, "size": case.size, "options": as_json(case.options)}
    return {**entry, "status": OK, "records": [], "seconds": []}


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
        if "failed" in entry["status"] or NO_TIME in entry["status"]:
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

    Args:
        results: The content of the file, see :func:`run_sweep`.
        rounds: Number of runs of each case.
    """
    left = 0.0
    for entry in results["cases"]:
        if entry["status"] == OK and (runs := max(0, rounds - len(entry["records"]))):
            left += runs * min(expected_seconds(entry, results), results["time_limit"])
    return left


def expected_seconds(entry: dict[str, Any], results: dict[str, Any]) -> float:
    """Return an estimate of the seconds of the next run of a case.

    A case that has run is expected to take its mean time again. A case that has not is extrapolated
    from the two largest sizes of its series by a power law, with an exponent of at least 1 in the
    size. In a series that has not run at all, a case is expected to take the mean time of all cases
    that have.

    Args:
        entry: One of the cases in ``results``.
        results: The content of the file, see :func:`run_sweep`.
    """
    known = {
        (other["series"], other["size"]): fmean(other["seconds"])
        for other in results["cases"]
        if other["status"] == OK and other["seconds"]
    }
    series, size = entry["series"], entry["size"]
    smaller = sorted((s, t) for (name, s), t in known.items() if name == series and s <= size)
    if not smaller:
        return fmean(known.values() or [0])
    (size_0, time_0), (size_1, time_1) = smaller[-2:][0], smaller[-1]
    power = 1.0
    if size_0 < size_1:
        power = max(power, math.log(time_1 / time_0) / math.log(size_1 / size_0))
    return time_1 * (size / size_1) ** power


def describe_machine() -> dict[str, Any]:
    """Return the properties of the machine on which times depend, with memory in bytes."""
    cpuinfo = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*: (.+)", cpuinfo.read_text()) if cpuinfo.exists() else []
    gpus = torch.cuda.device_count()
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),  # such as AVX2, AVX512
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpu": ", ".join(map(torch.cuda.get_device_name, range(gpus))) or None,
        "driver": _nvidia_driver() if gpus else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _nvidia_driver() -> str | None:
    """Return the version of NVIDIA's driver, which PyTorch does not know; None if unknown."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        text = subprocess.run(command, capture_output=True, text=True, timeout=30).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    return text.partition("\n")[0].strip() or None


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
