"""Writing of files that are either complete or absent, also after a crash."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MAX_SUFFIX = 16  # maximum length of the suffix that a temporary name keeps, in bytes


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path, and rename its file to ``path`` at the end of the ``with`` block.

    The temporary file is in the folder of ``path``, which is created. After an exception the
    temporary file is removed and ``path`` is as before.

    The temporary name is random, so that processes of several machines can share a folder, and
    short: ``path`` may have the longest name that the file system takes. It ends with the suffix of
    ``path``, by which some writers choose their format, unless the suffix is longer than
    ``MAX_SUFFIX``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = path.suffix if len(os.fsencode(path.suffix)) <= MAX_SUFFIX else ""
    part = path.with_name(f".{secrets.token_hex(8)}{suffix}")
    try:
        yield part
        atomic_replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def atomic_replace(part: Path, path: Path) -> None:
    """Rename the file ``part`` to ``path``, which must be in the same folder.

    The bytes are flushed to the disk first: also after a power failure, ``path`` is either the
    complete old file or the complete new one.
    """
    _flush(part)
    os.replace(part, path)
    _flush(path.parent)


def _flush(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
