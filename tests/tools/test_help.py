"""Help and usage errors of the commands."""

import os
import re
import sys

import pytest

from tests.commands import CONFIG, error_of, run, tool
from tests.conftest import ROOT

WITHOUT_LIBRARIES = """
import sys

class Missing:
    def find_spec(self, name, *_):
        if name in ("mmcv", "mmseg", "mmdet"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
"""
TOOLS = sorted(path.stem for path in (ROOT / "tools").glob("*.py"))
PAGE_WRITERS = (
    "benchmark_report", "borders_report", "draw_imports", "gpu", "own_detector", "rare_classes",
    "resizing_report", "zoo_page",
)  # fmt: skip


@pytest.mark.parametrize("name", TOOLS)
def test_help_has_an_example(name, tmp_path):
    result = run(tool(name, "--help"), tmp_path)
    assert result.returncode == 0, result.stderr
    assert re.search(rf"^ *python tools/{name}\.py", result.stdout, re.M)


@pytest.mark.parametrize("name", PAGE_WRITERS)
def test_help_of_page_writers_has_an_example(name, tmp_path):
    result = run([sys.executable, str(ROOT / ".dev" / f"{name}.py"), "--help"], tmp_path)
    assert result.returncode == 0, result.stderr
    assert re.search(rf"^ *python \.dev/{name}\.py", result.stdout, re.M)


@pytest.mark.parametrize("name", TOOLS)
def test_missing_and_wrong_arguments_give_a_one_line_error(name, tmp_path):
    for arguments, message in (([], "are required"), (["--no-such"], "required|unrecognized")):
        result = run(tool(name, *arguments), tmp_path)
        error = error_of(result)
        assert result.stderr == f"{error}\n"
        assert any(part in error for part in message.split("|")), error
        assert error.endswith(f"all arguments: {name}.py --help")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name, arguments",
    [
        ("train", []),
        ("test", ["checkpoint.pth"]),
        ("analyze_errors", ["checkpoint.pth"]),
        ("infer", ["checkpoint.pth", "photo.jpg"]),
        ("export_onnx", ["checkpoint.pth", "--size", "512", "--out", "model.onnx"]),
        ("browse_dataset", []),
        ("check_dataset", []),
        ("print_config", []),
    ],
)
def test_a_library_that_is_not_installed_is_named_in_one_sentence(name, arguments, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_LIBRARIES)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = tool(name, CONFIG, *arguments)
    error = error_of(run(command, tmp_path, env=environment))
    assert re.search(r"needs (mmseg|mmcv), which is not installed: pip install", error)


@pytest.mark.parametrize(
    "name, arguments",
    [("infer", ["photo.jpg"]), ("export_onnx", ["--size", "512"]), ("print_config", [])],
)
def test_a_library_that_a_shared_model_needs_is_named_in_one_sentence(name, arguments, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_LIBRARIES)
    (tmp_path / "my-model").mkdir()
    (tmp_path / "my-model" / "config.json").write_text('{"library_name": "gfnet-dense"}')
    (tmp_path / "my-model" / "model.safetensors").touch()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    error = error_of(run(tool(name, "my-model", *arguments), tmp_path, env=environment))
    assert re.search(r"my-model needs (mmseg|mmcv), which is not installed: pip install", error)
