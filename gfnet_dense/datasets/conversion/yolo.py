"""Reading of YOLO's text files, in the layout of Ultralytics
(https://docs.ultralytics.com/datasets/detect/) and in the older ones of darknet
(https://github.com/AlexeyAB/darknet#how-to-train-to-detect-your-custom-objects)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gfnet_dense.datasets.coco.structure import shorten
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.types import Size

from .files import (
    SPLITS,
    Files,
    leave_out_unlabeled,
    missing,
    read_lines,
    read_list,
    read_yaml,
    reading,
    shown_size,
)
from .model import LabeledImage, LabeledObject, Source
from .shapes import number

CLASS_LISTS = ("obj.names", "classes.txt", "_darknet.labels")
# Other text files that lie among the labels
OTHERS = {"classes.txt", "train.txt", "val.txt", "valid.txt", "test.txt", "readme.txt"}
SLACK = 0.01  # shares may pass 0..1 by this much, which rounding and augmentation do
EMPTY = "images without a label file, which are background"


def is_yolo(content: Any) -> bool:
    """Return whether the content of a YAML file describes a data set of YOLO."""
    return isinstance(content, dict) and "names" in content


def read_yolo(files: Files) -> Source:
    """Read a data set of YOLO: boxes, and polygons in lines of more than five numbers.

    Raises:
        InputError: If the file of the data set cannot be read.
    """
    source = Source()
    contents = {path: read_yaml(path) for path in files.with_suffix(".yaml", ".yml")}
    yamls = [path for path, content in contents.items() if is_yolo(content)]
    if len(yamls) > 1:
        raise InputError(f"{yamls[0]} and {yamls[1]} both describe a data set: give one as SOURCE")
    names: dict[int, str]
    if yamls:
        content = contents[yamls[0]]
        names = _names_of(content["names"], yamls[0])
        images = list(_images_of(content, yamls[0], files, source))
        _check_apart(images, yamls[0])
        has_keypoints = "kpt_shape" in content
    else:
        path = next(path for name in CLASS_LISTS for path in files.paths if path.name == name)
        names = _names_of(read_list(path), path)
        images = list(_images_of_lists(files)) or [(path, "") for path in files.pictures]
        has_keypoints = False
    source.classes = [names[index] for index in sorted(names)]
    used = set()
    for image, split in reading(images):
        path = label_path(image)
        used.add(path)
        with source.collecting(image):
            size = shown_size(image)
            objects: list[LabeledObject] = []
            if path.is_file():
                objects = _read_objects(path, names, size, has_keypoints, source)
            else:
                source.note(EMPTY, image)
                path = image
            # Shares do not tell whether the photo was turned by its EXIF orientation
            source.images.append(LabeledImage(image, None, path, objects, split=split))
    folders = {path.parent for path in used}
    for path in files.below:
        if path.suffix == ".txt" and path.parent in folders and path not in used:
            if path.name.lower() not in OTHERS:
                source.refuse(path, f"the label file {path} has no image")
    leave_out_unlabeled(source, files, "images that the data set does not name")
    return source


def _names_of(names: Any, path: Path) -> dict[int, str]:
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        raise InputError(f"{path}: names must be a list, or class names by index")
    if not all(type(index) is int and index >= 0 for index in names):
        raise InputError(f"{path}: names must be by whole numbers, got {shorten(list(names))}")
    found = {index: str(name).strip() for index, name in names.items()}
    for index, name in found.items():
        if list(found.values()).index(name) != list(found).index(index):
            raise InputError(f"{path} has the class name {name!r} twice: rename one")
    return found


def _images_of(
    content: dict, path: Path, files: Files, source: Source
) -> Iterator[tuple[Path, str]]:
    """Yield the images that a YAML file names, with their splits; a test set may be absent."""
    parents = [path.parent / str(content.get("path") or ""), path.parent]
    for split in ("train", "val", "test"):
        entries = content.get(split) or []
        for entry in entries if isinstance(entries, list) else [entries]:
            place = _find(str(entry), parents)
            if place is None and split == "test":
                source.leave_out(f"test sets that are not there: {entry}", path)
            elif place is None:
                raise InputError(
                    f"{path}: {split} is {entry}, which is not there; correct it or its path"
                )
            elif place.is_dir():
                yield from ((each, split) for each in Files(place).pictures)
            else:
                yield from ((each, split) for each in _listed(place, files, split))


def _check_apart(images: list[tuple[Path, str]], path: Path) -> None:
    """Raise InputError if an image is in several splits of a YAML file."""
    splits: dict[Path, str] = {}
    for image, split in images:
        if (other := splits.setdefault(image.resolve(), split)) != split:
            raise InputError(
                f"{path}: {other} and {split} both have {image}; take out {split} (images without "
                "a validation are split), or name other images"
            )


def _find(entry: str, parents: list[Path]) -> Path | None:
    """Return the folder or the list that a YAML file names, None if it is not there.

    Roboflow writes ``../train/images`` for a folder beside the file; Ultralytics cuts ``../`` off.
    """
    for parent in parents:
        for name in (entry, entry.removeprefix("../")):
            if (parent / name).exists():
                return parent / name
    return None


def _listed(path: Path, files: Files, split: str) -> Iterator[Path]:
    """Yield the images in a list, a path a line."""
    for line, text in read_lines(path):
        image = files.find_image(text, path, split=split)
        if image is None:
            raise missing(text, Path(f"{path}, line {line},"))
        yield image


def _images_of_lists(files: Files) -> Iterator[tuple[Path, str]]:
    for path in files.with_suffix(".txt"):
        if path.stem in SPLITS and path.name in OTHERS:
            split = SPLITS[path.stem]
            yield from ((image, split) for image in _listed(path, files, split))


def label_path(image: Path) -> Path:
    """Return the label file of an image: in ``labels`` for the last ``images``, or beside it."""
    parts = list(image.parts)
    if "images" in parts[:-1]:
        place = len(parts) - 2 - parts[-2::-1].index("images")
        parts[place] = "labels"
        other = Path(*parts).with_suffix(".txt")
        beside = image.with_suffix(".txt")
        return beside if beside.is_file() and not other.is_file() else other
    return image.with_suffix(".txt")


def _read_objects(
    path: Path, names: dict[int, str], size: Size, has_keypoints: bool, source: Source
) -> list[LabeledObject]:
    objects = []
    for line, text in read_lines(path):
        what = f"{path}, line {line}"
        with source.collecting(path):
            words = text.split()
            if has_keypoints and len(words) > 5:
                source.leave_out("keypoints of objects", path)
                words = words[:5]
            objects.append(_read_object(words, names, size, what))
    return objects


def _read_object(words: list[str], names: dict[int, str], size: Size, what: str) -> LabeledObject:
    if not words[0].isdecimal() or int(words[0]) not in names:
        raise InputError(
            f"{what}: the class {words[0]!r} is none of {min(names)}..{max(names)} ({len(names)} "
            "names)"
        )
    name = names[int(words[0])]
    if len(words) != 5 and (len(words) < 7 or len(words) % 2 == 0):
        raise InputError(
            f"{what} has {len(words)} numbers: a box is class cx cy w h, a polygon class x1 y1 x2 "
            "y2 x3 y3 ..."
        )
    shares = [number(word, what) for word in words[1:]]
    odd = next((share for share in shares if not -SLACK <= share <= 1 + SLACK), None)
    if odd is not None:
        raise InputError(
            f"{what} has the coordinate {odd:g}: they are shares of width and height, 0 to 1, not "
            "pixels"
        )
    height, width = size
    if len(shares) > 4:
        points = [share * size[1 - i % 2] for i, share in enumerate(shares)]
        return LabeledObject(name, polygons=[points])
    cx, cy, w, h = shares
    return LabeledObject(name, ((cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height))
