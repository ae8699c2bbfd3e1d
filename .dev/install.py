#!/usr/bin/env python3
"""Set up .venv with the versions that are tested together: python3 .dev/install.py [--det]

The script uses the standard library only. Its syntax can be parsed by older interpreters, so that
they can report that they are too old.
"""

import argparse
import hashlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
PYTHON = os.path.join(VENV, "bin", "python")
CONSTRAINTS = os.path.join(ROOT, "requirements", "constraints.txt")
MIN_PYTHON = (3, 10)
# Free disk space in GB that an installation needs, with a CPU build of torch
SPACE_SEG, SPACE_DET = 2.5, 3.5


def fail(message):
    """Exit with status 1 and a message."""
    sys.exit("error: " + message)


def say(message):
    """Print a line of progress, unbuffered."""
    print("install: " + message, flush=True)


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


def check_compiler():
    """Exit with a message if the C++ compiler or Python's headers are missing."""
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        fail(
            f"the C++ compiler {compiler} is missing, mmcv's operators (detection, tests) need it: "
            "install it (Debian, Ubuntu: 'apt-get install g++'); segmentation ('make demo') works "
            "without"
        )
    if not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")):
        fail(
            "the headers of this Python are missing, mmcv's operators (detection, tests) need "
            "them: install them (Debian, Ubuntu: 'apt-get install python3-dev')"
        )


def pinned(package):
    """Return the version of a package in requirements/constraints.txt."""
    with open(CONSTRAINTS) as file:
        return re.search(rf"^{package}==([^\s;]+)", file.read(), re.MULTILINE)[1]


def pip(*arguments):
    """Run pip in the environment, with its output shown; exit with a message if it fails."""
    command = [PYTHON, "-m", "pip", "--disable-pip-version-check", *arguments]
    if subprocess.call(command, cwd=ROOT) == 0:
        return
    free = min(shutil.disk_usage(path).free for path in (VENV, tempfile.gettempdir())) / 1e9
    hint = f" ({free:.1f} GB are free: the disk may have been full)" if free < 3 else ""
    fail("pip failed, the reason is above" + hint + ": the command can be repeated")


def stamp(det):
    """Return the path of a file that exists only if the environment is complete and up to date."""
    # An environment holds absolute paths, so it is useless after ROOT was moved.
    digest = hashlib.sha256(repr((sys.version, ROOT, det)).encode())
    for name in (CONSTRAINTS, os.path.join(ROOT, "setup.py"), os.path.abspath(__file__)):
        with open(name, "rb") as file:
            digest.update(file.read())
    return os.path.join(VENV, f".installed-{'det' if det else 'seg'}-{digest.hexdigest()[:12]}")


def is_current_venv():
    """Return whether .venv works and has the same version of Python as this script."""
    query = "import sys; print(sys.version)"
    try:
        answer = subprocess.check_output([PYTHON, "-c", query], stderr=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError):
        return False
    return answer.decode().strip() == sys.version.strip()


def install(det):
    """Create .venv, and install the package and its dependencies."""
    # pip considers a package installed even if its installation was interrupted. An interruption
    # leaves this file behind, and the next run then creates the environment anew.
    unfinished = os.path.join(VENV, ".unfinished")
    if not is_current_venv() or os.path.exists(unfinished):
        say(f"creating {VENV}")
        subprocess.check_call([sys.executable, "-m", "venv", "--clear", VENV])
    open(unfinished, "w").close()

    constrained = ("install", "-c", CONSTRAINTS)
    say("the packages of segmentation")
    pip(*constrained, "pip", "setuptools", "wheel")
    # torch comes first and in the pinned version. Without the pin, pip would install the newest
    # version, which is a CUDA build.
    pip(*constrained, "torch")
    # pip builds mmcv in an isolated environment without torch, hence without operators, in seconds.
    # The wheel has the same name as one with operators, so it must stay out of pip's cache.
    pip(*constrained, "--no-cache-dir", "onedl-mmcv")
    pip(*constrained, "-e", ".[test]" if det else ".[seg]")
    if subprocess.call([PYTHON, "-c", "import cv2"], stderr=subprocess.DEVNULL) != 0:
        # mmsegmentation requires opencv-python, which needs libGL to open windows. Servers lack it.
        say("OpenCV without windows, since this machine has no libGL")
        pip(*constrained, "--no-deps", "--force-reinstall", "opencv-python-headless")
    if det:
        pip(*constrained, "ninja", "psutil")
        install_operators()
    os.remove(unfinished)


def install_operators():
    """Install mmcv with compiled operators, as a wheel that is cached or compiled now."""
    if subprocess.call([PYTHON, "-c", "import mmcv._ext"], stderr=subprocess.DEVNULL) == 0:
        return
    version = pinned("onedl-mmcv")
    query = "import torch; print(torch.__version__)"
    torch_version = subprocess.check_output([PYTHON, "-c", query], text=True).strip()
    python_version = "{}.{}".format(*sys.version_info[:2])
    key = f"mmcv-{version}-torch-{torch_version}-python-{python_version}-{platform.machine()}"
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    folder = os.path.join(cache, "gfnet-dense", key)
    if not os.path.isdir(folder):
        check_compiler()
        compile_operators(version, folder)
    (wheel,) = (name for name in os.listdir(folder) if name.endswith(".whl"))
    say(f"mmcv with compiled operators, from {folder}")
    pip("install", "--no-deps", "--force-reinstall", os.path.join(folder, wheel))
    subprocess.check_call([PYTHON, "-c", "import mmcv._ext"])


def compile_operators(version, folder):
    """Compile mmcv into a wheel in ``folder``, which is created only when the wheel is complete."""
    try:
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        part = tempfile.mkdtemp(prefix=".part-", dir=os.path.dirname(folder))
    except OSError as e:
        fail(f"the cache {folder} cannot be written ({e.strerror}): set XDG_CACHE_HOME")
    log_file = os.path.join(tempfile.gettempdir(), f"mmcv-compile-{os.getpid()}.log")
    say("compiling mmcv's operators, once for this machine: about 10 minutes on 2 cores")
    say(f"log: {log_file}")
    # Python's default flags include -g, and debug information doubles the time.
    environment = dict(os.environ, CFLAGS="-g0", MMCV_WITH_OPS="1")
    arguments = ["--no-build-isolation", "--no-deps", "--no-cache-dir", "--no-binary", "onedl-mmcv"]
    command = [PYTHON, "-m", "pip", "wheel", "-v", *arguments, "-w", part, f"onedl-mmcv=={version}"]
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        with open(log_file, "w") as log:
            show_progress(process.stdout, log)
        if process.wait() != 0:
            fail(f"mmcv's operators did not compile: the reason is in {log_file}")
        try:
            os.rename(part, folder)
        except OSError:
            if not os.path.isdir(folder):  # another installation may have created it meanwhile
                raise
        os.remove(log_file)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)  # pip then removes its temporary files
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
        shutil.rmtree(part, ignore_errors=True)


def show_progress(output, log):
    """Copy the compiler's output to a log, and print ninja's progress and the time left.

    Args:
        output: Lines of the compiler. Lines of ninja begin with ``[done/total]``.
        log: File to which all lines are written.
    """
    start, last = time.time(), 0.0
    for line in output:
        log.write(line)
        match = re.match(r"\s*\[(\d+)/(\d+)\]", line)
        if match and (time.time() - last > 30 or match[1] == match[2]) and int(match[1]) > 4:
            last = time.time()
            done, total = int(match[1]), int(match[2])
            left = (last - start) / done * (total - done)
            say(f"compiled {done} of {total} files, {last - start:.0f} s, about {left:.0f} s left")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--det", action="store_true", help="also mmcv's compiled operators, mmdet and the tests"
    )
    det = parser.parse_args().det
    check_machine(det)
    if os.path.exists(stamp(det)) or (not det and os.path.exists(stamp(True))):
        return
    start = time.time()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # to clean up as after Ctrl-C
    try:
        install(det)
    except KeyboardInterrupt:
        sys.exit("\ninterrupted: the same command goes on")
    except OSError as e:
        fail(f"{e.filename or VENV}: {e.strerror}; the command can be repeated")
    except subprocess.CalledProcessError as e:
        fail(f"{' '.join(e.cmd)} failed: is the disk full? The command can be repeated")
    open(stamp(det), "w").close()
    say(f"done in {time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
