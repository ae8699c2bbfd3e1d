"""Compiling mmcv's operators into a wheel that is kept in the user's cache; used by install.py."""

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


def fail(message):
    """Exit with status 1 and a message."""
    sys.exit("error: " + message)


def say(message):
    """Print a line of progress, unbuffered."""
    print("install: " + message, flush=True)


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


def find_or_compile(version, python, environment, descriptors):
    """Return the wheel of mmcv with operators for an environment, from the cache or compiled now.

    Args:
        version: Version of mmcv.
        python: The environment's Python, which has PyTorch.
        environment: Variables for the processes in it.
        descriptors: Descriptors of files that the compiling process keeps open.
    """
    command = [python, "-c", "import torch; print(torch.__version__)"]
    torch_version = subprocess.check_output(command, env=environment, text=True).strip()
    python_version = "{}.{}".format(*sys.version_info[:2])
    key = f"mmcv-{version}-torch-{torch_version}-python-{python_version}-{platform.machine()}"
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    folder = os.path.join(cache, "gfnet-dense", key)
    if not os.path.isdir(folder):
        check_compiler()
        compile_wheel(version, folder, python, environment, descriptors)
    (wheel,) = (name for name in os.listdir(folder) if name.endswith(".whl"))
    return os.path.join(folder, wheel)


def compile_wheel(version, folder, python, environment, descriptors):
    """Compile mmcv into a wheel in ``folder``, which is created only when the wheel is complete."""
    try:
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        part = tempfile.mkdtemp(prefix=".part-", dir=os.path.dirname(folder))
    except OSError as e:
        fail(f"the cache {folder} cannot be written ({e.strerror}): set XDG_CACHE_HOME")
    log_file = os.path.join(tempfile.gettempdir(), f"mmcv-compile-{os.getpid()}.log")
    say("compiling mmcv's operators, once for this machine: about 10 minutes on 2 cores")
    say(f"log: {log_file}")
    arguments = ["--no-build-isolation", "--no-deps", "--no-cache-dir", "--no-binary", "onedl-mmcv"]
    command = [python, "-m", "pip", "wheel", "-v", *arguments, "-w", part, f"onedl-mmcv=={version}"]
    process = subprocess.Popen(
        command,
        # Python's default flags include -g, and debug information doubles the time.
        env=dict(environment, CFLAGS="-g0", MMCV_WITH_OPS="1"),
        pass_fds=descriptors,
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
