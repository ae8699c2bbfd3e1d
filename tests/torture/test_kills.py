"""Training that is killed at any moment and resumes without a difference in its results."""

import os
import random
import re
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from gfnet_dense.checkpoint.safe_reader import read_checkpoint
from tests.commands import CONFIG, error_of, run, tool

MOMENTS = ("in an iteration", "while a checkpoint is written", "during validation")
DEADLINE = 300  # seconds in which a run must reach the moment of its kill
ENDLESS = 10**6  # iterations


def command(work_dir, iterations, *more):
    """Return the command of a demo training with a checkpoint every second iteration.

    Validations are short, and the schedule does not depend on the number of iterations.
    """
    options = f"train_cfg.max_iters={iterations} train_cfg.val_interval=4 randomness.seed=5 "
    options += "default_hooks.checkpoint.interval=2 default_hooks.checkpoint.max_keep_ckpts=1 "
    options += "default_hooks.logger.interval=1 train_dataloader.batch_size=2 "
    options += "train_dataloader.num_workers=2 val_dataloader.dataset.indices=6 "
    options += "param_scheduler.0.end=4 param_scheduler.1.begin=4 param_scheduler.1.end=500"
    train = tool("train", CONFIG, "--demo", "--work-dir", work_dir, *more)
    return [*train, "--cfg-options", *options.split()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, demo_data):
    path = tmp_path_factory.mktemp("kills")
    (path / "data").symlink_to(demo_data)
    return path


def state_of(path):
    """Return the state of a training, without the times in its logs."""
    checkpoint = read_checkpoint(path)
    keys = ("state_dict", "ema_state_dict", "optimizer", "param_schedulers")
    kept = {key: checkpoint[key] for key in keys if key in checkpoint}
    return kept | {"iter": checkpoint["meta"]["iter"]}


def differences(a, b, name="state"):
    """Return the names of values that are not equal bit for bit."""
    if isinstance(a, torch.Tensor):
        return [] if torch.equal(a, b) else [name]
    if isinstance(a, (list, tuple)):
        a, b = dict(enumerate(a)), dict(enumerate(b))
    if isinstance(a, dict):
        if a.keys() != b.keys():
            return [name]
        return [x for key in a for x in differences(a[key], b[key], f"{name}.{key}")]
    return [] if a == b else [name]


def kill(process: subprocess.Popen, log: Path, work_dir: Path, moment: str, rng) -> bool:
    """Kill a training at a moment; return False if it ended by itself before."""
    end, count = time.time() + DEADLINE, rng.randint(1, 4)
    while process.poll() is None and time.time() < end:
        lines = log.read_text().splitlines()
        trained = sum("Iter(train) [" in line for line in lines)
        validated = sum("Iter(val) [" in line for line in lines)
        if moment == MOMENTS[1]:
            reached = trained and any(work_dir.glob(".*.part"))
        elif moment == MOMENTS[2]:
            reached = validated >= count and trained and "Iter(val) [" in lines[-1]
        else:
            reached = trained >= count
        if reached:
            break
        time.sleep(0.001)
    if moment == MOMENTS[0]:
        time.sleep(rng.uniform(0, 0.3))
    if process.poll() is not None:
        return False
    process.send_signal(signal.SIGKILL)
    process.wait()
    return True


def start(folder, log, *arguments):
    with log.open("w") as output:
        return subprocess.Popen(
            command(*arguments), cwd=folder, stdout=output, stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip


def test_training_killed_many_times_ends_in_the_state_of_an_undisturbed_one(
    folder, torture, figure
):
    kills = 21 if torture else 3
    rng, killed, work_dir = random.Random(0), [], folder / "killed"
    for i in range(2 * kills):
        moment, log = MOMENTS[i % len(MOMENTS)], folder / f"log_{i}"
        process = start(folder, log, "killed", ENDLESS, "--resume")
        if kill(process, log, work_dir, moment, rng):
            killed.append(moment)
        else:  # workers of a killed training may print a traceback
            assert "Traceback" not in log.read_text(), log.read_text()[-3000:]
        for path in work_dir.glob("*.pth"):  # every file with a final name is complete
            read_checkpoint(path)
        if len(killed) == kills:
            break
    assert len(killed) == kills
    saved = int((work_dir / "last_checkpoint").read_text().rpartition("_")[2].partition(".")[0])
    iterations = saved + 4
    for name in ("killed", "undisturbed"):
        result = run(command(name, iterations, "--resume"), folder)
        assert result.returncode == 0, result.stderr[-3000:]

    name = f"iter_{iterations}.pth"
    states = [state_of(folder / run / name) for run in ("killed", "undisturbed")]
    differing = differences(*states)
    for moment in MOMENTS:
        figure(f"killed by SIGKILL {moment}, resumed", killed.count(moment))
    figure("iterations of the killed training", iterations)
    figure("tensors and numbers at its end that differ from an undisturbed one's", len(differing))
    assert not differing
    assert [p.name for p in work_dir.glob("iter_*.pth")] == [name]
    assert not list(work_dir.glob(".*"))  # no partial file is left


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits of processes are Linux's")
def test_full_disk_gives_a_one_line_error_and_keeps_the_last_checkpoint(folder, figure):
    """After the first checkpoint, a limit on the size of files stands for a full disk."""
    work_dir = folder / "full"
    process = subprocess.Popen(
        command("full", 400), cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    end = time.time() + DEADLINE
    while not any(work_dir.glob("iter_*.pth")) and process.poll() is None and time.time() < end:
        time.sleep(0.01)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (2**20, 2**20))
    stdout, stderr = process.communicate(timeout=DEADLINE)
    result = subprocess.CompletedProcess([], process.returncode, stdout, stderr)
    error = error_of(result)
    assert "could not be written" in error and "iter_" in error and "--resume" in error
    (kept,) = work_dir.glob("iter_*.pth")
    before = read_checkpoint(kept)
    assert not list(work_dir.glob(".*"))
    saved = int(kept.stem.partition("_")[2])
    result = run(command("full", saved + 2, "--resume"), folder)
    assert result.returncode == 0, result.stderr[-3000:]
    assert f"iter: {saved}" in result.stdout and before["meta"]["iter"] == saved
    resumed = re.search(r"iter: (\d+)", result.stdout)[1]
    figure("full disk: last checkpoint at iteration, resumed from", f"{saved}, {resumed}")
