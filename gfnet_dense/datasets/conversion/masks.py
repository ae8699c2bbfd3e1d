"""Reading of masks beside images: of one class, of class indices, or with a table of colors."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.images import IMAGE_SUFFIXES

from .files import Files
from .label_maps import (
    join_binary,
    read_binary_map,
    read_color_map,
    read_index_map,
    survey_maps,
)
from .model import IGNORED, LabeledImage, LabelMap, Source
from .tables import Color

IMAGE_FOLDERS = {"images", "image", "imgs", "img", "JPEGImages"}
MASK_FOLDERS = {"masks", "mask", "labels", "label"}
ENDING = "_mask"  # of the names of masks
FOREGROUND = "foreground"


def mask_key(path: Path, root: Path) -> tuple[str, ...] | None:
    """Return what a mask has in common with its image, None if a file is no mask.

    It is the path below the root without the folder of masks, the suffix and ``_mask``.
    """
    parts = path.relative_to(root).parts
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        return None
    if not MASK_FOLDERS & set(parts[:-1]) and not path.stem.endswith(ENDING):
        return None
    folders = [part for part in parts[:-1] if part not in MASK_FOLDERS]
    return (*folders, path.stem.removesuffix(ENDING))


def read_masks(
    files: Files,
    table: list[tuple[str, Color]] | None = None,
    names: Sequence[str] | None = None,
) -> Source:
    """Read all masks of a source with their images.

    Args:
        files: The files of the source.
        table: Names and colors of the classes; None for masks of one class or of class indices.
        names: Without a table: the name of the only class, or those of the classes 0, 1, ...

    Raises:
        InputError: If masks of one class hold it as 1 and as 255, or are given more names.
    """
    given = list(names or [FOREGROUND])
    names = ["background", *given] if len(given) == 1 else given
    read = read_binary_map if len(names) == 2 else partial(read_index_map, classes=names)
    if table is not None:
        names = [name for name, _ in table if name != IGNORED]
        read = partial(read_color_map, table=table)
    source = Source(classes=names)
    masks: dict[tuple[str, ...], Path] = {}
    images: dict[tuple[str, ...], Path] = {}
    for path in files.paths:
        key = mask_key(path, files.root)
        if key is not None and masks.setdefault(key, path) != path:
            source.refuse(path, f"{masks[key]} and {path} are masks of the same image")
    masked = set(masks.values())
    for path in files.pictures:
        parts = path.relative_to(files.image_root).parts
        key = (*(part for part in parts[:-1] if part not in IMAGE_FOLDERS), path.stem)
        if path not in masked and images.setdefault(key, path) != path:
            source.refuse(path, f"the images {images[key]} and {path} share a mask: rename one")
    paths = list(masks.values())
    maps: dict[Path, LabelMap] = {}
    for (key, path), found in zip(masks.items(), survey_maps(read, paths, source), strict=True):
        image = images.pop(key, None)
        if image is None:
            source.refuse(path, f"the mask {path} has no image: give both the same name")
        elif found is not None:
            maps[path], size = found
            source.images.append(LabeledImage(image, size, path))
    full = [path for path, each in maps.items() if each.ignored]
    is_of_one = full and not any(set(each.counts) - {0} for each in maps.values())
    if table is None and len(names) > 2 and is_of_one:
        raise InputError(
            f"{full[0]} and all other masks hold 0 and 255 alone: these are masks of one class, "
            "name it with --classes NAME"
        )
    if read is read_binary_map:
        maps = join_binary(maps, is_named=len(given) == 2)
    for labeled in source.images:
        labeled.label_map = maps[labeled.source]
    for path in images.values():
        source.leave_out("images without a mask, which are not labeled", path)
    return source
