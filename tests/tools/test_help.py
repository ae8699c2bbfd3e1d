"""What the command lines say to one who does not know them."""

import re

import pytest

from tests.commands import error_of, run, tool
from tests.conftest import ROOT

REPORTS = {"benchmark_report", "borders_report", "resizing_report", "zoo_page"}
TOOLS = sorted({path.stem for path in (ROOT / "tools").glob("*.py")} - {"install"})


@pytest.mark.parametrize("name", TOOLS)
def test_help_has_an_example(name, tmp_path):
    result = run(tool(name, "--help"), tmp_path)
    assert result.returncode == 0, result.stderr
    assert re.search(rf"^ *python tools/{name}\.py", result.stdout, re.M)


@pytest.mark.parametrize("name", sorted(set(TOOLS) - REPORTS))
def test_missing_and_wrong_arguments_are_one_sentence(name, tmp_path):
    for arguments, message in (([], "are required"), (["--no-such"], "required|unrecognized")):
        result = run(tool(name, *arguments), tmp_path)
        error = error_of(result)
        assert result.stderr == f"{error}\n"
        assert any(part in error for part in message.split("|")), error
        assert error.endswith(f"all arguments: {name}.py --help")
    assert not list(tmp_path.iterdir())
