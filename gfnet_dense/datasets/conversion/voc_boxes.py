"""Reading of boxes in the XML of Pascal VOC
(http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/index.html)."""

from pathlib import Path
from xml.etree.ElementTree import Element

from gfnet_dense.utils.errors import InputError

from .files import Files, checked_size, missing, read_xml, reading
from .image_sets import read_image_sets, set_split
from .model import LabeledImage, LabeledObject, Source
from .shapes import number
from .tables import read_names

CORNERS = ("xmin", "ymin", "xmax", "ymax")
LISTS = {"class_names.txt", "classes.txt", "labelmap.txt", "labels.txt"}
DIFFICULT = (
    "difficult objects have iscrowd 1: mmdetection neither learns nor counts them, as it treats "
    "those of VOC's XML"
)


def is_voc(root: Element) -> bool:
    """Return whether the root of an XML file is of Pascal VOC."""
    return root.tag == "annotation"


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
    labeled = {image.path.resolve() for image in source.images}
    for path in files.pictures if files.source.is_dir() else []:
        if path.resolve() not in labeled:
            source.leave_out("images without an XML file, which are not labeled", path)
    set_split(source, read_image_sets(files, ("Main",)), files)
    return source


def _read_image(root: Element, path: Path, files: Files, source: Source) -> LabeledImage:
    name = (root.findtext("filename") or "").strip()
    image = files.find_image(name, path) or files.find_image(path.stem, path)
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
