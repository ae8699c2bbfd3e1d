"""What a survey finds in the files of a split, and reading many files in parallel."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import track
from torch import Generator
from torch.utils.data import DataLoader, Dataset

MAX_PROCESSES = 16  # largest number of processes that read files
IMAGES_PER_PROCESS = 64  # for fewer images a process takes longer to start than it saves
EXAMPLES = 6  # number of images of each class that are kept for a contact sheet


class Problem(NamedTuple):
    """Problem in the data of a config.

    Attributes:
        path: The file concerned, empty if the problem is in the config.
        sentence: Description, which contains the path.
    """

    path: str
    sentence: str


class AnnotatedImage(NamedTuple):
    """An image with its annotation, as a training gets it before augmentation.

    Attributes:
        image: (H, W, 3), uint8, RGB.
        labels: (H, W) class indices, 255 for pixels without a label; None for detection.
        boxes: (N, 4) x1, y1, x2, y2 in pixels.
        classes: (N,) class indices of the boxes.
        masks: (N, H, W) bool, None without masks.
    """

    image: np.ndarray
    labels: np.ndarray | None = None
    boxes: np.ndarray = np.zeros((0, 4))
    classes: np.ndarray = np.zeros(0, int)
    masks: np.ndarray | None = None


class Example(NamedTuple):
    """Path of an image, and the function that loads it with its annotation."""

    path: str
    load: Callable[[], AnnotatedImage]


@dataclass
class Report:
    """Contents of the files of a split.

    Attributes:
        split: Name of the split, 'train', or names of splits with the same datasets, 'val, test'.
        unit: Things that are counted by class, 'pixels' or 'objects'.
        num_images: Number of images.
        errors: Problems at which training or evaluation would stop, or would be wrong.
        warnings: Problems that do not stop a training, such as unused files.
        notes: Further lines about the contents.
        counts: Number of pixels or objects of each class, in annotations without an error.
        images: Number of images in which each class occurs.
        ignored: Number of pixels without a label, in label maps without an error.
        files: Paths of the images.
        classes: Class names in their order.
        palette: RGB color of each class, 0..255; empty if the data set has no colors.
        examples: By class name: some images of the class.
    """

    split: str
    unit: str
    num_images: int = 0
    errors: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    counts: Counter = field(default_factory=Counter)
    images: Counter = field(default_factory=Counter)
    ignored: int = 0
    files: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    palette: list = field(default_factory=list)
    examples: dict[str, list[Example]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Number of pixels or objects in annotations without an error."""
        return self.ignored + self.counts.total()

    def add_classes(self, classes: Sequence[str]) -> None:
        """Add classes with a count of 0, so that absent ones are listed, too."""
        self.classes = list(dict.fromkeys([*self.classes, *classes]))
        self.counts.update(dict.fromkeys(classes, 0))

    def add_example(self, name: str, example: Example) -> None:
        """Keep an image of a class, unless there are enough."""
        kept = self.examples.setdefault(name, [])
        if len(kept) < EXAMPLES:
            kept.append(example)


def in_parallel(function: Callable[[Any], Any], items: Sequence, title: str) -> Iterator[Any]:
    """Yield the result of a function for each item, in order, and show the progress on stderr.

    Args:
        function: It runs in other processes if there are many items, and must be picklable.
        items: Arguments of the function, one for each call.
        title: Text beside the progress bar.
    """
    num_processes = min(os.cpu_count() or 1, MAX_PROCESSES, len(items) // IMAGES_PER_PROCESS)
    results = DataLoader(
        _Mapped(function, items),
        batch_size=None,
        collate_fn=_unchanged,
        num_workers=num_processes,
        generator=Generator(),  # it would draw a seed from the generator of all
    )
    return iter(track(results, title, len(items), console=Console(stderr=True)))


class _Mapped(Dataset):
    """Results of a function as a dataset, so that a DataLoader computes them in parallel."""

    def __init__(self, function: Callable[[Any], Any], items: Sequence) -> None:
        self.function, self.items = function, items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> Any:
        return self.function(self.items[i])


def _unchanged(sample: Any) -> Any:
    return sample
