"""Finding the images and videos to predict: files, folders, glob patterns."""

import glob
import os
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.images import IMAGE_SUFFIXES
from gfnet_dense.utils.results import MARKER, unique_names

# Without .ts, which is a video far more rarely than a program in TypeScript
VIDEO_SUFFIXES = {
    ".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts",
    ".ogv", ".webm", ".wmv",
}  # fmt: skip
NAMED = 3  # maximum number of files that are named for each reason to leave files out


@dataclass(frozen=True)
class InputFile:
    """An image or video to predict.

    Attributes:
        path: The file.
        name: Relative path of its results, to which the suffix of each result is appended.
    """

    path: Path
    name: Path


@dataclass
class Inputs:
    """Result of :func:`find_inputs`.

    Attributes:
        files: Images and videos, each once and with a name of its own.
        left_out: Sentences on what is no input, one for each folder or pattern.
        unreadable: Sentences on subfolders that could not be read.
    """

    files: list[InputFile] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def find_inputs(inputs: Sequence[str], suffixes: Collection[str] = ()) -> Inputs:
    """Return the images and videos that files, folders and glob patterns stand for.

    A folder stands for the images and videos in it and in its subfolders, whose names are kept in
    ``name``. Hidden files and folders are left out, and results of an earlier run. Links are
    followed; each folder is read once. A file of any suffix can be given by its path. A pattern
    stands for the files and folders that it matches, a pattern with ``**`` for the files alone. A
    file that is given twice is returned once.

    Args:
        inputs: Paths of images, videos and folders, and glob patterns; ``~`` is expanded. A path
            that exists is no pattern.
        suffixes: Further suffixes of images in folders.

    Raises:
        InputError: If one of the inputs stands for no file.
    """
    result = Inputs()
    found: dict[str, tuple[Path, Path]] = {}  # path and name, by absolute path
    for text in inputs:
        if not text.strip():
            raise InputError("an input is empty: give an image, a video, a folder or a pattern")
        count, scan = 0, _Scan(suffixes)
        for path, name in _files_of(text, scan):
            found.setdefault(os.path.abspath(path), (path, name))
            count += 1
        result.unreadable += scan.unreadable
        if not count:
            left_out = f"; {scan.sentence()}" if scan.left_out else ""
            raise InputError(f"{text} {_why_nothing(text)}{left_out}")
        if scan.left_out:
            result.left_out.append(f"{text}: {scan.sentence()}")
    paths, names = zip(*found.values(), strict=True)
    result.files = [
        InputFile(path, name) for path, name in zip(paths, unique_names(names, paths), strict=True)
    ]
    return result


def _why_nothing(text: str) -> str:
    if os.path.isdir(os.path.expanduser(text)):
        return "holds no images or videos that are known by their suffix"
    if os.path.lexists(os.path.expanduser(text)):
        return "is a link to nothing, or no regular file"
    return "is no image, folder, pattern of files, or video"


def _files_of(text: str, scan: "_Scan") -> Iterator[tuple[Path, Path]]:
    """Yield path and name of the files that a file, a folder or a pattern stands for."""
    given = os.path.expanduser(text)
    is_pattern = not os.path.lexists(given)
    matches = sorted(glob.glob(_literal_start(given), recursive=True)) if is_pattern else [given]
    for match in map(Path, matches):
        if os.path.isfile(match):
            yield match, Path(match.name)
        elif os.path.isdir(match):
            if not is_pattern or "**" not in text:  # which has matched the files in it as well
                yield from scan.walk(match)
        elif is_pattern:
            scan.left_out["no regular file"].append(str(match))


def _literal_start(pattern: str) -> str:
    """Return a pattern without the special meaning of ``[``, ``*`` and ``?`` in existing folders.

    ``a[1]/*.png`` is about a folder ``a[1]`` if there is one, else about ``a1``.
    """
    parts = Path(pattern).parts
    for length in range(len(parts), 0, -1):
        start = os.path.join(*parts[:length])
        if os.path.lexists(start):
            return os.path.join(glob.escape(start), *parts[length:])
    return pattern


class _Scan:
    """What a search for images and videos in folders has found besides them.

    Args:
        suffixes: Further suffixes of images.

    Attributes:
        left_out: Paths that are no input, by the reason.
        unreadable: Sentences on folders that could not be read.
    """

    def __init__(self, suffixes: Collection[str] = ()) -> None:
        self._suffixes = {*IMAGE_SUFFIXES, *VIDEO_SUFFIXES, *suffixes}
        self.left_out: dict[str, list[str]] = defaultdict(list)
        self.unreadable: list[str] = []

    def walk(self, folder: Path) -> list[tuple[Path, Path]]:
        """Return the images and videos of a folder, sorted, and their paths in the folder."""
        found: list[Path] = []
        read = {os.path.realpath(folder)}  # links may lead in circles
        for root, folders, files in os.walk(folder, onerror=self._note_error, followlinks=True):
            inside = Path(root)
            kept = []
            for name in sorted(folders):
                reason = self._reason_for_folder(inside / name, read)
                if reason:
                    self.left_out[reason].append(f"{(inside / name).relative_to(folder)}/")
                else:
                    kept.append(name)
                    read.add(os.path.realpath(inside / name))
            folders[:] = kept
            for name in sorted(files):
                path = inside / name
                if name == MARKER:
                    continue
                reason = self._reason_for_file(path)
                if reason:
                    self.left_out[reason].append(str(path.relative_to(folder)))
                else:
                    found.append(path)
        return [(path, path.relative_to(folder)) for path in sorted(found)]

    def sentence(self) -> str:
        """Return how many files were left out and why, with the first names of each reason."""
        parts = []
        for reason, names in sorted(self.left_out.items(), key=lambda item: -len(item[1])):
            more = ", ..." if len(names) > NAMED else ""
            parts.append(f"{len(names)} {reason} ({', '.join(names[:NAMED])}{more})")
        return "left out: " + ", ".join(parts)

    def _note_error(self, error: OSError) -> None:
        self.unreadable.append(f"the folder {error.filename} could not be read: {error.strerror}")

    @staticmethod
    def _reason_for_folder(path: Path, read: set[str]) -> str | None:
        if path.name.startswith(".") or path.name == "__MACOSX":  # of archives made on a Mac
            return "hidden"
        if os.path.realpath(path) in read:
            return "linked to a folder that is read anyway"
        if os.path.exists(path / MARKER):
            return "with results of an earlier run"
        return None

    def _reason_for_file(self, path: Path) -> str | None:
        if path.name.startswith("."):
            return "hidden"
        if not os.path.isfile(path):
            return "no regular file"
        suffix = path.suffix.lower()
        if suffix in self._suffixes:
            return None
        return suffix or "without suffix"
