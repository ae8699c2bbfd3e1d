"""The library in a larger program, whose process it leaves as it was."""

import ast
import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.host_uses import FORK_SERVER, NETWORKS, Uses

USES = ["import", "preparation", *(name for name in vars(Uses) if not name.startswith("_"))]
TRAININGS = {"train_with_our_runner", "train_with_the_runner_of_mmengine"}
EXCEPTIONS = {
    "benchmark": {FORK_SERVER},  # Python has one for a program; it keeps what it has imported
    # Networks are built, which draw their first weights.
    "forward_and_backward": NETWORKS,
    "load_a_model": NETWORKS,
    "load_a_backbone": NETWORKS,
    "refused_files": NETWORKS,
    "share": NETWORKS,
    "pictures": NETWORKS,
    "table_of_the_optimizer": NETWORKS,
}


@pytest.fixture(scope="module")
def found(demo_data, tmp_path_factory):
    """Run the program; return the kinds of global state that each use of it has changed."""
    command = [sys.executable, "-m", "tests.host_uses", demo_data, tmp_path_factory.mktemp("host")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.run(
        list(map(str, command)), cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return json.loads(process.stdout.splitlines()[-1])


@pytest.mark.parametrize("use", [use for use in USES if use not in TRAININGS])
def test_the_library_leaves_the_state_of_its_host_as_it_was(use, found):
    assert isinstance(found[use], list), found[use]
    assert set(found[use]) - EXCEPTIONS.get(use, set()) == set()


def test_our_runner_changes_what_the_runner_of_mmengine_changes_and_no_more(found):
    ours, theirs = (found[use] for use in sorted(TRAININGS))
    assert isinstance(ours, list) and isinstance(theirs, list), (ours, theirs)
    assert set(ours) <= set(theirs) != set()


def test_a_change_of_each_kind_would_be_found(found):
    assert found["everything"] == []


def test_asserts_of_the_package_tell_mypy_what_is_not_none_and_check_nothing_else():
    """Python leaves them out under -O: what a user's file or model can reach raises an error."""
    for path in (ROOT / "gfnet_dense").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Assert):
                assert ast.unparse(node).endswith(" is not None"), f"{path}:{node.lineno}"


def test_without_asserts_everything_is_refused_all_the_same(tmp_path):
    code = f"""
import numpy as np, torch
from pathlib import Path
from gfnet_dense import GFNet, InputError, load_backbone, load_model, predict
from gfnet_dense.models.utils.label_maps import labels_of
from gfnet_dense.utils.images import read_image, write_image

assert False, "this is run with -O"
folder = Path({str(tmp_path)!r})
torch.save({{"state_dict": print}}, folder / "code.pth")
torch.save({{"state_dict": {{"a.weight": torch.tensor(float("nan"))}}}}, folder / "nan.pth")
(folder / "torn.png").write_bytes(b"no image")
for attempt in [
    lambda: load_backbone(folder / "code.pth"),
    lambda: load_backbone(folder / "nan.pth"),
    lambda: load_backbone("gfnet://other"),
    lambda: load_model("no_config", None),
    lambda: read_image(folder / "torn.png"),
    lambda: write_image(np.zeros((1, 70000), np.uint8), folder / "wide.jpg"),
    lambda: write_image(np.zeros((1, 7), np.uint8), folder / "image.xyz"),
    lambda: labels_of(torch.zeros(1, 4, 4)),
    lambda: GFNet("h-huge"),
    lambda: next(predict(None, "photo.jpg")),
]:
    try:
        attempt()
        print("accepted")
    except InputError as e:
        print(e)
"""
    output = subprocess.check_output(
        [sys.executable, "-O", "-c", code], cwd=tmp_path, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    words = [
        *("could run code", "a.weight", "not an official checkpoint", "no_config does not exist"),
        *("torn.png cannot be read", "wide.jpg cannot be written", "image.xyz cannot be written"),
        *("no threshold", "h-huge", "takes a list"),
    ]
    lines = output.splitlines()
    assert len(lines) == len(words)
    for line, word in zip(lines, words, strict=True):
        assert word in line
