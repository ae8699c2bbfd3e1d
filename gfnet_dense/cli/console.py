"""What the commands print, and their exit codes."""

import errno
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from gfnet_dense.utils.errors import InputError

# What the file system refuses is not a defect of the program.
REFUSALS = {
    errno.EACCES, errno.EDQUOT, errno.EEXIST, errno.EFBIG, errno.EISDIR, errno.ELOOP,
    errno.ENAMETOOLONG, errno.ENOENT, errno.ENOSPC, errno.ENOTDIR, errno.EPERM, errno.EROFS,
}  # fmt: skip
# What gloo and NCCL say where another process of the training has ended
PEER_IS_GONE = re.compile(r"(closed|reset) by peer|Broken pipe|remote process exited")


@contextmanager
def plain_errors() -> Iterator[None]:
    """Print a user's mistake as one sentence, without traceback, and exit with a non-zero code."""
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
        sys.exit(1)  # the process that has ended tells why
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)


def sentence(error: InputError) -> str:
    """Return the message alone: DataLoader workers wrap it in a traceback of theirs."""
    return " ".join(str(error).rpartition("InputError: ")[2].split())
