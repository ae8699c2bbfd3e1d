"""Several processes, started as a user starts them, on CPUs by gloo."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from gfnet_dense.demo import write_ade20k
from tests.commands import CONFIG, SHORT, run, tool
from tests.conftest import ROOT

NO_GPU = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHON": sys.executable}
MARK = "GFNET_DENSE_TEST_RUN"  # in the environment of all processes of a run
METRICS = re.compile(r"(aAcc|mIoU|mAcc): ([\d.]+)")

linux = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="/proc is Linux's")
pytestmark = linux


class Run:
    """A run of tools/NAME.sh, and all the processes that it starts, wherever they go."""

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
            except OSError:  # it has ended meanwhile
                continue
            if self.mark.encode() in environment and state != "Z":
                found.append(int(folder.name))
        return found

    def finish(self, timeout=400):
        """Wait for its end; at the end no process is left. Return the exit code and the output."""
        try:
            stdout, stderr = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            for number in self.members():
                os.kill(number, signal.SIGKILL)
            raise
        self.left = None
        for _ in range(50):  # output is closed somewhat before the end
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


def test_members_are_found(tmp_path):
    """Also those of another session, where the launcher puts what it starts."""
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


def test_gradients_are_those_of_one_process_with_twice_the_batch(tmp_path, figure):
    run_module("gradients", tmp_path / "one", processes=1)
    run_module("gradients", tmp_path / "two")
    one, two = (torch.load(tmp_path / name) for name in ("one", "two"))
    worst = largest_difference(one, two)
    assert worst <= 1e-6
    figure("gradients of 2 processes, largest relative difference of a tensor", f"{worst:.1e}")


def test_weights_shared_out_among_processes(tmp_path, figure):
    """PyTorch's fully_shard, which works on CPUs: docs/reliability.md."""
    run_module("sharded", tmp_path / "out")
    found = torch.load(tmp_path / "out")
    worst = largest_difference(found["whole"], found["sharded"])
    assert worst < 1e-10 and 0.4 < found["share"] < 0.6
    figure("gradients of weights shared out (FSDP) among 2, largest difference", f"{worst:.1e}")


def test_a_step_is_left_out_in_all_processes(tmp_path):
    """Although the loss of one of them alone is not finite; statistics are the same, too."""
    run_module("left_out", tmp_path)
    one, two = (torch.load(tmp_path / f"rank_{rank}") for rank in (0, 1))
    assert one["steps"] == two["steps"] == 7
    for name, weight in one["state_dict"].items():
        assert torch.equal(weight, two["state_dict"][name]), name


def test_metrics_are_those_of_one_process(trained, folder, figure):
    """Of five images, an odd number; and in the training itself, whose processes count the
    statistics of batch norms together."""
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


def test_validation_is_that_of_the_checkpoint(trained, folder):
    checkpoint, stdout = trained
    options = ["--demo", "--cfg-options", *SHORT.split()]
    one = run(tool("test", CONFIG, checkpoint, *options), folder)
    assert METRICS.findall(one.stdout) == METRICS.findall(stdout) != []


def test_two_machines(folder):
    """Two launchers, as on two machines, of one process each."""
    options = ["--demo", "--work-dir", "machines", "--cfg-options", *SHORT.split()]
    settings = dict(NNODES="2", MASTER_ADDR="127.0.0.1", PORT="29617")
    runs = [
        Run("dist_train", CONFIG, 1, *options, cwd=folder, NODE_RANK=rank, **settings)
        for rank in ("0", "1")
    ]
    outputs = [run.finish() for run in runs]
    assert [code for code, _, _ in outputs] == [0, 0], outputs[0][2][-3000:]
    assert (folder / "machines" / "iter_4.pth").exists()


def test_two_machines_with_folders_of_their_own_do_not_resume_apart(trained, folder, tmp_path):
    """One would begin anew, and its gradients would go to the other."""
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


def test_a_mistake_is_one_sentence_of_the_process_that_meets_it(tmp_path):
    """The others, and the launcher, do not hide it."""
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


def test_an_interrupt_ends_all_processes(trained, folder, figure):
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
    assert started >= 3  # the launcher, two that train, their workers
    run.process.send_signal(signal.SIGINT)  # as Ctrl-C does: what it starts is in other sessions
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


@pytest.mark.parametrize(
    "name, arguments, message",
    [
        ("dist_train", ["config.py"], "usage: tools/dist_train.sh CONFIG PROCESSES"),
        ("dist_test", ["config.py", "x.pth"], "usage: tools/dist_test.sh CONFIG CHECKPOINT"),
        ("dist_train", ["config.py", "two"], "1 or more, got 'two'"),
    ],
)
def test_mistakes_are_one_sentence(name, arguments, message, tmp_path):
    code, _, stderr = Run(name, *arguments, cwd=tmp_path).finish()
    assert code == 2 and message in stderr and stderr.count("\n") == 1


def test_machines_need_all_settings(tmp_path):
    code, _, stderr = Run("dist_train", "config.py", 2, cwd=tmp_path, NNODES="2").finish()
    assert code == 1 and "NODE_RANK, MASTER_ADDR must be, too" in stderr
