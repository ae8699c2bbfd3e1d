"""Splits by the lists of Pascal VOC, ``ImageSets/Main/train.txt``: a name without suffix a line."""

from collections.abc import Sequence

from gfnet_dense.utils.errors import InputError

from .files import SPLITS, Files, read_lines
from .model import Source


def read_image_sets(files: Files, folders: Sequence[str]) -> dict[str, str]:
    """Return the split of each listed name, empty if there are no lists.

    Lists of single classes and ``trainval.txt`` say nothing more, and are not read.

    Args:
        files: The files of the source.
        folders: Folders below ``ImageSets`` in the order in which they are looked at; the first
            one with lists counts.

    Raises:
        InputError: If a name is in two lists.
    """
    for folder in folders:
        splits: dict[str, str] = {}
        for path in files.with_suffix(".txt"):
            split = SPLITS.get(path.stem, "")
            if not split or path.parts[-3:-1] != ("ImageSets", folder):
                continue
            for line, text in read_lines(path):
                name = text.split()[0]
                if splits.setdefault(name, split) != split:
                    raise InputError(
                        f"{path}, line {line}: {name} is in the list of {splits[name]}, too"
                    )
        if splits:
            return splits
    return {}


def set_split(source: Source, splits: dict[str, str], files: Files) -> None:
    """Give images their splits, and leave out those in no list, in place."""
    if not splits:
        return
    for image in source.images:
        image.split = splits.get(image.path.stem, "")
        if not image.split:
            source.leave_out("images in no list of ImageSets", image.path)
    found = {image.path.stem for image in source.images}
    for name in splits:
        if name not in found:
            source.leave_out("names in ImageSets without an annotated image", files.root / name)
    source.images = [image for image in source.images if image.split]
