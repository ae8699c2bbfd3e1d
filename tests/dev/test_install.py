"""Checks and messages of .dev/install.py; the environment of these tests shows that it works."""

import importlib.util
import io
import sys
from collections import namedtuple

import pytest

from tests.conftest import ROOT


@pytest.fixture
def install(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("install", ROOT / ".dev" / "install.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "VENV", str(tmp_path / ".venv"))
    return module


def error_of(function, *arguments):
    with pytest.raises(SystemExit) as error:
        function(*arguments)
    text = str(error.value)
    assert text.startswith("error: ") and "\n" not in text
    return text


def test_checks_pass_on_the_machine_of_the_tests(install):
    install.check_machine(det=True)
    install.check_compiler()


def test_error_about_an_old_python_names_the_needed_version(install, monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 8, 10))
    error = error_of(install.check_machine, False)
    assert "Python 3.8" in error and "3.10 or newer is needed" in error and "PYTHON=" in error


def test_error_about_missing_venv_names_the_package(install, monkeypatch):
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    assert "apt-get install python3-venv" in error_of(install.check_machine, False)


def test_error_about_a_full_disk_states_the_needed_space(install, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(install.shutil, "disk_usage", lambda path: usage(1e12, 1e12, 4e8))
    error = error_of(install.check_machine, True)
    assert "0.4 GB are free" in error and "3.5 GB are needed" in error


def test_error_about_a_missing_compiler_or_header_names_the_package(install, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    error = error_of(install.check_compiler)
    assert "no-such-compiler is missing" in error and "apt-get install g++" in error
    monkeypatch.delenv("CXX")
    monkeypatch.setattr(install.sysconfig, "get_paths", lambda: {"include": "/nowhere"})
    assert "apt-get install python3-dev" in error_of(install.check_compiler)


def test_versions_of_the_main_packages_are_pinned(install):
    for package in ("torch", "onedl-mmcv", "onedl-mmsegmentation", "onedl-mmdetection"):
        assert install.pinned(package)[0].isdigit()


def test_progress_of_the_compilation_is_printed_and_output_is_logged(install, capsys, monkeypatch):
    clock = iter([0, 100, 100, 200, 200, 210])  # one value for each call of time()
    monkeypatch.setattr(install.time, "time", lambda: next(clock))
    log = io.StringIO()
    output = ["building\n", "[1/50] a\n", "  [10/50] g++ b.cpp\n", "warning\n", "[50/50] g++ c\n"]
    install.show_progress(output, log)
    assert log.getvalue() == "".join(output)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "install: compiled 10 of 50 files",
        "install: compiled 50 of 50 files",
    ]
    assert lines[-1].endswith("about 0 s left")
