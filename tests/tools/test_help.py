"""Help and usage errors of the commands."""

import re
import sys

import pytest

from tests.commands import error_of, run, tool
from tests.conftest import ROOT

TOOLS = sorted(path.stem for path in (ROOT / "tools").glob("*.py"))
PAGE_WRITERS = ("benchmark_report", "borders_report", "draw_imports", "resizing_report", "zoo_page")


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
