"""Error messages and exit codes of the commands."""

import errno
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from gfnet_dense.utils.errors import InputError

# Errors of the file system that are no defects of the program
REFUSALS = {
    errno.EACCES, errno.EDQUOT, errno.EEXIST, errno.EFBIG, errno.EISDIR, errno.ELOOP,
    errno.ENAMETOOLONG, errno.ENOENT, errno.ENOSPC, errno.ENOTDIR, errno.EPERM, errno.EROFS,
}  # fmt: skip
# Messages of gloo and NCCL when another process of the run has ended
PEER_IS_GONE = re.compile(r"(closed|reset) by peer|Broken pipe|remote process exited")


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn a user's mistake into one sentence on stderr and a non-zero exit code, no traceback.

    Raises:
        SystemExit: With one sentence for an InputError and for an OSError of :data:`REFUSALS`; with
            1 if another process of a distributed run has ended, and 130 after Ctrl-C.
    """
    try:
        yield
    except InputError as e:
        sys.exit(f"error: {sentence(e)}")
    except OSError as e:
        if e.errno not in REFUSALS:
            raise
        sys.exit(f"error: {e.filename or 'a file'} could not be written or read: {e.strerror}")
    except RuntimeError as e:
        if "RANK" not in os.environ or not PEER_IS_GONE.search(str(e)):
            raise
        sys.exit(1)  # the process that ended first has printed the reason
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)


def sentence(error: InputError) -> str:
    """Return the message of an error on one line, without the traceback of a DataLoader worker.

    DataLoader raises the errors of its workers again, with the worker's traceback in the message.
    """
    return " ".join(str(error).rpartition("InputError: ")[2].split())
