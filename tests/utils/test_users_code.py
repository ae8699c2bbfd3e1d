"""Finding the user's files in tracebacks."""

import subprocess
import sys

import pytest
import torch
from torch._utils import ExceptionWrapper

from gfnet_dense.utils.users_code import places_in_users_code


def error_in(function, *args):
    with pytest.raises(Exception) as error:
        function(*args)
    error.value.__traceback__ = error.tb.tb_next  # without the frame of this function
    return error.value


def write(path, text):
    path.write_text(text)
    namespace = {}
    exec(compile(text, str(path), "exec"), namespace)
    return namespace["f"]


def test_lines_of_the_user_are_found_and_those_of_libraries_are_not(tmp_path):
    own = tmp_path / "own.py"
    f = write(own, "import torch\n\ndef f():\n    return g()\n\ndef g():\n    torch.ones(2)[3]\n")
    assert places_in_users_code(error_in(f)) == [(str(own), 4), (str(own), 7)]
    assert places_in_users_code(error_in(torch.load, "/nothing")) == []
    assert (
        places_in_users_code(error_in(subprocess.check_call, [sys.executable, "-c", "1/0"])) == []
    )


def test_causes_and_the_text_of_workers_are_searched(tmp_path):
    own = tmp_path / "own.py"
    f = write(own, "def f():\n    try:\n        1 / 0\n    except Exception as e:\n"
              "        raise ValueError from e\n")  # fmt: skip
    assert places_in_users_code(error_in(f)) == [(str(own), 3), (str(own), 5)]
    try:
        f()
    except ValueError as e:
        error = ExceptionWrapper((type(e), e, e.__traceback__.tb_next))
    raised = error_in(error.reraise)
    assert places_in_users_code(raised) == [(str(own), 3), (str(own), 5)]


def test_line_of_a_syntax_error_is_found(tmp_path):
    own = tmp_path / "own.py"
    error = error_in(compile, "\na = = 1\n", str(own), "exec")
    assert places_in_users_code(error) == [(str(own), 2)]


@pytest.mark.parametrize("file", ["<string>", "<frozen importlib._bootstrap>", "yaml/_yaml.pyx"])
def test_names_that_are_no_files_of_python_are_left_out(file):
    namespace = {}
    exec(compile("def f():\n    1 / 0\n", file, "exec"), namespace)
    assert places_in_users_code(error_in(namespace["f"])) == []


def test_libraries_in_editable_form_are_no_code_of_the_user(tmp_path, monkeypatch):
    folder = tmp_path / "mmsegmentation" / "mmseg"
    folder.mkdir(parents=True)
    f = write(folder / "heads.py", "def f():\n    1 / 0\n")
    assert places_in_users_code(error_in(f)) == [(str(folder / "heads.py"), 2)]
    module = type(sys)("mmseg")
    module.__file__ = str(folder / "__init__.py")
    monkeypatch.setitem(sys.modules, "mmseg", module)
    assert places_in_users_code(error_in(f)) == []
