"""Checkpoints of a training of several processes: all save, or stop, at the same place."""

import multiprocessing
import os
import signal
import socket

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook

from gfnet_dense import cli
from gfnet_dense.engine.runner import resuming
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


def be_process(rank, port):
    """Make this process one of two, which ends by itself if it waits for the other in vain."""
    environment = dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=2, MASTER_PORT=port)
    os.environ.update({key: str(value) for key, value in environment.items()})
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    signal.signal(signal.SIGALRM, lambda *_: os._exit(KILLED))
    signal.alarm(40)


def one_process(rank, port, folder, place, at, ranks, error):
    be_process(rank, port)
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
    return in_two_processes(one_process, folder, place, at, ranks, error)


def in_two_processes(function, *arguments):
    """Run function(rank, port, *arguments) in two processes; return their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=function, args=(rank, port, *arguments)) for rank in (0, 1)]
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


def find_start(rank, port, folders):
    """Write the start that this process finds, and the number of files that it has read for it."""
    be_process(rank, port)
    count, read = [], resuming.read_checkpoint
    resuming.read_checkpoint = lambda path: count.append(path) or read(path)
    os.chdir(folders[rank])
    cfg = Config(dict(work_dir=".", launcher="pytorch"))
    try:
        found = resuming.agreed_start(cfg)
    except InputError as e:
        found = e
    (folders[0] / f"found_{rank}").write_text(f"{found}; {len(count)} read")
    os._exit(0)


@pytest.mark.parametrize("kind, sentences", [
    ("whole", ["iter_4.pth'), 7); 1 read", "iter_4.pth'), 7); 0 read"]),
    ("no checkpoint", ["None; 0 read"] * 2),
    ("the newest is torn", ["iter_2.pth'), 7); 2 read", "iter_2.pth'), 7); 0 read"]),
    ("all are torn", ["none can be read", "none can be read"]),
    ("missing on the second machine", ["would start from iter_4.pth, the beginning"] * 2),
    ("missing on the first machine", ["would start from the beginning, iter_4.pth"] * 2),
])  # fmt: skip
def test_the_main_process_alone_reads_the_checkpoints_and_tells_the_others(
    kind, sentences, tmp_path
):
    places = [tmp_path / name for name in ("first", "second")]
    for place in places:
        place.mkdir()
    folders = places if "machine" in kind else places[:1] * 2
    start = places["first machine" in kind]
    if kind != "no checkpoint":
        for number, name in enumerate(["iter_2.pth", "iter_4.pth"]):
            torch.save({"state_dict": {}, "meta": {"seed": 7}}, start / name)
            if kind == "all are torn" or (kind == "the newest is torn" and number):
                (start / name).write_bytes(b"torn")
            os.utime(start / name, (number, number))
    assert in_two_processes(find_start, folders) == [0, 0]
    for rank, sentence in enumerate(sentences):
        assert sentence in (folders[0] / f"found_{rank}").read_text()
