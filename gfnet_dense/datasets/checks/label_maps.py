"""Check of a sample of label maps for what is valid in each of them, and wrong in all together."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from gfnet_dense.utils.decoding import decode_label_map
from gfnet_dense.utils.image_headers import open_unchecked
from gfnet_dense.utils.images import IMAGE_SUFFIXES, read_bytes, visible_files

IGNORED = 255  # index of pixels that have no label

Color = tuple[int, ...]


def doubtful_label_maps(
    infos: list[dict], classes: Sequence[str], indices_of: Callable[[dict], np.ndarray]
) -> list[str]:
    """Return sentences on label maps that are probably not what the config takes them for.

    They hold one class or none, are the images themselves, or have palettes in which an index has
    several colors.

    Args:
        infos: What the dataset knows of each sample: ``img_path`` and ``seg_map_path``.
        classes: Class names.
        indices_of: Returns the class indices of a sample, (H, W) uint8.

    Raises:
        InputError: If a label map cannot be read.
    """
    infos = [info for info in infos if info.get("seg_map_path")]
    if not infos:
        return []
    sentences = []
    counts = np.sum([np.bincount(indices_of(i).ravel(), minlength=256) for i in infos], axis=0)
    found = np.flatnonzero(counts[: len(classes)])
    first = infos[0]["seg_map_path"]
    if len(found) < 2 <= len(classes):
        what = repr(classes[found[0]]) if len(found) else "no class"
        sentence = (
            f"all of {len(infos)} label maps that were read hold {what} alone, such as {first}"
            if len(found)
            else f"none of {len(infos)} label maps that were read has a labeled pixel, as {first}"
        )
        if counts[IGNORED]:
            sentence += (
                f": {IGNORED} means that a pixel is not labeled, a class is written as its index"
            )
        sentences.append(sentence)
    if all(read_bytes(i["img_path"]) == read_bytes(i["seg_map_path"], "label map") for i in infos):
        sentences.append(
            f"label maps and images are the same files, such as {first}: compare img_path and "
            "seg_map_path of data_prefix in the config"
        )
    sentences += _differing_palettes([info["seg_map_path"] for info in infos])
    return sentences


def _differing_palettes(paths: list[str]) -> list[str]:
    """Return a sentence if an index has one color in a label map, and another in a second one.

    Programs that reduce an image to the colors in it number them anew in each file.
    """
    first: dict[int, tuple[Color, str]] = {}  # by index: its color, and where it was found
    for path in paths:
        for index, color in _palette_colors(path).items():
            known, other = first.setdefault(index, (color, path))
            if known != color:
                return [
                    f"index {index} is the color {known} in {other} and {color} in {path}: the "
                    "indices of a palette are the classes, and should have the same color in all"
                ]
    return []


def _palette_colors(path: str) -> dict[int, Color]:
    """Return the RGB color of each index that a label map with a palette holds."""
    data = read_bytes(path, "label map")
    with open_unchecked(data) as image:
        palette = image.getpalette("RGB") if image.mode == "P" else None
    if palette is None:
        return {}
    used = np.unique(decode_label_map(data, path)).tolist()
    colors = {i: tuple(palette[3 * i : 3 * i + 3]) for i in used if i != IGNORED}
    return {i: color for i, color in colors.items() if len(color) == 3}


def unused_images(dataset: object) -> list[Path]:
    """Return the images in the folder of a dataset of mmsegmentation that have another suffix.

    Args:
        dataset: A built dataset. One with a list of names, or with label maps among its images,
            leaves files out on purpose.
    """
    folders, suffix = getattr(dataset, "data_prefix", {}), getattr(dataset, "img_suffix", None)
    if suffix is None or not folders.get("img_path") or getattr(dataset, "ann_file", None):
        return []
    images = Path(folders["img_path"])
    if folders.get("seg_map_path") and Path(folders["seg_map_path"]).is_relative_to(images):
        return []
    return [
        path
        for path in visible_files(images)
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.endswith(suffix)
    ]
