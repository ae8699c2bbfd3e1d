"""What the set-up says where the machine lacks something; that it works is shown by its use."""

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


def test_this_machine_will_do(install):
    install.check_machine(det=True)
    install.check_compiler()


def test_old_python(install, monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 8, 10))
    error = error_of(install.check_machine, False)
    assert "Python 3.8" in error and "3.10 or newer is needed" in error and "PYTHON=" in error


def test_no_venv(install, monkeypatch):
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    assert "apt-get install python3-venv" in error_of(install.check_machine, False)


def test_full_disk(install, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(install.shutil, "disk_usage", lambda path: usage(1e12, 1e12, 4e8))
    error = error_of(install.check_machine, True)
    assert "0.4 GB are free" in error and "3.5 GB are needed" in error


def test_no_compiler(install, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    error = error_of(install.check_compiler)
    assert "no-such-compiler is missing" in error and "apt-get install g++" in error
    monkeypatch.delenv("CXX")
    monkeypatch.setattr(install.sysconfig, "get_paths", lambda: {"include": "/nowhere"})
    assert "apt-get install python3-dev" in error_of(install.check_compiler)


def test_versions_are_pinned(install):
    for package in ("torch", "onedl-mmcv", "onedl-mmsegmentation", "onedl-mmdetection"):
        assert install.pinned(package)[0].isdigit()


def test_progress_of_the_compilation(install, capsys, monkeypatch):
    clock = iter([0, 100, 100, 200, 200, 210])  # start; then asked, taken, ...
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
