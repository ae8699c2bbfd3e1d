"""Reading of masks beside images: of one class, or with a table of colors."""

from functools import partial
from pathlib import Path

from gfnet_dense.utils.images import IMAGE_SUFFIXES

from .files import Files, split_in
from .label_maps import read_binary_map, read_color_map, survey_maps
from .model import IGNORED, LabeledImage, Source
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
    files: Files, table: list[tuple[str, Color]] | None, name: str | None = None
) -> Source:
    """Read all masks of a source with their images.

    Args:
        files: The files of the source.
        table: Names and colors of the classes; None for masks of one class.
        name: Name of the only class.
    """
    source = Source(classes=["background", name or FOREGROUND])
    if table is not None:
        source.classes = [name for name, _ in table if name != IGNORED]
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
    read = read_binary_map if table is None else partial(read_color_map, table=table)
    paths = list(masks.values())
    for (key, path), found in zip(masks.items(), survey_maps(read, paths, source), strict=True):
        image = images.pop(key, None)
        if image is None:
            source.refuse(path, f"the mask {path} has no image: give both the same name")
        elif found is not None:
            label_map, size = found
            split = split_in(path, files.root)
            source.images.append(LabeledImage(image, size, path, None, label_map, split))
    for path in images.values():
        source.leave_out("images without a mask, which are not labeled", path)
    return source
