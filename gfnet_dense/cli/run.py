"""Training and testing as commands, with their signals and exit codes."""

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path


def train(runner) -> None:
    """Train; when interrupted, say how to go on, and exit."""
    start, signals = time.time(), []

    def interrupt(number, frame):
        signals.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    try:
        runner.train()
    except BaseException:
        # mmengine makes another error of an interrupt while it formats a config.
        if not signals:
            raise
        from gfnet_dense.engine.state_keys import LAST_CHECKPOINT, NONE_YET

        last = Path(runner.work_dir) / LAST_CHECKPOINT
        name = Path(last.read_text().strip()).name if last.exists() else NONE_YET
        if name != NONE_YET and last.stat().st_mtime > start:  # not another run's
            how = f"the same command with --resume goes on from {name}"
        else:
            how = "before the first checkpoint of this run"
        print(f"\ninterrupted; {how}", file=sys.stderr)
        sys.exit(130)
    _leave_gloo(runner)


def test(runner) -> None:
    """Evaluate."""
    runner.test()
    _leave_gloo(runner)


def _leave_gloo(runner) -> None:
    """End a process of a distributed run without a GPU: gloo's sometimes hang at their end."""
    import torch

    if runner.distributed and torch.distributed.get_backend() == "gloo":
        for loader in multiprocessing.active_children():
            loader.kill()  # they would outlive it, and keep its output open
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
