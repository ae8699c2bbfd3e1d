"""Images with objects or with a label map, as readers return and writers take them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gfnet_dense.datasets.survey.contents import Problem
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.types import Size

Box = tuple[float, float, float, float]  # x, y, width, height in pixels
Polygon = list[float]  # x1, y1, x2, y2, ... in pixels

IGNORED = "__ignore__"  # class name of labelme for pixels without a label
NOT_LABELED = 255  # in label maps
_BACKGROUNDS = {"_background_", "__background__", "background"}


def is_background(name: str) -> bool:
    """Return whether a name stands for what belongs to no class of objects."""
    return name.casefold() in _BACKGROUNDS


@dataclass
class LabeledObject:
    """An object in an image. Its outline is in ``polygons`` or in ``rle``, or it has none.

    Attributes:
        name: Class name as the source writes it.
        box: Box, None if it is the box around the outline.
        polygons: Outlines of the parts of the object.
        rle: Mask as compressed run lengths of pycocotools, a dict of ``size`` and ``counts``.
        crowd: Whether it stands for objects that are not told apart, or that do not count.
    """

    name: str
    box: Box | None = None
    polygons: list[Polygon] = field(default_factory=list)
    rle: dict | None = None
    crowd: bool = False

    @property
    def has_outline(self) -> bool:
        return bool(self.polygons) or self.rle is not None


@dataclass
class LabelMap:
    """A label map that is read when it is needed.

    Attributes:
        read: Returns (H, W) uint8 indices of ``Source.classes``, 255 for not labeled.
        counts: Number of pixels by class index, without 255.
        ignored: Number of pixels of 255.
    """

    read: Callable[[], np.ndarray]
    counts: dict[int, int]
    ignored: int


@dataclass
class LabeledImage:
    """An image with its annotation.

    Attributes:
        path: Image file; the one it would have if ``data`` is given.
        size: (H, W) in pixels of the picture that was labeled; None if the source does not say.
        source: Annotation file, for messages.
        objects: Objects, None if the source has label maps alone.
        label_map: Label map, None if the source has objects alone.
        split: 'train', 'val' or 'test', '' if the source has no splits.
        data: Content of an image that has no file.
    """

    path: Path
    size: Size | None
    source: Path
    objects: list[LabeledObject] | None = None
    label_map: LabelMap | None = None
    split: str = ""
    data: bytes | None = None


@dataclass
class Source:
    """All that a reader has found.

    Attributes:
        images: The images.
        classes: Class names in the order of the source; None if it has no order. Those of label
            maps are the names of the indices 0, 1, ...
        problems: Why the source cannot be converted.
        left_out: By reason: the number of things that are not converted, and the first file.
        notes: By reason: the number of things that are converted in another form, and the first.
    """

    images: list[LabeledImage] = field(default_factory=list)
    classes: list[str] | None = None
    problems: list[Problem] = field(default_factory=list)
    left_out: dict[str, tuple[int, str]] = field(default_factory=dict)
    notes: dict[str, tuple[int, str]] = field(default_factory=dict)

    def refuse(self, path: Path | str, sentence: str) -> None:
        """Add a problem of a file."""
        self.problems.append(Problem(str(path), sentence))

    def leave_out(self, reason: str, path: Path | str, count: int = 1) -> None:
        """Count things that the result will not have, and keep the first file."""
        _count(self.left_out, reason, path, count)

    def note(self, words: str, path: Path | str, count: int = 1) -> None:
        """Count things that the result has in another form, and keep the first file."""
        _count(self.notes, words, path, count)

    @contextmanager
    def collecting(self, path: Path | str) -> Iterator[None]:
        """Make an InputError in the ``with`` block a problem of a file."""
        try:
            yield
        except InputError as e:
            self.refuse(path, str(e))


def _count(counts: dict[str, tuple[int, str]], reason: str, path: Path | str, count: int) -> None:
    before, first = counts.get(reason, (0, str(path)))
    counts[reason] = before + count, first
