"""Reading of Pascal VOC (http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/index.html): boxes
in XML, masks in ``SegmentationClass`` and ``SegmentationObject``, splits in ``ImageSets``.

Of masks, a palette image holds class indices, and an image of colors is read by the colors of
``labelmap.txt``, as CVAT writes both.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.images import IMAGE_SUFFIXES

from .files import (
    SPLITS,
    VOC_MASKS,
    Files,
    checked_size,
    leave_out_unlabeled,
    missing,
    read_lines,
    read_list,
    read_xml,
    reading,
)
from .label_maps import (
    BLACK,
    color_codes,
    has_colors,
    read_color_map,
    read_colors_of,
    read_index_map,
    read_indices,
    survey_maps,
    used_palette,
)
from .model import IGNORED, NOT_LABELED, LabeledImage, LabeledObject, Source, is_background
from .shapes import encode, number
from .tables import Color, read_colors, read_names

CORNERS = ("xmin", "ymin", "xmax", "ymax")
LISTS = {"class_names.txt", "classes.txt", "labelmap.txt", "labels.txt"}
CLASSES, OBJECTS = VOC_MASKS
Table = list[tuple[str, Color | None]]
DIFFICULT = (
    "difficult objects have iscrowd 1: mmdetection neither learns nor counts them, as it treats "
    "those of VOC's XML"
)


def is_voc(root: Element) -> bool:
    """Return whether the root of an XML file is of Pascal VOC."""
    return root.tag == "annotation"


# ------------------------------------------------------------------------------------------- boxes


def read_voc_boxes(files: Files) -> Source:
    """Read all XML files of Pascal VOC in a source.

    Corners are places in pixels from the left upper corner of the image on, as labeling programs
    write them. Files of VOC itself count pixels from 1 on, and their boxes hold both corners.

    Objects that are ``difficult`` become crowds: mmdetection gives both the same flag
    (``XMLDataset._parse_instance_info``, ``CocoDataset.parse_data_info``), with which an object is
    neither learned nor counted. Its own flag ``ignore`` would make them background.
    """
    lists = [path for path in files.paths if path.name in LISTS]
    source = Source(classes=[name for name, _ in read_names(lists[0])] if lists else None)
    for path in reading(files.with_suffix(".xml")):
        with source.collecting(path):
            root = read_xml(path)
            if is_voc(root):
                source.images.append(_read_image(root, path, files, source))
            else:
                source.leave_out("XML files of something else than Pascal VOC", path)
    leave_out_unlabeled(source, files, "images without an XML file, which are not labeled")
    read_image_sets(source, files, ("Main",))
    return source


def _read_image(root: Element, path: Path, files: Files, source: Source) -> LabeledImage:
    name, hints = (root.findtext("filename") or "").strip(), [path.parent.name]
    image = files.find_image(name, path, hints) or files.find_image(path.stem, path, hints)
    if image is None:
        raise missing(name or path.stem, path)
    height, width = (_whole(root.findtext(f"size/{key}"), path) for key in ("height", "width"))
    size = checked_size(height, width, path) if height and width else None
    database = root.findtext("source/database") or ""
    first = 1 if database.startswith("The VOC") else 0
    objects = []
    for i, each in enumerate(root.iterfind("object"), start=1):
        what = f"{path}: object {i}"
        label = (each.findtext("name") or "").strip()
        if not label:
            raise InputError(f"{what} has no name")
        if each.find("bndbox") is None:
            raise InputError(f"{what} has no bndbox")
        x1, y1, x2, y2 = (number(each.findtext(f"bndbox/{key}"), what) for key in CORNERS)
        if x2 < x1 or y2 < y1:
            raise InputError(f"{what}: xmax or ymax is less than xmin or ymin")
        is_difficult = (each.findtext("difficult") or "").strip() not in ("", "0")
        if is_difficult:
            source.note(DIFFICULT, path)
        box = x1 - first, y1 - first, x2 - x1 + first, y2 - y1 + first
        objects.append(LabeledObject(label, box, crowd=is_difficult))
    return LabeledImage(image, size, path, objects)


def _whole(text: str | None, path: Path) -> int:
    """Return a width or a height, 0 if it is not given."""
    value = number(text or 0, f"{path}: its size")
    if value < 0 or not value.is_integer():
        raise InputError(f"{path}: its size is {text} pixels")
    return int(value)


# ------------------------------------------------------------------------------------------- masks


def read_voc_masks(files: Files, with_objects: bool) -> Source:
    """Read all masks of classes in a source.

    Args:
        files: The files of the source.
        with_objects: Whether masks of objects are read, too, where the source has them.

    Raises:
        InputError: If no list names the classes, or the folder of masks has another name.
    """
    folder = _folder_of_masks(files)
    lists = [path for path in files.paths if path.name in LISTS]
    if not lists:
        raise InputError(
            f"{files.source} has masks of classes, and no list that names the classes: write "
            "class_names.txt there, a name a line, that of index 0 first, such as _background_"
        )
    table = _read_table(lists[0])
    source = Source(classes=[name for name, _ in table if name != IGNORED])
    masks = [path for path in _masks(files) if folder in path.parts[:-1]]
    read = partial(read_voc_map, table=table)
    for path, found in zip(masks, survey_maps(read, masks, source), strict=True):
        with source.collecting(path):
            name = _name_below(path, folder)
            image = files.find_image(name, path) or files.find_image(path.stem, path)
            if image is None:
                raise missing(name, path)
            if found is None:
                continue
            label_map, size = found
            objects = None
            place = folder.replace(CLASSES, OBJECTS)
            of_objects = Path(*(place if part == folder else part for part in path.parts))
            if with_objects and of_objects.is_file():
                objects = _read_objects(label_map.read(), of_objects, source)
            source.images.append(LabeledImage(image, size, path, objects, label_map))
    leave_out_unlabeled(source, files, "images without a mask, which are not labeled")
    read_image_sets(source, files, ("Segmentation", "Main"))
    return source


def _masks(files: Files) -> list[Path]:
    return [path for path in files.paths if path.suffix.lower() in IMAGE_SUFFIXES]


def _folder_of_masks(files: Files) -> str:
    """Return the name of the folders of PNG files: older versions of labelme add PNG to it."""
    folders = {part for path in _masks(files) for part in path.parts[:-1]}
    for name in (CLASSES, f"{CLASSES}PNG"):
        if name in folders:
            return name
    others = sorted(name for name in folders if name.startswith(CLASSES))
    if not others:
        raise InputError(f"{files.source}: the folder {CLASSES} holds no image of masks")
    raise InputError(
        f"{files.source} has the folder {others[0]} and no {CLASSES}: rename it to {CLASSES} if it "
        "holds the masks of classes"
    )


def _read_table(path: Path) -> Table:
    """Return the names of the classes 0, 1, ..., with the colors of all or of none.

    Raises:
        InputError: If some have a color, or lines without colors cannot be counted.
    """
    table = read_names(path)
    if any(color is not None for _, color in table):
        return list(read_colors(path))
    read_list(path)
    return table


def read_voc_map(path: Path, table: Table) -> np.ndarray:
    """Return the label map of a mask of classes as (H, W) uint8.

    A palette image is read by its indices, by its colors if they are not those of the table at the
    same indices: programs that make files smaller sort the palette anew.

    Args:
        path: The mask.
        table: Names of the classes 0, 1, ..., and their colors if the list has colors.

    Raises:
        InputError: If a color or an index is no class, or the mask cannot be read.
    """
    colors = [(name, color) for name, color in table if color is not None]
    if has_colors(path):
        if not colors:
            raise InputError(
                f"{path} has colors, and the list of classes has none: write NAME:r,g,b:: in its "
                "lines"
            )
        return read_color_map(path, colors)
    names = [name for name, _ in table if name != IGNORED]
    palette = used_palette(path) if colors else None
    if palette is not None:
        expected = dict(enumerate(color for name, color in colors if name != IGNORED))
        palette.pop(NOT_LABELED, None)
        if any(expected.get(index) != color for index, color in palette.items()):
            return read_color_map(path, colors)
    return read_index_map(path, names)


def _read_objects(labels: np.ndarray, path: Path, source: Source) -> list[LabeledObject]:
    """Return the objects of an image, of the class that its label map has at their pixels."""
    assert source.classes is not None
    palette = used_palette(path) or {}
    # In a palette that was sorted anew, black is at another index than 0, and no object.
    if has_colors(path) or BLACK in [color for index, color in palette.items() if index]:
        numbers = color_codes(read_colors_of(path))
    else:
        numbers = read_indices(path).astype(np.int32)
        numbers[numbers == NOT_LABELED] = 0
    if numbers.shape != labels.shape:
        raise InputError(f"{path} is of another size than the mask of classes")
    objects = []
    background = [i for i, name in enumerate(source.classes) if is_background(name)]
    for value in np.unique(numbers[numbers > 0]).tolist():
        mask = (numbers == value) & (labels != NOT_LABELED) & ~np.isin(labels, background)
        found = np.unique(labels[mask]).tolist()
        if len(found) > 1:
            names = ", ".join(source.classes[index] for index in found)
            raise InputError(f"{path}: the object {value} has pixels of several classes: {names}")
        if found:
            objects.append(LabeledObject(source.classes[found[0]], rle=encode(mask)))
    return objects


# ------------------------------------------------------------------------------------------ splits


def read_image_sets(source: Source, files: Files, folders: Sequence[str]) -> None:
    """Give images the splits of lists such as ``ImageSets/Main/train.txt``, in place.

    A line is the path of an annotation below its folder, without suffix, as CVAT writes it, or the
    name alone; -1, 0 or 1 may follow. Images in no list are left out. Lists of single classes and
    ``trainval.txt`` say nothing more, and are not read.

    Args:
        source: The source, whose images have no split.
        files: Its files.
        folders: Folders below ``ImageSets`` in the order in which they are looked at; the first
            one with lists counts.

    Raises:
        InputError: If an image is in two lists, a line may mean several images, or none is listed.
    """
    lists: list[Path] = []
    for folder in reversed(folders):
        lists = [
            path
            for path in files.with_suffix(".txt")
            if path.stem in SPLITS and path.parts[-3:-1] == ("ImageSets", folder)
        ] or lists
    if not lists:
        return
    for path in lists:
        root = path.parents[2]
        exact, bare = defaultdict(list), defaultdict(list)
        for image in source.images:
            if image.source.is_relative_to(root):
                parts = image.source.relative_to(root).with_suffix("").parts
                exact["/".join(parts[1:] or parts)].append(image)
                bare[parts[-1]].append(image)
        for line, text in read_lines(path):
            what = f"{path}, line {line}"
            name = re.sub(r"\s+-?[01]$", "", text)
            found = exact.get(text) or bare.get(text) or exact.get(name) or bare.get(name) or []
            if len(found) > 1:
                raise InputError(f"{what}: {text} may be {found[0].path} or {found[1].path}")
            if not found:
                source.leave_out("names in ImageSets without an annotated image", what)
            for image in found:
                if image.split not in ("", SPLITS[path.stem]):
                    raise InputError(f"{what}: {text} is in the list of {image.split}, too")
                image.split = SPLITS[path.stem]
    for image in source.images:
        if not image.split:
            source.leave_out("images in no list of ImageSets", image.path)
    if source.images and not any(image.split for image in source.images):
        raise InputError(f"{lists[0]}: no line of the lists is the name of an annotated image")
    source.images = [image for image in source.images if image.split]


def _name_below(path: Path, folder: str) -> str:
    """Return the path of a file below a folder, without suffix."""
    return Path(*path.parts[path.parts.index(folder) + 1 :]).with_suffix("").as_posix()
