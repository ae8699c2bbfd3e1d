"""Running training and testing as commands, with their signals and exit codes."""

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # --help must answer without importing the runner
    from mmengine.runner import Runner


def train(runner: "Runner") -> None:
    """Train, and after Ctrl-C print how to resume and exit with the code 130."""
    start = time.time()
    signals: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        signals.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    try:
        runner.train()
    except BaseException:
        # mmengine turns a KeyboardInterrupt into another error while it formats a config.
        if not signals:
            raise
        from gfnet_dense.engine.state_keys import LAST_CHECKPOINT, NONE_YET

        last = Path(runner.work_dir) / LAST_CHECKPOINT
        name = Path(last.read_text().strip()).name if last.exists() else NONE_YET
        # An older file is from a previous run in the same work directory.
        if name != NONE_YET and last.stat().st_mtime > start:
            how = f"the same command with --resume goes on from {name}"
        else:
            how = "before the first checkpoint of this run"
        print(f"\ninterrupted; {how}", file=sys.stderr)
        sys.exit(130)
    _exit_if_gloo(runner)


def test(runner: "Runner") -> None:
    """Run the test loop of a runner."""
    runner.test()
    _exit_if_gloo(runner)


def _exit_if_gloo(runner: "Runner") -> None:
    """End the process at once if its distributed run uses gloo, the backend for CPUs.

    The shutdown of gloo sometimes hangs at the end of a process.
    """
    import torch

    if runner.distributed and torch.distributed.get_backend() == "gloo":
        for worker in multiprocessing.active_children():
            worker.kill()  # workers of DataLoaders would live on and keep the output open
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
