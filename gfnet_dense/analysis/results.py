"""The files of an analysis: each is whole, and those of an earlier analysis go."""

import csv
import json
import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from gfnet_dense.utils.atomic_write import atomic_write
from gfnet_dense.utils.results import make_writable, mark_results

FIGURES = "errors.json"
BYTES = "backslashreplace"  # how bytes of file names are written that are no UTF-8
SUFFIXES = (".csv", ".html", ".png")


class Results:
    """A folder for the files of an analysis.

    Attributes:
        folder: The folder, which is created.
        names: Names of the files that were written.

    Args:
        folder: The folder. Files of an earlier analysis stay until they are replaced, or until
            :meth:`finish`.

    Raises:
        InputError: If no file can be written to it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: list[str] = []
        make_writable(folder)
        mark_results(folder)

    def path(self, name: str) -> Path:
        """Return the path of a file that the caller writes."""
        self.names.append(name)
        return self.folder / name

    def write_table(self, name: str, heading: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Write a CSV file; cells that are not a number (NaN) stay empty."""
        with atomic_write(self.path(name)) as part:
            with part.open("w", newline="", encoding="utf-8", errors=BYTES) as file:
                writer = csv.writer(file)
                writer.writerow(heading)
                writer.writerows([["" if _is_nan(cell) else cell for cell in row] for row in rows])

    def write_text(self, name: str, text: str) -> None:
        """Write a text file."""
        with atomic_write(self.path(name)) as part:
            part.write_text(text, encoding="utf-8", errors=BYTES)

    def finish(self, figures: dict[str, Any]) -> None:
        """Write all figures as JSON, and remove the files of an earlier analysis that has more.

        Args:
            figures: Plain data and arrays; numbers that are not finite become null.
        """
        earlier: set[str] = set()
        with suppress(OSError, ValueError, KeyError, TypeError):  # none, or not of an analysis
            former = json.loads((self.folder / FIGURES).read_text(encoding="utf-8"))
            earlier = {str(name) for name in former["files"]}
        files = sorted({*self.names, FIGURES})
        text = json.dumps(_plain({**figures, "files": files}), ensure_ascii=False, indent=1)
        self.write_text(FIGURES, text + "\n")
        for name in earlier - set(files):
            path = self.folder / name
            if path.parent == self.folder and path.suffix in SUFFIXES and path.is_file():
                path.unlink()


def _is_nan(value: Any) -> bool:
    return isinstance(value, (float, np.floating)) and math.isnan(value)


def _plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value
