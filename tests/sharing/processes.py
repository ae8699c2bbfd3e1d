"""Processes of their own for the client of the hub, which reads its environment when imported."""

import os
import sys
import traceback

from tests.commands import TIMEOUT, _forks

START = """
import os, sys, torch
from gfnet_dense import InputError, from_pretrained, push_to_hub, save_pretrained
from tests.sharing.small_models import small_model
"""


def python(code, folder, hub, **environment):
    """Run code in a process whose hub is a local one, and return what it prints.

    Args:
        code: Python, with the names of :data:`START`.
        folder: Working directory, with the client's cache.
        hub: The :class:`.local_hub.LocalHub`.
        **environment: More variables.
    """
    variables = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    variables |= {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(folder / "home"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1",
        **environment,
    }
    output = folder / "output.txt"
    process = _forks.Process(target=_execute, args=(START + code, folder, variables, output))
    process.start()
    process.join(TIMEOUT)
    text = output.read_text()
    assert process.exitcode == 0, text[-3000:]
    return text


def _execute(code, folder, environment, output):
    for number in (1, 2):
        os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    assert "huggingface_hub" not in sys.modules
    try:
        exec(code, {})
    except BaseException:
        traceback.print_exc()
        sys.exit(1)
