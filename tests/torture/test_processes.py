"""Distributed runs, started as a user starts them, on CPUs with gloo."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from gfnet_dense.checkpoint.safe_reader import read_checkpoint
from gfnet_dense.demo import write_ade20k
from tests.commands import CONFIG, SHORT, run, tool
from tests.conftest import ROOT

NO_GPU = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHON": sys.executable}
MARK = "GFNET_DENSE_TEST_RUN"  # in the environment of all processes of a run
METRICS = re.compile(r"(aAcc|mIoU|mAcc): ([\d.]+)")

linux = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="/proc is Linux's")
pytestmark = linux


class Run:
    """A run of tools/NAME.sh and all processes that it starts, in any session."""

    count = 0

    def __init__(self, name, *arguments, cwd, **variables):
        Run.count += 1
        self.mark = f"{MARK}={os.getpid()}.{Run.count}"
        environment = {**os.environ, **NO_GPU, MARK: self.mark.partition("=")[2], **variables}
        command = [str(ROOT / "tools" / f"{name}.sh"), *map(str, arguments)]
        self.process = subprocess.Popen(
            command, cwd=cwd, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def members(self):
        """Return the processes that have not ended."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                environment = (folder / "environ").read_bytes().split(b"\0")
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:  # the process has ended meanwhile
                continue
            if self.mark.encode() in environment and state != "Z":
                found.append(int(folder.name))
        return found

    def finish(self, timeout=400):
        """Wait for the end, check that no process is left; return exit code, stdout and stderr."""
        try:
            stdout, stderr = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            for number in self.members():
                os.kill(number, signal.SIGKILL)
            raise
        self.left = None
        for _ in range(50):  # the output is closed shortly before the end
            self.left = len(self.members())
            if not self.left:
                break
            time.sleep(0.1)
        assert not self.left
        return self.process.returncode, stdout, stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory, demo_data):
    path = tmp_path_factory.mktemp("processes")
    (path / "data").symlink_to(demo_data)
    return path


@pytest.fixture(scope="module")
def trained(folder):
    """The demo trained by two processes for four iterations."""
    options = ["--demo", "--work-dir", "trained", "--cfg-options", *SHORT.split()]
    code, stdout, stderr = Run("dist_train", CONFIG, 2, *options, cwd=folder).finish()
    assert code == 0, stderr[-3000:]
    return folder / "trained" / "iter_4.pth", stdout


def test_all_processes_of_a_run_are_found(tmp_path):
    """The launcher starts its processes in sessions of their own, which must be found as well."""
    (tmp_path / "a.sh").write_text("#!/bin/sh\nsetsid sleep 60 >/dev/null 2>&1 &\nsleep 60\n")
    (tmp_path / "a.sh").chmod(0o755)
    run = Run(os.path.relpath(tmp_path / "a", ROOT / "tools"), cwd=tmp_path)
    try:
        end = time.time() + 20
        while len(run.members()) < 3 and time.time() < end:
            time.sleep(0.05)
        assert len(run.members()) == 3
    finally:
        for number in run.members():
            os.kill(number, signal.SIGKILL)
    run.finish()


def run_module(name, out, processes=2):
    """Run a module beside this one, which writes to ``out``, in several processes."""
    launch = ["torch.distributed.run", f"--nproc-per-node={processes}", "--standalone", "-m"]
    module = [*(launch if processes > 1 else []), f"tests.torture.{name}", str(out)]
    result = run([sys.executable, "-m", *module], ROOT, {**os.environ, **NO_GPU})
    assert result.returncode == 0, result.stderr[-3000:]


def largest_difference(one, two):
    """Return the largest relative difference of tensors by name."""
    assert one.keys() == two.keys()
    differences = [float((two[k] - one[k]).norm() / one[k].norm()) for k in one]
    assert all(d == d for d in differences)  # NaN is hidden by max
    return max(differences)


def test_gradients_of_two_processes_equal_those_of_one_with_twice_the_batch(tmp_path, figure):
    run_module("gradients", tmp_path / "one", processes=1)
    run_module("gradients", tmp_path / "two")
    one, two = (torch.load(tmp_path / name) for name in ("one", "two"))
    worst = largest_difference(one, two)
    assert worst <= 1e-9
    figure(
        "gradients of 2 processes in float64, largest relative difference of a tensor",
        f"{worst:.1e}",
    )


def test_gradients_of_sharded_weights_equal_those_of_one_process(tmp_path, figure):
    """PyTorch's fully_shard, which works on CPUs: docs/reliability.md."""
    run_module("sharded", tmp_path / "out")
    found = torch.load(tmp_path / "out")
    worst = largest_difference(found["whole"], found["sharded"])
    assert worst < 1e-10 and 0.4 < found["share"] < 0.6
    figure("gradients of weights shared out (FSDP) among 2, largest difference", f"{worst:.1e}")


def test_all_processes_skip_a_step_whose_loss_is_infinite_in_one_process(tmp_path):
    """Weights and statistics of both processes are the same."""
    run_module("left_out", tmp_path)
    one, two = (torch.load(tmp_path / f"rank_{rank}") for rank in (0, 1))
    assert one["steps"] == two["steps"] == 7
    for name, weight in one["state_dict"].items():
        assert torch.equal(weight, two["state_dict"][name]), name


def test_metrics_of_two_processes_equal_those_of_one(trained, folder, figure):
    """The number of images is odd: two processes get unequal shares."""
    checkpoint, _ = trained
    options = ["--demo", "--cfg-options", *SHORT.split(), "test_dataloader.dataset.indices=5"]
    one = run(tool("test", CONFIG, checkpoint, *options), folder)
    code, stdout, stderr = Run("dist_test", CONFIG, checkpoint, 2, *options, cwd=folder).finish()
    assert code == 0, stderr[-3000:]
    expected, found = METRICS.findall(one.stdout), METRICS.findall(stdout)
    assert len(expected) == len(found) == 3
    differing = sum(a != b for a, b in zip(expected, found, strict=True))
    figure("metrics of 2 processes that differ from those of one", f"{differing} of 3")
    assert differing == 0


def test_validation_by_two_processes_equals_a_test_of_the_checkpoint(trained, folder):
    """AverageStatisticsHook gives both processes the batch norm statistics of the checkpoint."""
    checkpoint, stdout = trained
    options = ["--demo", "--cfg-options", *SHORT.split()]
    one = run(tool("test", CONFIG, checkpoint, *options), folder)
    assert METRICS.findall(one.stdout) == METRICS.findall(stdout) != []


def test_training_on_two_machines_ends_with_a_checkpoint(folder):
    """Two launchers with one process each stand for two machines."""
    options = ["--demo", "--work-dir", "machines", "--cfg-options", *SHORT.split()]
    settings = dict(NNODES="2", MASTER_ADDR="127.0.0.1", PORT="29617")
    runs = [
        Run("dist_train", CONFIG, 1, *options, cwd=folder, NODE_RANK=rank, **settings)
        for rank in ("0", "1")
    ]
    outputs = [run.finish() for run in runs]
    assert [code for code, _, _ in outputs] == [0, 0], outputs[0][2][-3000:]
    assert (folder / "machines" / "iter_4.pth").exists()
    # One training of two processes: the second one writes no log.
    assert ["Iter(train)" in stdout for _, stdout, _ in outputs] == [True, False]


def test_two_machines_without_a_common_work_dir_refuse_to_resume(trained, folder, tmp_path):
    """One machine would start from scratch and send its gradients to the other."""
    (tmp_path / "data").symlink_to(folder / "data")
    options = ["--resume", "--demo", "--work-dir", "trained", "--cfg-options", *SHORT.split()]
    settings = dict(NNODES="2", MASTER_ADDR="127.0.0.1", PORT="29618")
    runs = [
        Run("dist_train", CONFIG, 1, *options, cwd=cwd, NODE_RANK=rank, **settings)
        for rank, cwd in (("0", folder), ("1", tmp_path))
    ]
    for run_ in runs:
        code, _, stderr = run_.finish()
        assert code == 1
        assert "would start from iter_4.pth, the beginning: --resume needs a work dir" in stderr


def test_error_in_a_process_is_printed_as_one_sentence(tmp_path):
    """The other processes and the launcher do not hide the error."""
    root = write_ade20k(tmp_path / "data" / "demo")
    for path in sorted((root / "images" / "training").iterdir())[::2]:
        path.write_bytes(path.read_bytes()[:2000])
    options = ["--demo", "--cfg-options", *SHORT.split(), "train_cfg.max_iters=40"]
    code, stdout, stderr = Run("dist_train", CONFIG, 2, *options, cwd=tmp_path).finish()
    assert code == 1 and "Traceback" not in stdout + stderr, stderr
    *sentences, last = stderr.splitlines()
    assert 1 <= len(sentences) <= 2, stderr
    assert all("cannot be read as image" in sentence for sentence in sentences)
    assert re.fullmatch(r"error: process \d ended with the exit code 1, .*", last)


def test_interrupt_ends_all_processes_and_the_training_resumes(trained, folder, figure):
    options = [*SHORT.split(), "train_cfg.max_iters=4000", "train_cfg.val_interval=4000"]
    options = ["--demo", "--work-dir", "stopped", "--cfg-options", *options]
    run = Run("dist_train", CONFIG, 2, *options, cwd=folder)
    last = folder / "stopped" / "last_checkpoint"
    end = time.time() + 300
    while (
        (not last.exists() or "iter" not in last.read_text())
        and run.process.poll() is None
        and time.time() < end
    ):
        time.sleep(0.1)
    time.sleep(0.5)
    started = len(run.members())
    assert started >= 3  # the launcher, two training processes, their workers
    run.process.send_signal(signal.SIGINT)  # as Ctrl-C: other sessions do not get it
    code, stdout, stderr = run.finish(timeout=120)
    assert code == 130 and "--resume goes on from iter_" in stderr, stderr
    assert "Traceback" not in stderr, stderr
    saved = int(re.search(r"iter_(\d+).pth", last.read_text())[1])
    more = ["--resume", "--demo", "--work-dir", "stopped", "--cfg-options", *SHORT.split()]
    more += [f"train_cfg.max_iters={saved + 1}"]
    code, stdout, stderr = Run("dist_train", CONFIG, 2, *more, cwd=folder).finish()
    assert code == 0, stderr[-3000:]
    assert f"Iter(train) [{saved + 1}/{saved + 1}]" in stdout.replace("  ", " ")
    figure("processes left by an interrupted training of 2", f"{run.left} of {started}")


def test_signals_of_a_scheduler_save_the_iteration_that_all_processes_have_reached(folder):
    """SIGUSR1 asks for a checkpoint, SIGTERM for one and the end."""
    options = [*SHORT.split(), "train_cfg.max_iters=4000", "train_cfg.val_interval=4000"]
    options += ["default_hooks.checkpoint.interval=4000"]
    options = ["--demo", "--work-dir", "signaled", "--cfg-options", *options]
    run = Run("dist_train", CONFIG, 2, *options, cwd=folder, PYTHONUNBUFFERED="1")
    lines = iter(run.process.stdout.readline, "")
    last = folder / "signaled" / "last_checkpoint"
    for line in lines:
        if "Iter(train) [   2/" in line:
            run.process.send_signal(signal.SIGUSR1)
        if "was saved on request; the training goes on" in line:
            requested = int(re.search(r"iter_(\d+).pth", last.read_text())[1])
            break
    for line in lines:
        if f"Iter(train) [{requested + 2:4}/" in line:
            run.process.send_signal(signal.SIGTERM)
            break
    code, stdout, stderr = run.finish(timeout=120)
    assert code == 143 and "Traceback" not in stderr, stderr
    saved = int(re.search(r"iter_(\d+).pth", last.read_text())[1])
    assert saved >= requested + 2 and f"--resume goes on from iter_{saved}.pth" in stderr
    trained = [int(i) for i in re.findall(r"Iter\(train\) \[ *(\d+)/", stdout)]
    assert not trained or trained[-1] == saved
    assert read_checkpoint(folder / "signaled" / f"iter_{saved}.pth")["meta"]["iter"] == saved


@pytest.mark.parametrize(
    "name, arguments, message",
    [
        ("dist_train", ["config.py"], "usage: tools/dist_train.sh CONFIG PROCESSES"),
        ("dist_test", ["config.py", "x.pth"], "usage: tools/dist_test.sh CONFIG [CHECKPOINT]"),
        ("dist_train", ["config.py", "two"], "1 or more, got 'two'"),
    ],
)
def test_wrong_arguments_of_the_scripts_give_a_one_line_error(name, arguments, message, tmp_path):
    code, _, stderr = Run(name, *arguments, cwd=tmp_path).finish()
    assert code == 2 and message in stderr and stderr.count("\n") == 1


def test_several_machines_need_all_environment_variables(tmp_path):
    code, _, stderr = Run("dist_train", "config.py", 2, cwd=tmp_path, NNODES="2").finish()
    assert code == 1 and "NODE_RANK, MASTER_ADDR must be, too" in stderr
