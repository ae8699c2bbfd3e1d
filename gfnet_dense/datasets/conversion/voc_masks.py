"""Reading of Pascal VOC's masks: ``SegmentationClass`` and ``SegmentationObject``
(http://host.robots.ox.ac.uk/pascal/VOC/voc2012/segexamples/index.html), also as CVAT writes them.

A palette image holds class indices, an image of colors is read by the colors of ``labelmap.txt``.
"""

from functools import partial
from pathlib import Path

import numpy as np

from gfnet_dense.utils.errors import InputError

from .files import Files, missing
from .image_sets import read_image_sets, set_split
from .label_maps import (
    color_codes,
    has_colors,
    read_color_map,
    read_colors_of,
    read_index_map,
    read_indices,
    survey_maps,
)
from .model import IGNORED, NOT_LABELED, LabeledImage, LabeledObject, Source, is_background
from .shapes import encode
from .tables import Color, read_names
from .voc_boxes import LISTS

CLASSES, OBJECTS = "SegmentationClass", "SegmentationObject"
Table = list[tuple[str, Color | None]]


def read_voc_masks(files: Files, with_objects: bool) -> Source:
    """Read all masks of classes in a source.

    Args:
        files: The files of the source.
        with_objects: Whether masks of objects are read, too, where the source has them.

    Raises:
        InputError: If no list names the classes.
    """
    lists = [path for path in files.paths if path.name in LISTS]
    if not lists:
        raise InputError(
            f"{files.source} has masks of classes, and no list that names the classes: write "
            "class_names.txt there, a name a line, that of index 0 first, such as _background_"
        )
    table = read_names(lists[0])
    source = Source(classes=[name for name, _ in table if name != IGNORED])
    folders = {path.parent.name for path in files.paths}
    # Older versions of labelme call the folder of PNG files SegmentationClassPNG.
    folder = next(name for name in (CLASSES, f"{CLASSES}PNG") if name in folders)
    masks = [path for path in files.paths if path.parent.name == folder]
    read = partial(read_voc_map, table=table)
    for path, found in zip(masks, survey_maps(read, masks, source), strict=True):
        with source.collecting(path):
            image = files.find_image(path.stem, path)
            if image is None:
                raise missing(path.stem, path)
            if found is None:
                continue
            label_map, size = found
            objects = None
            objects_path = path.parent.with_name(path.parent.name.replace("Class", "Object"))
            objects_path /= path.name
            if with_objects and objects_path.is_file():
                objects = _read_objects(label_map.read(), objects_path, source)
            source.images.append(LabeledImage(image, size, path, objects, label_map))
    labeled = {image.path for image in source.images}
    for path in files.pictures:
        if path not in labeled:
            source.leave_out("images without a mask, which are not labeled", path)
    set_split(source, read_image_sets(files, ("Segmentation", "Main")), files)
    return source


def read_voc_map(path: Path, table: Table) -> np.ndarray:
    """Return the label map of a mask of classes as (H, W) uint8.

    Args:
        path: The mask.
        table: Names of the classes 0, 1, ..., and their colors if the list has colors.

    Raises:
        InputError: If a color or an index is no class, or the mask cannot be read.
    """
    if not has_colors(path):
        return read_index_map(path, [name for name, _ in table if name != IGNORED])
    colors = [(name, color) for name, color in table if color is not None]
    if not colors:
        raise InputError(
            f"{path} has colors, and the list of classes has none: write NAME:r,g,b:: in its lines"
        )
    return read_color_map(path, colors)


def _read_objects(labels: np.ndarray, path: Path, source: Source) -> list[LabeledObject]:
    """Return the objects of an image, of the class that its label map has at their pixels."""
    assert source.classes is not None
    if has_colors(path):
        numbers = color_codes(read_colors_of(path))
    else:
        numbers = read_indices(path).astype(np.int32)
        numbers[numbers == NOT_LABELED] = 0
    if numbers.shape != labels.shape:
        raise InputError(f"{path} is of another size than the mask of classes")
    objects = []
    background = [i for i, name in enumerate(source.classes) if is_background(name)]
    for number in np.unique(numbers[numbers > 0]).tolist():
        mask = (numbers == number) & (labels != NOT_LABELED) & ~np.isin(labels, background)
        found = np.unique(labels[mask]).tolist()
        if len(found) > 1:
            names = ", ".join(source.classes[index] for index in found)
            raise InputError(f"{path}: the object {number} has pixels of several classes: {names}")
        if found:
            objects.append(LabeledObject(source.classes[found[0]], rle=encode(mask)))
    return objects
