"""Writing of files that are either complete or absent, also after a crash."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path, and rename its file to ``path`` at the end of the ``with`` block.

    The temporary file is in the folder of ``path``, which is created, and has its suffix. After an
    exception the temporary file is removed and ``path`` is as before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{os.getpid()}.{path.name}")
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
