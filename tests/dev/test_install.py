"""Checks and messages of .dev/install.py, and what it leaves when it is killed or runs twice.

That it installs what is needed is shown by the environment of these tests.
"""

import importlib.util
import io
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest

import operators
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
    operators.check_compiler()


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


def test_error_about_a_missing_compiler_or_header_names_the_package(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    error = error_of(operators.check_compiler)
    assert "no-such-compiler is missing" in error and "apt-get install g++" in error
    monkeypatch.delenv("CXX")
    monkeypatch.setattr(operators.sysconfig, "get_paths", lambda: {"include": "/nowhere"})
    assert "apt-get install python3-dev" in error_of(operators.check_compiler)


def test_versions_of_the_main_packages_are_pinned(install):
    for package in ("torch", "onedl-mmcv", "onedl-mmsegmentation", "onedl-mmdetection"):
        assert install.pinned(package)[0].isdigit()


def test_progress_of_the_compilation_is_printed_and_output_is_logged(capsys, monkeypatch):
    clock = iter([0, 100, 100, 200, 200, 210])  # one value for each call of time()
    monkeypatch.setattr(operators.time, "time", lambda: next(clock))
    log = io.StringIO()
    output = ["building\n", "[1/50] a\n", "  [10/50] g++ b.cpp\n", "warning\n", "[50/50] g++ c\n"]
    operators.show_progress(output, log)
    assert log.getvalue() == "".join(output)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "install: compiled 10 of 50 files",
        "install: compiled 50 of 50 files",
    ]
    assert lines[-1].endswith("about 0 s left")


# The rest runs the script itself, on a clone whose packages are two small wheels.
DRIVER = '''
import os, signal, subprocess, sys, time
import install

def kill():
    os.kill(os.getpid(), signal.SIGKILL)

def call(command, **options):
    """Count the commands that change .venv; start the one to be killed in, and end there."""
    if not calls.pop():
        return real_call(command, **options)
    subprocess.Popen(command, **options)
    time.sleep(0.3)
    kill()

place, _, number = os.environ.get("KILL", "").partition(" ")
real_call = subprocess.call
if place == "call":
    calls = [False] * 9 + [True] + [False] * int(number)
    subprocess.call = call
wheels = ["install", "--no-index", "--find-links", os.path.join(install.ROOT, "wheels")]
steps = [lambda: install.pip(*wheels, "gfnet-one"), lambda: install.pip(*wheels, "gfnet-two")]
if place == "step":
    steps.insert(int(number), kill)
install.steps = lambda det: steps if det or place else steps[:1]
install.main()
'''
# The packages of the base Python and of the environment of these tests
OTHERS = [Path(sysconfig.get_path("stdlib"), "site-packages"), Path(sysconfig.get_path("purelib"))]


def write_wheel(folder, name):
    """Write a package of one module without code, as pip installs it."""
    info = f"{name}-1.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", "")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(f"{info}/WHEEL", tags)
        names = (f"{name}.py", f"{info}/METADATA", f"{info}/WHEEL", f"{info}/RECORD")
        wheel.writestr(f"{info}/RECORD", "".join(f"{each},,\n" for each in names))


def contents_of_other_environments():
    return [sorted(path.name for path in folder.glob("*")) for folder in OTHERS]


def write_clone(clone):
    """Write the part of a clone that the script needs."""
    shutil.copytree(ROOT / ".dev", clone / ".dev", ignore=shutil.ignore_patterns("__pycache__"))
    (clone / "requirements").mkdir()
    shutil.copy(ROOT / "requirements" / "constraints.txt", clone / "requirements")
    shutil.copy(ROOT / "setup.py", clone)
    (clone / ".dev" / "driver.py").write_text(DRIVER)
    (clone / "wheels").mkdir()
    write_wheel(clone / "wheels", "gfnet_one")
    write_wheel(clone / "wheels", "gfnet_two")
    return clone


@pytest.fixture
def clone(tmp_path):
    before = contents_of_other_environments()
    yield write_clone(tmp_path / "clone")
    assert contents_of_other_environments() == before


def start(clone, *arguments, **env):
    return subprocess.Popen(
        [sys.executable, clone / ".dev" / "driver.py", *arguments],
        env=dict(os.environ, **env), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def install_in(clone, *arguments, **env):
    process = start(clone, *arguments, **env)
    output, _ = process.communicate(timeout=120)
    return process.returncode, output


def packages_of(clone):
    """Return the packages in the clone's environment, which is one of its own and has a stamp."""
    query = "import sys, pkgutil; print(sys.prefix != sys.base_prefix, sys.prefix); "
    query += "print(sorted(m.name for m in pkgutil.iter_modules() if 'gfnet_' in m.name))"
    python = clone / ".venv" / "bin" / "python"
    answer = subprocess.check_output([python, "-I", "-c", query], text=True).splitlines()
    assert answer[0] == f"True {clone / '.venv'}"
    assert len(list((clone / ".venv").glob(".installed-*"))) == 1
    return answer[1]


ONE, TWO = "['gfnet_one']", "['gfnet_one', 'gfnet_two']"


def slow(*kills):
    return [pytest.param(kill, marks=pytest.mark.slow) for kill in kills]


@pytest.mark.parametrize(
    "kill", ["call 0", "call 1", *slow("step 0", "step 1", "call 2", "step 2")]
)
def test_what_is_killed_is_created_anew(clone, kill):
    """The commands that it has started go on, and the next run waits for them."""
    killed = start(clone, KILL=kill)
    assert killed.wait(120) == -signal.SIGKILL
    assert not list((clone / ".venv").glob(".installed-*"))
    code, output = install_in(clone, "--det")
    assert code == 0, output
    assert output.count("creating ") == 1
    if kill.startswith("step"):  # no command was running; another one may have ended meanwhile
        assert "waiting for another command" not in output
    assert packages_of(clone) == TWO


@pytest.mark.parametrize("first, second", [((), ("--det",)), (("--det",), ())])
def test_two_commands_at_once_wait_for_each_other(clone, first, second):
    """As make demo and make test do; both then use the environment at the same time."""
    use = ("--run", "-c", "import gfnet_one, time; time.sleep(1); print('used')")
    one = start(clone, *first, *use)
    assert "creating" in one.stdout.readline()
    code, output = install_in(clone, *second, *use)
    assert code == 0 and "waiting for another command" in output and "used" in output
    assert "creating" not in output
    output, _ = one.communicate(timeout=120)
    assert one.returncode == 0 and "used" in output
    assert packages_of(clone) == TWO


def remove(clone, name):
    path = clone / ".venv" / name
    path.unlink() if path.is_file() or path.is_symlink() else shutil.rmtree(path)


def interrupted_clear(clone):
    for name in ("bin", "include", "pyvenv.cfg"):
        remove(clone, name)
    for path in (clone / ".venv").glob(".installed-*"):
        path.unlink()


def write_python(clone, command):
    remove(clone, "bin/python")
    python = clone / ".venv" / "bin" / "python"
    python.write_text(f"#!/bin/sh\n{command}\n")
    python.chmod(0o755)


def python_of_another_environment(clone):
    subprocess.check_call([sys.executable, "-m", "venv", "--without-pip", clone / "other"])
    write_python(clone, f'exec {clone}/other/bin/python "$@"')


def moved(clone):
    (stamp,) = (clone / ".venv").glob(".installed-*")
    stamp.write_text("/another/.venv")


STATES = {
    "no pyvenv.cfg": lambda clone: remove(clone, "pyvenv.cfg"),
    "no bin/python": lambda clone: remove(clone, "bin/python"),
    "no bin": lambda clone: remove(clone, "bin"),
    "no pip": lambda clone: remove(
        clone, f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages/pip"
    ),
    "a Python of another version": lambda clone: write_python(
        clone, rf"printf 'True\n{clone}/.venv\nTrue\n3.9.1'"
    ),
    "the Python of another environment": python_of_another_environment,
    "an interrupted venv --clear": interrupted_clear,
    "an interruption of the former installer": lambda c: (c / ".venv" / ".unfinished").touch(),
    "moved": moved,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A clone whose environment is whole, and a copy of this environment to restore it."""
    clone = write_clone(tmp_path_factory.mktemp("whole") / "clone")
    code, output = install_in(clone)
    assert code == 0, output
    shutil.copytree(clone / ".venv", clone / "saved", symlinks=True)
    return clone


@pytest.fixture
def restored(whole):
    shutil.rmtree(whole / ".venv", ignore_errors=True)
    shutil.copytree(whole / "saved", whole / ".venv", symlinks=True)
    before = contents_of_other_environments()
    yield whole
    assert contents_of_other_environments() == before


def test_a_whole_environment_is_used_as_it_is(restored):
    assert install_in(restored) == (0, "")
    assert install_in(restored, "--run", "-c", "import gfnet_one; exit(7)") == (7, "")


@pytest.mark.parametrize("state", STATES)
def test_half_an_environment_is_not_used_again(restored, state, install, monkeypatch):
    monkeypatch.setattr(install, "ROOT", str(restored))
    monkeypatch.setattr(install, "VENV", str(restored / ".venv"))
    monkeypatch.setattr(install, "PYTHON", str(restored / ".venv" / "bin" / "python"))
    assert install.stamps() and install.is_current_venv()
    STATES[state](restored)
    assert not (install.stamps() and install.is_current_venv())
    if not install.is_current_venv():  # it may have become so after it was checked at the start
        error = error_of(install.pip, "install", "--no-index", "gfnet-two")
        assert "has changed meanwhile" in error


def test_own_python_of_the_environment_creates_it_anew(restored):
    (restored / ".venv" / ".unfinished").touch()
    driver = restored / ".dev" / "driver.py"
    command = [restored / ".venv" / "bin" / "python", driver]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert packages_of(restored) == ONE


def test_what_is_no_folder_is_refused(clone):
    venv = clone / ".venv"
    venv.symlink_to(clone / "nowhere")
    code, output = install_in(clone)
    assert code == 1 and "is a link to" in output and "remove the link" in output
    venv.unlink()
    venv.write_text("mine")
    code, output = install_in(clone)
    assert code == 1 and "is a file" in output and venv.read_text() == "mine"


def test_variables_of_the_shell_lead_nowhere_else(restored, tmp_path):
    """The packages go into .venv for all variables that would lead pip elsewhere."""
    elsewhere = tmp_path / "elsewhere"
    names = "PIP_TARGET PIP_PREFIX PIP_ROOT PYTHONUSERBASE VIRTUAL_ENV PYTHONPATH".split()
    env = dict.fromkeys(names, str(elsewhere)) | {"PIP_USER": "1"}
    code, output = install_in(restored, "--det", **env)
    assert code == 0, output
    assert packages_of(restored) == TWO
    assert not elsewhere.exists()


def test_settings_of_pip_that_lead_elsewhere_are_refused(restored, tmp_path):
    (tmp_path / "pip.conf").write_text(f"[install]\ntarget = {tmp_path}/elsewhere\n")
    code, output = install_in(restored, "--det", PIP_CONFIG_FILE=str(tmp_path / "pip.conf"))
    assert code == 1 and "install.target" in output and "take it out" in output
    assert packages_of(restored) == ONE
