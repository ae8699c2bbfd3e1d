"""Run a function in a process of its own, and tell how it ended."""

import json
import multiprocessing
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from pathlib import Path
from textwrap import shorten
from typing import Any, TypeAlias

import torch

from gfnet_dense.utils.allocator import keep_freed_memory

Context: TypeAlias = ForkServerContext | SpawnContext
OK, OUT_OF_MEMORY, TIME_LIMIT, NO_TIME = "ok", "out of memory", "time limit", "no time left"
# With it torch.cuda.is_available() does not initialize CUDA, which no fork could use afterwards
# (https://docs.pytorch.org/docs/stable/notes/multiprocessing.html#poison-fork-in-multiprocessing).
NVML_CHECK = "PYTORCH_NVML_BASED_CUDA_CHECK"
MAX_REASON = 200  # characters of an error in a table; torch.compile's have thousands
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


def as_json(value: dict[str, Any]) -> dict[str, Any]:
    """Return ``value`` as it is read back from JSON; raise TypeError if JSON cannot hold it."""
    return json.loads(json.dumps(value))


@contextmanager
def usable_gpus() -> Iterator[None]:
    """Keep the imports of processes that start within from initializing CUDA, see NVML_CHECK.

    mmengine calls ``torch.cuda.is_available()`` when it is imported (seen in 0.10.12).
    """
    before = os.environ.get(NVML_CHECK)
    os.environ[NVML_CHECK] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[NVML_CHECK]
        else:
            os.environ[NVML_CHECK] = before


def start_method(modules: set[str], log: Path) -> Context:
    """Return forks of a server that has imported ``modules``, or new interpreters for its runs.

    Imports take seconds, and forks save them. Where they cannot use the GPUs, since something that
    the server imports initializes CUDA all the same, there are new interpreters.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(sorted(modules))
    if torch.cuda.is_available():
        status, _ = run_apart(context, Case("", 1, _use_gpu, {}), log, 60)
        if status != OK:
            return multiprocessing.get_context("spawn")
    return context


def _use_gpu(size: float) -> dict[str, Any]:
    torch.ones(1, device="cuda")
    return {}


def run_apart(
    context: Context, case: Case, log: Path, time_limit: float
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
    keep_freed_memory()
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
        answer = OK, as_json(run(size, **options))
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
    """Return ``out of memory``, or ``failed: ...`` with the beginning of the error on one line."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and NO_MEMORY.search(text)
    ):
        return OUT_OF_MEMORY
    return f"failed: {type(error).__name__}: {shorten(text, MAX_REASON, placeholder=' ...')}"
