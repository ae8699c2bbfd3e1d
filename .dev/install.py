#!/usr/bin/env python3
"""Set up .venv with the versions that are tested together: python3 .dev/install.py [--det]

The environment is whole or absent: it gets a stamp at the end, and is created anew where the stamp
is missing. A lock keeps others from changing it while it is set up, or while --run uses it. Nothing
is installed into another environment, or into the Python that runs this script.

The script uses the standard library only. Its syntax can be parsed by older interpreters, so that
they can report that they are too old.
"""

import argparse
import fcntl
import glob
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import operators
from operators import fail, say

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
PYTHON = os.path.join(VENV, "bin", "python")
LOCK = os.path.join(ROOT, ".venv.lock")  # beside .venv, which may be removed and created anew
CONSTRAINTS = os.path.join(ROOT, "requirements", "constraints.txt")
MIN_PYTHON = (3, 10)
# Free disk space in GB that an installation needs, with a CPU build of torch
SPACE_SEG, SPACE_DET = 2.5, 3.5
# Variables by which a user's shell leads Python and pip to other places
DIVERSIONS = (
    "PIP_PREFIX",
    "PIP_PYTHON",
    "PIP_ROOT",
    "PIP_TARGET",
    "PIP_USER",
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONUSERBASE",
    "VIRTUAL_ENV",
    "__PYVENV_LAUNCHER__",
)


def check_machine(det):
    """Exit with a message if Python is too old, or if venv or free disk space is missing."""
    if sys.version_info < MIN_PYTHON:
        fail(
            "Python {}.{} ({}) is too old, {}.{} or newer is needed: name one with "
            "'make demo PYTHON=python3.11'".format(
                sys.version_info[0], sys.version_info[1], sys.executable, *MIN_PYTHON
            )
        )
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        fail(
            "this Python has no venv module: install it (Debian, Ubuntu: "
            "'apt-get install python3-venv') or name another Python with PYTHON=..."
        )
    need = SPACE_DET if det else SPACE_SEG
    free = shutil.disk_usage(ROOT).free / 1e9
    if free < need and not os.path.exists(VENV):
        fail(
            f"{free:.1f} GB are free in {ROOT}, {need:.1f} GB are needed: free some space, or "
            "clone to another disk"
        )


def pinned(package):
    """Return the version of a package in requirements/constraints.txt."""
    return re.search(rf"^{package}==([^\s;]+)", read(CONSTRAINTS), re.MULTILINE)[1]


def environment():
    """Return the variables for a process that works in .venv alone."""
    kept = {name: value for name, value in os.environ.items() if name not in DIVERSIONS}
    return dict(kept, PIP_REQUIRE_VIRTUALENV="1", PIP_USER="0", PYTHONNOUSERSITE="1")


def call(command, **options):
    """Run a command that changes .venv, and return its exit code.

    It holds the lock, too: when this script is killed, the command goes on, and others wait for it.
    """
    return subprocess.call(command, cwd=ROOT, env=environment(), pass_fds=held_locks(), **options)


def python_can(code):
    """Return whether .venv's Python runs some code without an error."""
    return call([PYTHON, "-c", code], stderr=subprocess.DEVNULL) == 0


def pip(*arguments):
    """Run pip in the environment, with its output shown; exit with a message if it fails."""
    if not is_current_venv():
        fail(f"{VENV} has changed meanwhile: the same command creates it anew")
    if call([PYTHON, "-m", "pip", "--disable-pip-version-check", *arguments]) == 0:
        return
    free = min(shutil.disk_usage(path).free for path in (VENV, tempfile.gettempdir())) / 1e9
    hint = f" ({free:.1f} GB are free: the disk may have been full)" if free < 3 else ""
    fail("pip failed, the reason is above" + hint + ": the command can be repeated")


def check_pip_settings():
    """Exit with a message if pip's configuration files lead its installations elsewhere."""
    command = [PYTHON, "-m", "pip", "config", "list"]
    settings = subprocess.check_output(command, env=environment(), cwd=ROOT, text=True)
    for line in settings.splitlines():
        if re.match(r"(global|install)\.(target|prefix|root)=", line):
            fail(f"pip is configured to install elsewhere, by {line}: take it out ('pip config')")


def is_current_venv():
    """Return whether .venv is an environment of its own, with pip and this script's Python."""
    query = (
        "import importlib.util, sys; print(sys.prefix != sys.base_prefix); print(sys.prefix);"
        "print(importlib.util.find_spec('pip') is not None); print(sys.version)"
    )
    try:
        answer = subprocess.check_output(
            [PYTHON, "-I", "-c", query], stderr=subprocess.DEVNULL, env=environment(), text=True
        )
    except (OSError, subprocess.CalledProcessError):
        return False
    is_own, prefix, has_pip, version = answer.strip().split("\n", 3)
    is_here = os.path.realpath(prefix) == os.path.realpath(VENV)
    return (is_own, is_here, has_pip, version) == ("True", True, "True", sys.version.strip())


def stamp(det):
    """Return the path of a file that exists only if the environment is complete and up to date."""
    # An environment holds absolute paths, so it is useless after ROOT was moved.
    digest = hashlib.sha256(repr((sys.version, ROOT, det)).encode())
    scripts = (os.path.abspath(__file__), operators.__file__)
    for name in (CONSTRAINTS, os.path.join(ROOT, "setup.py"), *scripts):
        with open(name, "rb") as file:
            digest.update(file.read())
    return os.path.join(VENV, f".installed-{'det' if det else 'seg'}-{digest.hexdigest()[:12]}")


def stamps():
    """Return the stamps of .venv, of this and of other versions of the project; [] if not whole.

    An environment that was moved is not whole: its scripts begin with the path of its old Python,
    and would install there. Stamps hold its place; those of older versions of this script are
    empty, and it marked what was not whole.
    """
    paths = glob.glob(os.path.join(VENV, ".installed-*"))
    unfinished = os.path.exists(os.path.join(VENV, ".unfinished"))
    return [] if unfinished else [path for path in paths if read(path) in ("", VENV)]


def read(path):
    """Return the content of a text file."""
    with open(path) as file:
        return file.read()


def is_complete(det):
    """Return whether .venv needs no installation."""
    return bool({stamp(det), stamp(True)} & set(stamps())) and is_current_venv()


def install(det):
    """Create .venv, and install the package and its dependencies."""
    # pip considers a package installed even if its installation was interrupted: an environment is
    # used again only if it was whole, and has no stamp until it is whole again.
    whole = stamps()
    if not (whole and is_current_venv()):
        create_venv()
    check_pip_settings()
    for path in whole:
        if os.path.exists(path):
            os.remove(path)
    for step in steps(det):
        step()
    part = stamp(det).replace(".installed", ".part")
    with open(part, "w") as file:
        file.write(VENV)
    os.rename(part, stamp(det))


def create_venv():
    """Create .venv without packages, in place of what is there."""
    if os.path.islink(VENV) and not os.path.exists(VENV):
        fail(f"{VENV} is a link to {os.readlink(VENV)}, which does not exist: remove the link")
    if os.path.exists(VENV) and not os.path.isdir(VENV):
        fail(f"{VENV} is a file, where the folder of the environment is to be: remove it")
    say(f"creating {VENV}")
    # If this is .venv's own Python, the links to it would be links to themselves.
    inside = os.path.abspath(sys.executable).startswith(VENV + os.sep)
    base = os.path.realpath(sys.executable) if inside else sys.executable
    if call([base, "-m", "venv", "--clear", VENV]) != 0:
        fail(f"{VENV} could not be created, the reason is above: the command can be repeated")


def steps(det):
    """Return the installations in their order, as functions without arguments."""
    constrained = ("install", "-c", CONSTRAINTS)
    return [
        lambda: say("the packages of segmentation"),
        lambda: pip(*constrained, "pip", "setuptools", "wheel"),
        # torch comes first and in the pinned version. Without the pin, pip would install the newest
        # version, which is a CUDA build.
        lambda: pip(*constrained, "torch"),
        # pip builds mmcv in an isolated environment without torch, hence without operators, in
        # seconds. The wheel has the same name as one with operators, so it must stay out of pip's
        # cache.
        lambda: pip(*constrained, "--no-cache-dir", "onedl-mmcv"),
        lambda: pip(*constrained, "-e", ".[test]" if det else ".[seg]"),
        install_opencv_without_windows,
        *([lambda: pip(*constrained, "ninja", "psutil"), install_operators] if det else []),
    ]


def install_opencv_without_windows():
    """Install another build of OpenCV where the one that mmsegmentation requires does not work."""
    # opencv-python needs libGL to open windows. Servers lack it.
    if not python_can("import cv2"):
        say("OpenCV without windows, since this machine has no libGL")
        pip(
            "install", "-c", CONSTRAINTS, "--no-deps", "--force-reinstall", "opencv-python-headless"
        )


def install_operators():
    """Install mmcv with compiled operators, as a wheel that is cached or compiled now."""
    if python_can("import mmcv._ext"):
        return
    wheel = operators.find_or_compile(pinned("onedl-mmcv"), PYTHON, environment(), held_locks())
    say(f"mmcv with compiled operators, from {os.path.dirname(wheel)}")
    pip("install", "--no-deps", "--force-reinstall", wheel)
    if not python_can("import mmcv._ext"):
        fail(f"mmcv's operators cannot be imported: remove {wheel}, and repeat the command")


locks = []  # the file descriptor of the lock, if this process has opened it


def held_locks():
    """Return the lock's file descriptor for processes that go on if this one is killed."""
    return tuple(locks)


def lock(kind):
    """Wait for the lock; the system releases it when the last process that holds it has ended.

    Args:
        kind: fcntl.LOCK_SH for those who use .venv, fcntl.LOCK_EX for the one who changes it.
    """
    try:
        if not locks:
            locks.append(os.open(LOCK, os.O_RDWR | os.O_CREAT, 0o666))
        try:
            fcntl.flock(locks[0], kind | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another command that installs into .venv or uses it")
            fcntl.flock(locks[0], kind)
    except OSError as e:  # a folder that is read-only, or a file system without locks
        say(f"without a lock, {LOCK} cannot be locked ({e.strerror})")


def prepare(det):
    """Install what is missing, and return with a lock that keeps others from changing .venv."""
    while True:
        lock(fcntl.LOCK_SH)
        if is_complete(det):
            return
        lock(fcntl.LOCK_EX)
        if is_complete(det):  # another command has installed it meanwhile
            continue
        start = time.time()
        install(det)
        say(f"done in {time.time() - start:.0f} s")
        if not is_complete(det):
            fail(f"{VENV} is not whole after its installation: is the disk full?")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--det", action="store_true", help="also mmcv's compiled operators, mmdet and the tests"
    )
    parser.add_argument("--remove", action="store_true", help="remove .venv")
    parser.add_argument(
        "--run", nargs=argparse.REMAINDER, help="then run .venv's Python with these arguments"
    )
    args = parser.parse_args()
    check_machine(args.det)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # to clean up as after Ctrl-C
    try:
        if args.remove:
            lock(fcntl.LOCK_EX)
            sys.exit(subprocess.call(["rm", "-rf", VENV]))
        prepare(args.det)
    except KeyboardInterrupt:
        sys.exit("\ninterrupted: the same command goes on")
    except OSError as e:
        fail(f"{e.filename or VENV}: {e.strerror}; the command can be repeated")
    except subprocess.CalledProcessError as e:
        fail(f"{' '.join(e.cmd)} failed: is the disk full? The command can be repeated")
    if args.run:
        for descriptor in locks:
            os.set_inheritable(descriptor, True)  # the lock is held until the command ends
        os.execv(PYTHON, [PYTHON, *args.run])


if __name__ == "__main__":
    main()
