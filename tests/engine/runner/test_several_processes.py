"""Checkpoints of a training of several processes: all save, or stop, at the same place."""

import multiprocessing
import os
import signal
import socket

import pytest
import torch
from mmengine.hooks import Hook

from gfnet_dense import cli
from gfnet_dense.utils.errors import InputError
from tests.toy import toy_runner

KILLED = 77  # exit code of a process that waited for the others in vain


class KillOneHook(Hook):
    """Hook that sends a signal to this process at a place of the training."""

    priority = "HIGH"

    def __init__(self, place, at):
        self.at = at
        setattr(self, place, self.kill)

    def kill(self, runner, *args, **kwargs):
        if runner.iter == self.at:
            self.at = None
            os.kill(os.getpid(), signal.SIGTERM)


def one_process(rank, port, folder, place, at, ranks, error):
    environment = dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=2, MASTER_PORT=port)
    os.environ.update({key: str(value) for key, value in environment.items()})
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    signal.signal(signal.SIGALRM, lambda *_: os._exit(KILLED))
    signal.alarm(40)
    hooks = [dict(type="EMAHook")]
    runner = toy_runner(folder, max_iters=8, interval=2 if error else 99, val=True, hooks=hooks,
                        launcher="pytorch")  # fmt: skip
    if rank in ranks and place:
        runner.register_hook(KillOneHook(place, at))
    if error and rank == 0:
        torch.save = failing
    try:
        cli.train(runner)
    except InputError:
        os._exit(3)
    except ZeroDivisionError:
        os._exit(4)


def failing(*args, **kwargs):
    raise ZeroDivisionError("not a matter of the disk")


def exit_codes(folder, place=None, at=None, ranks=(), error=False):
    """Train with two processes, of which some get a SIGTERM; return their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fork = multiprocessing.get_context("fork")
    processes = [
        fork.Process(target=one_process, args=(rank, port, folder, place, at, ranks, error))
        for rank in (0, 1)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    return [process.exitcode for process in processes]


@pytest.mark.parametrize("place, at, ranks, name", [
    ("before_train_iter", 2, (0, 1), "iter_3.pth"),
    ("before_train_iter", 2, (1,), "iter_3.pth"),
    ("after_train_iter", 2, (0,), "iter_3.pth"),
    ("after_val_iter", 4, (0, 1), "iter_4.pth"),
])  # fmt: skip
def test_sigterm_to_any_process_ends_all_after_the_same_iteration(place, at, ranks, name, tmp_path):
    assert exit_codes(tmp_path, place, at, ranks) == [143, 143]
    assert [path.name for path in tmp_path.glob("*.pth")] == [name]


def test_all_processes_end_if_the_main_one_cannot_save(tmp_path):
    """The error is no OSError; the other process would wait for it for half an hour."""
    assert exit_codes(tmp_path, error=True) == [4, 3]
    assert not list(tmp_path.glob("*.pth"))
