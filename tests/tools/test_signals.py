"""Signals that a training gets from its user or from a scheduler."""

import multiprocessing
import os
import re
import signal
import subprocess
import time
from contextlib import nullcontext

import pytest
from mmengine.hooks import Hook

from gfnet_dense import cli
from gfnet_dense.checkpoint.safe_reader import read_checkpoint
from gfnet_dense.cli import run as running
from tests.commands import CONFIG, SHORT, tool
from tests.toy import toy_runner

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD)


class KillHook(Hook):
    """Hook that sends signals to this process after an iteration, before its checkpoint.

    Args:
        signals: Signals for the iterations by number.
        workers: Send them to the workers of the DataLoader as well, as Slurm does.
    """

    priority = "HIGH"

    def __init__(self, signals, workers=False):
        self.signals, self.workers = signals, workers

    def after_train_iter(self, runner, *args, **kwargs):
        number = self.signals.get(runner.iter + 1)
        if number is not None:
            os.kill(os.getpid(), number)
            for worker in multiprocessing.active_children() if self.workers else ():
                os.kill(worker.pid, number)
                worker.join()
            time.sleep(0.01)


def trained(folder, signals, code, workers=False, **settings):
    """Train as the command does, and check its exit code; return the names of checkpoints."""
    runner = toy_runner(folder, **dict(interval=99) | settings)
    runner.register_hook(KillHook(signals, workers))
    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(SystemExit) if code else nullcontext() as error:
        cli.train(runner)
    assert not code or error.value.code == code
    assert [signal.getsignal(number) for number in SIGNALS] == before
    return sorted(path.name for path in folder.glob("*.pth"))


class PoolHook(Hook):
    """Hook that computes in a pool of processes, as mmdetection's VOCMetric does."""

    def after_val_epoch(self, runner, metrics=None):
        with multiprocessing.get_context("fork").Pool(2) as pool:
            pool.map(abs, range(4))
        time.sleep(0.2)


def test_the_end_of_a_pool_of_processes_is_no_signal_of_the_user(tmp_path, capfd):
    """Pools end their processes by SIGTERM, at which each of them printed a traceback."""
    runner = toy_runner(tmp_path, val=True)
    runner.register_hook(PoolHook())
    cli.train(runner)
    assert "Traceback" not in capfd.readouterr().err


TERM, INT, USR1 = signal.SIGTERM, signal.SIGINT, signal.SIGUSR1
CASES = [
    ("SIGTERM", {5: TERM}, 143, ["iter_5.pth"]),
    ("SIGUSR1", {5: USR1}, 0, ["iter_5.pth", "iter_8.pth"]),
    ("SIGUSR1 twice", {3: USR1, 5: USR1}, 0, ["iter_3.pth", "iter_5.pth", "iter_8.pth"]),
    ("SIGUSR1, then SIGTERM", {3: USR1, 5: TERM}, 143, ["iter_3.pth", "iter_5.pth"]),
    ("SIGINT", {5: INT}, 130, []),
]


@pytest.mark.parametrize("what, signals, code, names", CASES, ids=[case[0] for case in CASES])
def test_signals_save_or_end_a_training(what, signals, code, names, tmp_path, capsys):
    assert trained(tmp_path, signals, code, max_keep_ckpts=-1) == names
    err = capsys.readouterr().err
    if names and code:
        assert f"interrupted; the same command with --resume goes on from {names[-1]}" in err
    elif code:
        assert "interrupted; before the first checkpoint of this run" in err


@pytest.mark.parametrize("seconds, names", [(60, ["iter_6.pth"]), (-1, [])])
def test_second_sigterm_counts_as_the_first_or_ends_at_once(seconds, names, tmp_path, monkeypatch):
    """Slurm and torchrun send a SIGTERM each. Gradients wait for a step until iteration 6."""
    monkeypatch.setattr(running, "SAME_SIGNAL", seconds)
    settings = dict(optim_wrapper=dict(accumulative_counts=3))
    found = trained(tmp_path, {4: TERM, 5: TERM}, 143, **settings)
    assert found == names


def test_workers_that_got_the_signal_as_well_cost_no_iteration(tmp_path):
    assert trained(tmp_path, {5: TERM}, 143, workers=True, num_workers=2) == ["iter_5.pth"]


def test_workers_that_have_ended_while_gradients_wait_cost_no_checkpoint(tmp_path, capsys):
    """No further batch comes: the gradients of the window are lost, not the checkpoint before."""
    settings = dict(interval=3, optim_wrapper=dict(accumulative_counts=3))
    assert trained(tmp_path, {5: TERM}, 143, True, num_workers=2, **settings) == ["iter_3.pth"]
    assert "goes on from iter_3.pth" in capsys.readouterr().err


def test_training_command_saves_on_the_signals_of_a_scheduler(demo_data, tmp_path):
    """SIGTERM goes to the whole process group."""
    (tmp_path / "data").symlink_to(demo_data)
    options = [*SHORT.split(), "train_cfg.max_iters=400", "train_cfg.val_interval=400"]
    options += ["default_hooks.checkpoint.interval=400", "train_dataloader.num_workers=2"]
    command = tool("train", CONFIG, "--demo", "--work-dir", "run", "--cfg-options", *options)
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    trained = []
    for line in process.stdout:
        found = re.search(r"Iter\(train\) \[ *(\d+)/", line)
        trained += map(int, found.groups() if found else ())
        if found and trained[-1] == 2:
            process.send_signal(signal.SIGUSR1)
        if "was saved on request; the training goes on" in line:
            (requested,) = (path.stem for path in (tmp_path / "run").glob("*.pth"))
        if found and trained[-1] == 5:
            os.killpg(process.pid, signal.SIGTERM)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 143 and "Traceback" not in stderr, stderr[-3000:]
    assert requested in ("iter_2", "iter_3", "iter_4", "iter_5")
    assert f"--resume goes on from iter_{trained[-1]}.pth" in stderr
    saved = read_checkpoint(tmp_path / "run" / f"iter_{trained[-1]}.pth")
    assert saved["meta"]["iter"] == trained[-1] >= 5
