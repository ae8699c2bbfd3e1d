"""Results of many files in one folder: unique names, and files that cannot be written."""

import errno
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .errors import InputError

# A folder that holds this empty file has results of an earlier run, which are no inputs.
MARKER = ".gfnet-dense-results"
# Errors that concern the name or the size of one file: all others can still be written.
OF_ONE_FILE = {
    errno.EACCES, errno.EEXIST, errno.EFBIG, errno.EILSEQ, errno.EINVAL, errno.EISDIR, errno.ELOOP,
    errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.EPERM,
}  # fmt: skip

OF_ALL_FILES = {errno.EDQUOT, errno.EIO, errno.ENOSPC, errno.EROFS}


def unique_names(names: Sequence[Path], paths: Sequence[Path]) -> list[Path]:
    """Return a name for the results of each file, without suffix and different from all others.

    A name is as given, without its suffix. Where files differ in their suffix alone, their names
    keep it. Where this is not enough, all names are the paths from the files' common folder.

    Args:
        names: Relative paths with suffixes.
        paths: The files, each once.
    """
    absolute = [os.path.abspath(path) for path in paths]
    common = os.path.commonpath([os.path.dirname(path) for path in absolute]) if absolute else ""
    from_common = [Path(os.path.relpath(path, common)) for path in absolute]
    for whole in (list(names), from_common):
        stems = [name.with_suffix("") for name in whole]
        counts = Counter(stems)
        mixed = [s if counts[s] == 1 else w for s, w in zip(stems, whole, strict=True)]
        for chosen in (mixed, whole):  # "a.jpg" keeps its suffix beside "a.png"; "a.jpg.png" too
            if len(set(chosen)) == len(chosen):
                return chosen
    raise AssertionError("a file is given twice")


def make_writable(folder: Path) -> None:
    """Create a folder for results.

    Raises:
        InputError: If no file can be written to it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as e:
        raise InputError(f"results cannot be written to {folder}: {e.strerror}") from e


def mark_results(folder: Path) -> None:
    """Mark a folder, which is created, so that it is left out where inputs are searched."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).touch()


class Writing:
    """Writing of results, which goes on behind one that cannot be written.

    Attributes:
        count: Number of results that were written.
        failures: Sentences on results that could not be written.
    """

    def __init__(self) -> None:
        self.count = 0
        self.failures: list[str] = []

    @contextmanager
    def of(self, what: str | Path) -> Iterator[None]:
        """Write one result, or what belongs to one input, in the ``with`` block.

        Args:
            what: The result, or the input that it is of, for the sentence.

        Raises:
            InputError: If no further result can be written either, such as to a full disk.
        """
        try:
            yield
        except OSError as e:
            sentence = f"the results of {what} could not be written: {e.strerror}"
            if e.errno in OF_ALL_FILES:
                raise InputError(f"{sentence}; {self.count} were written before, whole") from e
            if e.errno not in OF_ONE_FILE:
                raise
            self.failures.append(sentence)
        else:
            self.count += 1
