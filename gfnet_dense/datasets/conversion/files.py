"""The files of a source, and reading of text, JSON and XML with the place of what is wrong."""

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from xml.etree import ElementTree

import yaml
from rich.console import Console
from rich.progress import track

from gfnet_dense.datasets.coco.pictures import EXCHANGES
from gfnet_dense.datasets.survey.pictures import read_picture
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.image_headers import MAX_PIXELS
from gfnet_dense.utils.images import IMAGE_SUFFIXES
from gfnet_dense.utils.types import Size

from .model import Source

Item = TypeVar("Item")

# Begins of the names of Pascal VOC's folders of masks: SegmentationClassPNG is one, too
VOC_MASKS = ("SegmentationClass", "SegmentationObject")
# Names of folders, and words in names of files, that tell a split
SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


class Files:
    """The visible files of a source, in a folder and all below it.

    Links to folders are followed, and each folder is entered once, so that loops of links end.

    Args:
        source: A folder, or one annotation file, whose folder is searched for its images.
        images: Another folder of the images.

    Raises:
        InputError: If a folder does not exist or holds no file.
    """

    def __init__(self, source: Path, images: Path | None = None) -> None:
        self.source = source
        self.root = source if source.is_dir() else source.parent
        for path in (source, images):
            if path is not None and not path.exists():
                raise InputError(f"{path} does not exist")
        if images is not None and not images.is_dir():
            raise InputError(f"--images {images}: give the folder that holds the images")
        self.below = _visible(self.root)
        self.paths = self.below if source.is_dir() else [source]
        self.image_root = images or self.root
        self.images = _visible(images) if images else self.below
        self.searched: set[Path] = set()  # images that have nothing but their name in common
        if not self.below:
            raise InputError(f"{source} holds no file")

    def with_suffix(self, *suffixes: str) -> list[Path]:
        """Return the files, not images, whose suffix in lower case is one of these."""
        return [path for path in self.paths if path.suffix.lower() in suffixes]

    @cached_property
    def pictures(self) -> list[Path]:
        """All image files, without the masks of Pascal VOC (``SegmentationClass/``)."""
        return [
            path
            for path in self.images
            if path.suffix.lower() in IMAGE_SUFFIXES
            and not any(part.startswith(VOC_MASKS) for part in folders_of(path, self.image_root))
        ]

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        by_name = defaultdict(list)
        for path in self.pictures:
            by_name[path.name].append(path)
            by_name[path.stem].append(path)
        return by_name

    def find_image(
        self, name: str, annotation: Path, hints: Iterable[str] = (), split: str = ""
    ) -> Path | None:
        """Return the image that an annotation file names, None if there is none.

        It lies where the name says, from the folder of the annotation file on, or its path ends
        with the name. Names may lack their suffix, and have backslashes. The last
        folder in a name has to be the same here, since images of several folders often have the
        same names. For absolute names, those with ``..`` and in the folder of ``--images``, the
        name of the file is enough. An image in the folder of another split is none.

        Args:
            name: Name in the annotation file, with or without folders.
            annotation: The annotation file.
            hints: Names of folders that decide if several images have the name; after that, the
                image counts that shares most folders with the annotation file.
            split: Split of the annotation file, '' for that of its folder.

        Raises:
            InputError: If several images have the name, and nothing decides.
        """
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if not parts:
            return None
        if (direct := beside(parts, annotation)) is not None:
            return direct
        split = split or split_in(annotation, self.root)
        is_elsewhere = self.images is not self.below or re.match(r"[/\\]|\w:|\.\.", name)
        shortest = 1 if len(parts) == 1 or is_elsewhere else 2
        for length in range(len(parts), shortest - 1, -1):
            tail = parts[-length:]
            found = [
                path
                for path in self._by_name.get(tail[-1], [])
                if _ends_with(path, tail)
                and (not split or self._split_above(path, length) in ("", split))
            ]
            for hint in hints if len(found) > 1 else ():
                found = [path for path in found if hint in path.parts] or found
            nearness = [_num_common(path, annotation) for path in found]
            found = [path for path, n in zip(found, nearness, strict=True) if n == max(nearness)]
            if len(found) > 1:
                raise InputError(
                    f"{annotation} names the image {name}, and there are {len(found)}: "
                    f"{found[0]}, {found[1]}{', ...' if len(found) > 2 else ''}; give the folder "
                    "of the right ones with --images"
                )
            if found:
                if length == 1 and self.images is self.below:
                    self.searched.add(found[0])
                return found[0]
        return None

    def of_stem(self, annotation: Path) -> Path | None:
        """Return the image that lies beside an annotation file with its name, None if none does."""
        found = self._by_name.get(annotation.stem, [])
        return next((path for path in found if path.parent == annotation.parent), None)

    def _split_above(self, path: Path, length: int) -> str:
        """Return the split that the folders of an image tell above the last parts of its path."""
        return split_in(path.parents[length - 1] / path.name, self.image_root)


def folders_of(path: Path, root: Path) -> tuple[str, ...]:
    """Return the names of the folders of a file, from that of the root on."""
    return (root.resolve().name, *path.relative_to(root).parts[:-1])


def beside(parts: Sequence[str], annotation: Path) -> Path | None:
    """Return the image at a path from the folder of an annotation file, None if there is none."""
    path = annotation.parent.joinpath(*parts)
    is_image = path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
    return Path(os.path.normpath(path)) if is_image else None


def _ends_with(path: Path, tail: tuple[str, ...]) -> bool:
    folders = path.parts[-len(tail) : -1]
    return folders == tail[:-1] and tail[-1] in (path.name, path.stem)


def _num_common(path: Path, other: Path) -> int:
    """Return the number of folders that two paths have in common, from the first one on."""
    return len(os.path.commonprefix([path.parent.parts, other.parent.parts]))


def _visible(folder: Path) -> list[Path]:
    found: list[Path] = []
    entered: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(path for path in found if path.is_file())


def missing(name: str, annotation: Path) -> InputError:
    """Return the error for an image that an annotation file names and that is not there."""
    return InputError(
        f"{annotation} names the image {name}, which is not there: put it beside its annotation, "
        "or give the folder of the images with --images"
    )


def leave_out_unlabeled(source: Source, files: Files, reason: str) -> None:
    """Count the images in a folder of which a reader has found no annotation."""
    labeled = {image.path.resolve() for image in source.images}
    for path in files.pictures if files.source.is_dir() else []:
        if path.resolve() not in labeled:
            source.leave_out(reason, path)


def checked_size(height: int, width: int, path: Path) -> Size:
    """Return the size of a picture that an annotation file states.

    Raises:
        InputError: If no image has that size: a mask of it might fill the memory.
    """
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise InputError(f"{path} states the size of {width}x{height} pixels for a picture")
    return height, width


def reading(items: Sequence[Item]) -> Iterable[Item]:
    """Yield annotation files or images, and show the progress on stderr."""
    return track(items, "read", console=Console(stderr=True))


def split_in(path: Path, root: Path) -> str:
    """Return the split that the folders of a file tell, '' if they tell none or several.

    Folders on the way from ``root`` to the file count, not those above both.

    >>> split_in(Path("in/train2017/a.jpg"), Path("in"))
    'train'
    """
    return split_of_words(Path(os.path.relpath(path.parent, root)).parts)


def split_of_words(words: Iterable[str]) -> str:
    """Return the split that is among words, which may end with a year; '' for none or several."""
    found = {
        SPLITS[word] for each in words if (word := each.lower().rstrip("0123456789")) in SPLITS
    }
    return found.pop() if len(found) == 1 else ""


def shown_size(path: Path) -> Size:
    """Return (H, W) of an image file, turned by its EXIF orientation.

    Raises:
        InputError: If it cannot be read.
    """
    picture = read_picture(str(path))
    if picture.error:
        raise InputError(picture.error)
    width, height = picture.size
    return (width, height) if picture.orientation in EXCHANGES else (height, width)


def read_text(path: Path) -> str:
    """Return the text of a file in UTF-8, also with a byte order mark.

    Raises:
        InputError: If it is not UTF-8, or cannot be read.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise InputError(f"{path} is no text in UTF-8, at byte {e.start}") from None
    except OSError as e:
        raise InputError(f"{path} cannot be read: {e.strerror}") from None


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Return the lines of a file that are not blank, with their numbers from 1 on."""
    lines = enumerate(read_text(path).splitlines(), start=1)
    return [(number, line.strip()) for number, line in lines if line.strip()]


def read_list(path: Path) -> list[str]:
    """Return names by index, a line each; blank lines at the end do not count.

    Raises:
        InputError: If a line before the last name is blank: it would have an index.
    """
    lines = [line.strip() for line in read_text(path).rstrip().splitlines()]
    if "" in lines:
        raise InputError(
            f"{path}, line {lines.index('') + 1} is blank, and the number of a line is the index "
            "of its class: take the line out, or name the class"
        )
    return lines


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        InputError: If it is no JSON, with line and column.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as e:
        raise InputError(f"{path} cannot be read: {e.strerror}") from None
    except json.JSONDecodeError as e:
        raise InputError(f"{path}, line {e.lineno}, column {e.colno}: no JSON, {e.msg}") from None
    except (RecursionError, ValueError) as e:
        raise InputError(f"{path} is no JSON: {e}") from None


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML file.

    Raises:
        InputError: If it is no YAML, with line and column.
    """
    try:
        return yaml.safe_load(read_text(path))
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise InputError(f"{path}{place}: no YAML, {e.problem}") from None
    except (RecursionError, ValueError, yaml.YAMLError) as e:
        raise InputError(f"{path} is no YAML: {' '.join(str(e).split())}") from None


def read_xml(path: Path) -> ElementTree.Element:
    """Return the root of an XML file.

    Expat refuses entities that expand to much more than the file, since version 2.4.1.

    Raises:
        InputError: If it is no XML, with line and column.
    """
    try:
        return ElementTree.parse(path).getroot()
    except OSError as e:
        raise InputError(f"{path} cannot be read: {e.strerror}") from None
    except ElementTree.ParseError as e:
        line, column = e.position
        reason = str(e).rpartition(": line")[0]
        raise InputError(f"{path}, line {line}, column {column + 1}: no XML, {reason}") from None
    except (LookupError, ValueError) as e:  # an encoding that Python does not know
        raise InputError(f"{path} is no XML: {e}") from None
