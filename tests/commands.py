"""Run the commands as a user runs them, without the seconds that their imports take."""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.conftest import ROOT

CONFIG = ROOT / "configs" / "upernet_gfnet_ade20k.py"
SHORT = "train_cfg.max_iters=4 train_cfg.val_interval=4 default_hooks.checkpoint.interval=2 "
SHORT += "train_dataloader.batch_size=2 default_hooks.logger.interval=1 "
# Validations use a few images: indices=3 keeps the first three of a dataset.
SHORT += "val_dataloader.dataset.indices=3 test_dataloader.dataset.indices=3"
TIMEOUT = 900  # seconds
PYTHONPATH = os.environ.get("PYTHONPATH")

# Commands are forks of a process that has imported these modules. A fresh interpreter would take
# about four seconds to import them, and the tests start some two hundred commands. The first module
# makes settings that the modules after it read.
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["gfnet_dense.cli", "tests.preloaded"])


def tool(name, *arguments):
    return [sys.executable, str(ROOT / "tools" / f"{name}.py"), *map(str, arguments)]


def run(command, cwd, env=None, fresh=False):
    """Run a command to its end.

    Args:
        command: The result of :func:`tool`, or any other command line.
        cwd: Working directory of the command.
        env: Environment of the command, by default that of this process.
        fresh: Start a new interpreter, to test what happens while modules are imported.

    Returns:
        A ``subprocess.CompletedProcess`` with outputs as text.
    """
    # A tool of ours, or of an installed library
    is_tool = command[0] == sys.executable and (
        Path(command[1]).parent == ROOT / "tools" or ".mim" in Path(command[1]).parts
    )
    if fresh or not is_tool or env is not None or os.environ.get("PYTHONPATH") != PYTHONPATH:
        return subprocess.run(
            command, cwd=cwd, env=env, capture_output=True, text=True, timeout=TIMEOUT
        )
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder) / name for name in ("stdout", "stderr")]
        arguments = (command[1:], str(cwd), dict(os.environ), *map(str, outputs))
        process = _forks.Process(target=_run_tool, args=arguments)
        process.start()
        process.join(TIMEOUT)
        if process.is_alive():
            process.kill()
            raise subprocess.TimeoutExpired(command, TIMEOUT)
        texts = [path.read_text() for path in outputs]
    return subprocess.CompletedProcess(command, process.exitcode, *texts)


def _run_tool(argv, cwd, env, stdout, stderr):
    for number, path in ((1, stdout), (2, stderr)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = argv
    sys.path[0] = str(Path(argv[0]).parent)
    runpy.run_path(argv[0], run_name="__main__")


def error_of(result):
    """Check that a command failed with one error line and no traceback, and return the line."""
    assert result.returncode not in (0, None), result.stdout[-2000:]
    assert "Traceback" not in result.stdout + result.stderr, result.stderr[-3000:]
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("error: "))
    return line
