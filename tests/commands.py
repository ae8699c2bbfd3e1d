"""Running the commands as a user runs them."""

import subprocess
import sys

from tests.conftest import ROOT

CONFIG = ROOT / "configs" / "upernet_gfnet_ade20k.py"
SHORT = "train_cfg.max_iters=4 train_cfg.val_interval=4 default_hooks.checkpoint.interval=2 "
SHORT += "train_dataloader.batch_size=2 default_hooks.logger.interval=1 "
# A validation of a few images: indices of the dataset.
SHORT += "val_dataloader.dataset.indices=3 test_dataloader.dataset.indices=3"


def tool(name, *arguments):
    return [sys.executable, str(ROOT / "tools" / f"{name}.py"), *map(str, arguments)]


def run(command, cwd, env=None):
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=900)


def error_of(result):
    """Return the one sentence of a command that failed as it should."""
    assert result.returncode not in (0, None), result.stdout[-2000:]
    assert "Traceback" not in result.stdout + result.stderr, result.stderr[-3000:]
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("error: "))
    return line
