"""Several processes, started as a user starts them, on CPUs by gloo."""

import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch

from tests.conftest import ROOT
from tests.tools.test_train import CONFIG, SHORT, run, tool

NO_GPU = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHON": sys.executable}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start(name, *arguments, cwd, **variables):
    """Start tools/NAME.sh in a process group of its own."""
    command = [str(ROOT / "tools" / f"{name}.sh"), *map(str, arguments)]
    environment = {**os.environ, **NO_GPU, "PORT": str(free_port()), **variables}
    return subprocess.Popen(
        command, cwd=cwd, env=environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def finish(process, timeout=400):
    """Return what a process has printed; at the end none of its group is left."""
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert not members(process.pid), "processes were left"
    return stdout, stderr


def members(group):
    """Return the processes of a group that have not ended."""
    found = subprocess.run(["ps", "-eo", "pgid=,stat=,args="], capture_output=True, text=True)
    lines = [line.split(None, 2) for line in found.stdout.splitlines()]
    return [line for line in lines if line[0] == str(group) and not line[1].startswith("Z")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, demo_data):
    path = tmp_path_factory.mktemp("processes")
    (path / "data").symlink_to(demo_data)
    return path


@pytest.fixture(scope="module")
def trained(folder):
    """The demo trained by two processes for four iterations."""
    options = ["--demo", "--work-dir", "trained", "--cfg-options", *SHORT.split()]
    process = start("dist_train", CONFIG, 2, *options, cwd=folder)
    stdout, stderr = finish(process)
    assert process.returncode == 0, stderr[-3000:]
    return folder / "trained" / "iter_4.pth", stdout


def test_gradients_are_those_of_one_process_with_twice_the_batch(tmp_path, figure, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name, value in NO_GPU.items():
        monkeypatch.setenv(name, value)
    module = ["-m", "tests.torture.gradients"]
    several = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", *module]
    for name, arguments in (("one", module), ("two", several)):
        result = run([sys.executable, *arguments, str(tmp_path / name)], tmp_path)
        assert result.returncode == 0, result.stderr[-3000:]
    one, two = (torch.load(tmp_path / name) for name in ("one", "two"))
    assert one.keys() == two.keys()
    worst = max(float((two[k] - one[k]).norm() / one[k].norm()) for k in one)
    assert worst <= 1e-6
    figure("gradients of 2 processes, largest relative difference of a tensor", f"{worst:.1e}")


def test_weights_shared_out_among_processes(tmp_path, figure, monkeypatch):
    """PyTorch's fully_shard, which works on CPUs: docs/reliability.md."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name, value in NO_GPU.items():
        monkeypatch.setenv(name, value)
    launch = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    out = tmp_path / "out"
    result = run([sys.executable, *launch, "-m", "tests.torture.sharded", str(out)], tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    worst, share = map(float, out.read_text().split())
    assert worst < 1e-10 and 0.4 < share < 0.6
    figure("gradients of weights shared out (FSDP) among 2, largest difference", f"{worst:.1e}")


def test_metrics_are_those_of_one_process(trained, folder, figure):
    checkpoint, _ = trained
    options = ["--demo", "--cfg-options", *SHORT.split(), "test_dataloader.dataset.indices=5"]
    one = run(tool("test", CONFIG, checkpoint, *options), folder)
    process = start("dist_test", CONFIG, checkpoint, 2, *options, cwd=folder)
    stdout, stderr = finish(process)
    assert process.returncode == 0, stderr[-3000:]
    metrics = re.compile(r"(aAcc|mIoU|mAcc): ([\d.]+)")
    assert metrics.findall(stdout) == metrics.findall(one.stdout) != []
    figure("metrics of 2 processes that differ from those of one", 0)


def test_two_machines(folder):
    """Two launchers, as on two machines, of one process each."""
    options = ["--demo", "--work-dir", "machines", "--cfg-options", *SHORT.split()]
    port, processes = str(free_port()), []
    for rank in ("0", "1"):
        settings = dict(NNODES="2", NODE_RANK=rank, MASTER_ADDR="127.0.0.1", PORT=port)
        processes.append(start("dist_train", CONFIG, 1, *options, cwd=folder, **settings))
    outputs = [finish(process) for process in processes]
    assert [p.returncode for p in processes] == [0, 0], outputs[0][1][-3000:]
    assert (folder / "machines" / "iter_4.pth").exists()


def test_an_interrupt_ends_all_processes(trained, folder, figure):
    options = [*SHORT.split(), "train_cfg.max_iters=4000", "train_cfg.val_interval=4000"]
    options = ["--demo", "--work-dir", "stopped", "--cfg-options", *options]
    process = start("dist_train", CONFIG, 2, *options, cwd=folder)
    last = folder / "stopped" / "last_checkpoint"
    end = time.time() + 300
    while not last.exists() and process.poll() is None and time.time() < end:
        time.sleep(0.1)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does
    stdout, stderr = finish(process, timeout=120)
    assert process.returncode != 0 and "--resume goes on from iter_" in stderr
    saved = int(re.search(r"iter_(\d+).pth", last.read_text())[1])
    more = ["--resume", "--demo", "--work-dir", "stopped", "--cfg-options", *SHORT.split()]
    process = start("dist_train", CONFIG, 2, *more, f"train_cfg.max_iters={saved + 1}", cwd=folder)
    stdout, stderr = finish(process)
    assert process.returncode == 0, stderr[-3000:]
    assert f"Iter(train) [{saved + 1}/{saved + 1}]" in stdout.replace("  ", " ")
    figure("processes left by an interrupted training of 2", 0)


@pytest.mark.parametrize(
    "name, arguments, message",
    [
        ("dist_train", ["config.py"], "usage: tools/dist_train.sh CONFIG PROCESSES"),
        ("dist_test", ["config.py", "x.pth"], "usage: tools/dist_test.sh CONFIG CHECKPOINT"),
        ("dist_train", ["config.py", "two"], "1 or more, got 'two'"),
    ],
)
def test_mistakes_are_one_sentence(name, arguments, message, tmp_path):
    process = start(name, *arguments, cwd=tmp_path)
    stdout, stderr = finish(process)
    assert process.returncode == 2 and message in stderr and stderr.count("\n") == 1
