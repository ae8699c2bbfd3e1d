"""Training that is killed at any moment, and goes on as if nothing had happened."""

import os
import random
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from gfnet_dense.checkpoints import read_checkpoint
from tests.tools.test_train import CONFIG, error_of, run, tool

MOMENTS = ("in an iteration", "while a checkpoint is written", "during validation")
DEADLINE = 300  # seconds for a run to come to the moment at which it is killed


def command(work_dir, iterations, *more):
    """The demo, with a checkpoint every second iteration and short validations."""
    options = f"train_cfg.max_iters={iterations} train_cfg.val_interval=4 randomness.seed=5 "
    options += "default_hooks.checkpoint.interval=2 default_hooks.checkpoint.max_keep_ckpts=1 "
    options += "default_hooks.logger.interval=1 train_dataloader.batch_size=2 "
    options += "train_dataloader.num_workers=2 val_dataloader.dataset.indices=6 "
    options += "param_scheduler.0.end=4 param_scheduler.1.begin=4 "
    options += f"param_scheduler.1.end={max(iterations, 8)}"
    train = tool("train", CONFIG, "--demo", "--work-dir", work_dir, *more)
    return [*train, "--cfg-options", *options.split()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, demo_data):
    path = tmp_path_factory.mktemp("kills")
    (path / "data").symlink_to(demo_data)
    return path


def state_of(path):
    """All that a training is, but for the times in its logs."""
    checkpoint = read_checkpoint(path)
    keys = ("state_dict", "ema_state_dict", "optimizer", "param_schedulers")
    kept = {key: checkpoint[key] for key in keys if key in checkpoint}
    return kept | {"iter": checkpoint["meta"]["iter"]}


def assert_same(a, b, name="state"):
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), name
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), name
        for key in a:
            assert_same(a[key], b[key], f"{name}.{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), name
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{name}.{i}")
    else:
        assert a == b, name


def kill(process: subprocess.Popen, log: Path, work_dir: Path, moment: str, delay: float) -> bool:
    """Kill a training at a moment; return whether it had come to it."""
    end = time.time() + DEADLINE
    while process.poll() is None and time.time() < end:
        text = log.read_text()
        if moment == MOMENTS[1]:
            reached = any(work_dir.glob(".*.part")) and "Iter(train)" in text
        elif moment == MOMENTS[2]:
            reached = "Saving checkpoint" in text and text.count("Iter(train)") >= 4
        else:
            reached = text.count("Iter(train)") >= 3
        if reached:
            break
        time.sleep(0.001)
    if moment != MOMENTS[1]:
        time.sleep(delay)
    if process.poll() is not None:
        return False
    process.send_signal(signal.SIGKILL)
    process.wait()
    return True


def test_killed_training_ends_as_an_undisturbed_one(folder, torture, figure):
    kills, iterations = (21, 120) if torture else (3, 16)
    result = run(command("undisturbed", iterations), folder)
    assert result.returncode == 0, result.stderr[-3000:]

    rng, killed, work_dir = random.Random(0), [], folder / "killed"
    runs = 0
    while len(killed) < kills:
        runs += 1
        assert runs < 3 * kills
        moment = MOMENTS[len(killed) % len(MOMENTS)]
        log = folder / f"log_{runs}"
        with log.open("w") as output:
            process = subprocess.Popen(
                command("killed", iterations, "--resume"),
                cwd=folder, stdout=output, stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )  # fmt: skip
            if kill(process, log, work_dir, moment, rng.uniform(0, 0.5)):
                killed.append(moment)
        assert "Traceback" not in log.read_text(), log.read_text()[-3000:]
        for path in work_dir.glob("*.pth"):  # whatever has a name is whole
            read_checkpoint(path)
        if process.returncode == 0:
            break
    result = run(command("killed", iterations, "--resume"), folder)
    assert result.returncode == 0, result.stderr[-3000:]
    assert len(killed) == kills

    name = f"iter_{iterations}.pth"
    assert_same(state_of(work_dir / name), state_of(folder / "undisturbed" / name))
    assert [p.name for p in work_dir.glob("iter_*.pth")] == [name]
    torn = list(work_dir.glob(".*"))
    figure("trainings killed by SIGKILL and resumed", len(killed))
    figure("weights, optimizer, schedule that differ from those of an undisturbed training", 0)
    assert not torn, torn


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits of processes are Linux's")
def test_a_full_disk_is_told_and_costs_no_checkpoint(folder, figure):
    """The system refuses to write more, as a full disk does, once a checkpoint is there."""
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
    read_checkpoint(kept)
    assert not list(work_dir.glob(".*"))
    saved = int(kept.stem.partition("_")[2])
    result = run(command("full", saved + 2, "--resume"), folder)
    assert result.returncode == 0, result.stderr[-3000:]
    assert f"iter: {saved}" in result.stdout
    figure("checkpoints lost when the disk was full", 0)
