"""Finding out in which format a source is, from the content of its files."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.types import LABEL_FORMATS

from .coco_files import is_coco, read_coco_files
from .cvat import is_cvat, read_cvat
from .files import Files, folders_of, read_json, read_xml, read_yaml
from .labelme import is_labelme, read_labelme
from .masks import mask_key, read_masks
from .model import Source, is_background
from .tables import read_colors
from .via import is_via, read_via
from .voc import CLASSES, is_voc, read_voc_boxes, read_voc_masks
from .yolo import CLASS_LISTS, is_yolo, read_yolo

NUM_SAMPLES = 16  # number of files of each kind that are looked at, spread evenly
# By suffix: the function that reads a file, and the formats whose content it may be
TESTS: dict[tuple[str, ...], tuple[Callable[[Path], Any], dict[str, Callable[[Any], bool]]]] = {
    (".json",): (read_json, {"labelme": is_labelme, "via": is_via, "coco": is_coco}),
    (".xml",): (read_xml, {"cvat": is_cvat, "voc-boxes": is_voc}),
    (".yaml", ".yml"): (read_yaml, {"yolo": is_yolo}),
}


def find_formats(files: Files) -> list[str]:
    """Return the formats of which a source has files, in the order of :data:`.LABEL_FORMATS`.

    Raises:
        InputError: If it has none; with the fault of a file that is no JSON or XML.
    """
    found: set[str] = set()
    faults: list[str] = []
    for suffixes, (read, tests) in TESTS.items():
        for path in _sample(files.with_suffix(*suffixes)):
            try:
                content = read(path)
            except InputError as e:
                faults.append(str(e))
            else:
                found |= {name for name, test in tests.items() if test(content)}
    folders = {part for path in files.below for part in folders_of(path, files.root)}
    if files.source.is_dir() and any(folder.startswith(CLASSES) for folder in folders):
        found.add("voc-masks")
    # A classes.txt alone may also be a list of another format.
    if not found and any(path.name in CLASS_LISTS for path in files.paths):
        if len(files.with_suffix(".txt")) > 1:
            found.add("yolo")
    if not found and any(mask_key(path, files.root) is not None for path in files.paths):
        found.add("masks")
    if not found:
        raise InputError(
            faults[0]
            if faults
            else f"{files.source} holds nothing that is known: labelme's JSON, CVAT's XML, Pascal "
            "VOC's Annotations or SegmentationClass, YOLO's data.yaml or classes.txt, a JSON of "
            "VIA or COCO, or images and masks in the folders images and masks"
        )
    return [name for name in LABEL_FORMATS if name in found]


def _sample(paths: list[Path]) -> list[Path]:
    places = np.linspace(0, len(paths) - 1, min(len(paths), NUM_SAMPLES)).astype(int)
    return [paths[i] for i in places]


def choose_format(found: list[str], to: str, chosen: str | None) -> str:
    """Return the one format that is read.

    Boxes and masks of Pascal VOC are often together; for label maps only masks serve.

    Args:
        found: Formats of which the source has files.
        to: 'masks' or 'coco'.
        chosen: The user's choice.

    Raises:
        InputError: If the choice is not among them, or several remain.
    """
    if chosen is not None:
        if chosen not in found:
            raise InputError(f"--from {chosen}: the source holds {' and '.join(found)}")
        return chosen
    if found == ["voc-boxes", "voc-masks"] and to == "masks":
        return "voc-masks"
    if len(found) > 1:
        options = " or ".join(f"--from {name}" for name in found)
        raise InputError(f"the source holds {' and '.join(found)}: say which with {options}")
    return found[0]


def read_source(
    files: Files,
    name: str,
    to: str,
    colors: Path | None = None,
    classes: Sequence[str] | None = None,
) -> Source:
    """Read a source with the reader of its format.

    Args:
        files: The files.
        name: One of :data:`.LABEL_FORMATS`.
        to: 'masks' or 'coco'.
        colors: Table of the colors of masks.
        classes: Class names that the user has chosen.

    Raises:
        InputError: If the source as a whole cannot be read.
    """
    if colors is not None and name != "masks":
        raise InputError(f"--colors is for masks of colors, and {files.source} holds {name}")
    if name == "voc-masks":
        return read_voc_masks(files, with_objects=to == "coco")
    if name == "masks":
        table = read_colors(colors) if colors is not None else None
        return read_masks(files, table, classes)
    if name == "via":
        return read_via(files, [name for name in classes or [] if not is_background(name)])
    readers = {
        "labelme": read_labelme,
        "cvat": read_cvat,
        "voc-boxes": read_voc_boxes,
        "yolo": read_yolo,
        "coco": read_coco_files,
    }
    return readers[name](files)
