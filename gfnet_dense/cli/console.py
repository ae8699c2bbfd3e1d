"""Error messages, tracebacks and exit codes of the commands."""

import argparse
import errno
import logging
import os
import re
import select
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.program import discard_output
from gfnet_dense.utils.users_code import places_in_users_code

# Errors of the file system that are no defects of the program
REFUSALS = {
    errno.EACCES, errno.EDQUOT, errno.EEXIST, errno.EFBIG, errno.EISDIR, errno.ELOOP,
    errno.ENAMETOOLONG, errno.ENOENT, errno.ENOSPC, errno.ENOTDIR, errno.EPERM, errno.EROFS,
}  # fmt: skip
# Messages of gloo and NCCL when another process of the run has ended
PEER_IS_GONE = re.compile(r"(closed|reset) by peer|Broken pipe|remote process exited")


class ShowTracebacks(argparse.Action):
    """Flag that takes effect while arguments are parsed: sentences come below their traceback."""

    given = False

    def __call__(self, *args: Any) -> None:
        ShowTracebacks.given = True


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn a user's mistake into one sentence on stderr and a non-zero exit code, no traceback.

    The traceback of every error is written to the log file, if the command has begun one, and with
    ``--traceback`` to stderr. An error in the user's own code keeps its traceback.

    Raises:
        SystemExit: With one sentence for an InputError and for an OSError of :data:`REFUSALS`; with
            1 if another process of a distributed run has ended, and 130 after Ctrl-C.
    """
    try:
        yield
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as e:
        _log_traceback(e)
        status = _exit_status(e)
        if status is None:
            raise
        if ShowTracebacks.given:
            traceback.print_exception(e)
        sys.exit(status)


def _exit_status(error: Exception) -> str | int | None:
    """Return the sentence or code with which an error ends a command, None for a defect."""
    if isinstance(error, InputError):
        return f"error: {sentence(error)}"
    if isinstance(error, OSError) and error.errno in REFUSALS and not places_in_users_code(error):
        name = error.filename or "a file"
        return f"error: {name} could not be written or read: {error.strerror}"
    if isinstance(error, BrokenPipeError) and _has_no_reader():
        return 1
    if isinstance(error, RuntimeError) and "RANK" in os.environ and PEER_IS_GONE.search(str(error)):
        return 1  # the process that ended first has printed the reason
    return None


def _has_no_reader() -> bool:
    """Return whether nobody reads the output any more, such as ``head``; it goes nowhere then."""
    poll, output = select.poll(), sys.stdout.fileno()
    poll.register(output, 0)  # errors are always told
    has_none = any(event & select.POLLERR for _, event in poll.poll(0))
    if has_none:
        discard_output()
    return has_none


def _log_traceback(error: Exception) -> None:
    """Append the traceback of an error to the log file of a training or test, if there is one."""
    from mmengine.logging import MMLogger

    for handler in MMLogger.get_current_instance().handlers:
        if isinstance(handler, logging.FileHandler):
            with suppress(OSError), open(handler.baseFilename, "a") as file:
                traceback.print_exception(error, file=file)


def sentence(error: InputError) -> str:
    """Return the message of an error on one line, without the traceback of a DataLoader worker.

    DataLoader raises the errors of its workers again, with the worker's traceback in the message.
    """
    return " ".join(str(error).rpartition("InputError: ")[2].split())
