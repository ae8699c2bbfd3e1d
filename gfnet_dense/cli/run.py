"""Running training and testing as commands, with their signals and exit codes."""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from gfnet_dense.utils.errors import InputError

if TYPE_CHECKING:  # --help must answer without importing the runner
    from mmengine.runner import Runner

# Seconds in which a second SIGTERM counts as the first: Slurm and torchrun send one each.
SAME_SIGNAL = 3


def train(runner: "Runner") -> None:
    """Train, and answer signals; each exit says how to resume.

    Ctrl-C ends the training at once, with the code 130. SIGTERM ends it with the code 143 after a
    checkpoint of the running iteration, a second SIGTERM at once. SIGUSR1 saves a checkpoint.
    """
    from gfnet_dense.engine.hooks.save_request_hook import SaveRequestHook, Stopped

    start, main = time.time(), os.getpid()
    ends: dict[int, float] = {}  # time of the first signal of each kind that ends the training
    hook = SaveRequestHook()
    runner.register_hook(hook)

    def interrupt(number: int, frame: FrameType | None) -> None:
        ends[number] = time.time()
        raise KeyboardInterrupt

    def terminate(number: int, frame: FrameType | None) -> None:
        if os.getpid() != main:  # a process that a metric has forked, and that its pool ends
            os._exit(128 + number)
        # Workers of DataLoaders may have got the signal as well. They are not needed any more, and
        # PyTorch would raise an error here, in the middle of an iteration.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if time.time() - ends.setdefault(number, time.time()) > SAME_SIGNAL:
            hook.is_whole = False  # it is not saved
            raise KeyboardInterrupt
        hook.request(stop=True)

    def save(number: int, frame: FrameType | None) -> None:
        hook.request(stop=False)

    handlers = {signal.SIGINT: interrupt, signal.SIGTERM: terminate, signal.SIGUSR1: save}
    with _signal_handlers(handlers):
        try:
            runner.train()
        except InputError:
            raise
        except BaseException as e:
            # mmengine turns a KeyboardInterrupt into another error while it formats a config.
            if not ends and not isinstance(e, Stopped):
                raise
            if signal.SIGTERM in ends and signal.SIGINT not in ends:
                hook.save_if_whole(runner)
            if runner.rank == 0 or not isinstance(e, Stopped):
                print(f"\ninterrupted; {_how_to_resume(runner, start)}", file=sys.stderr)
            _exit(runner, 128 + (signal.SIGINT if signal.SIGINT in ends else signal.SIGTERM))
    _exit_if_gloo(runner)


def test(runner: "Runner") -> None:
    """Run the test loop of a runner."""
    runner.test()
    _exit_if_gloo(runner)


@contextmanager
def _signal_handlers(handlers: dict[signal.Signals, Callable[..., Any]]) -> Iterator[None]:
    """Handle signals in the ``with`` block, and put the former handlers back at its end."""
    former = {number: signal.getsignal(number) for number in [*handlers, signal.SIGCHLD]}
    for number, handler in handlers.items():
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, each in former.items():
            if each is not None:  # one that was not installed by Python cannot be put back
                signal.signal(number, each)


def _how_to_resume(runner: "Runner", start: float) -> str:
    from gfnet_dense.engine.state_keys import LAST_CHECKPOINT, NONE_YET

    last = Path(runner.work_dir) / LAST_CHECKPOINT
    name = Path(last.read_text().strip()).name if last.exists() else NONE_YET
    # An older file is from a previous run in the same work directory.
    if name != NONE_YET and (runner.cfg.get("resume") or last.stat().st_mtime > start):
        return f"the same command with --resume goes on from {name}"
    return "before the first checkpoint of this run"


def _exit(runner: "Runner", code: int) -> None:
    _exit_if_gloo(runner, code)
    sys.exit(code)


def _exit_if_gloo(runner: "Runner", code: int = 0) -> None:
    """End the process at once if its distributed run uses gloo, the backend for CPUs.

    The shutdown of gloo sometimes hangs at the end of a process.
    """
    import torch

    if runner.distributed and torch.distributed.get_backend() == "gloo":
        for worker in multiprocessing.active_children():
            worker.kill()  # workers of DataLoaders would live on and keep the output open
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
