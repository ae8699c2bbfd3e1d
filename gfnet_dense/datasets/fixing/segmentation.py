"""The mended copy of a segmentation data set: images and label maps."""

import io
from collections.abc import Callable
from functools import partial
from glob import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mmengine.config import ConfigDict
from PIL import Image

from gfnet_dense.datasets.checks.datasets import check_folders
from gfnet_dense.datasets.checks.ignored_labels import ignore_index_of
from gfnet_dense.datasets.checks.images import is_ambiguous
from gfnet_dense.datasets.loading_guards import check_seg_map, class_indices
from gfnet_dense.datasets.survey.contents import Problem, in_parallel
from gfnet_dense.datasets.survey.pictures import why_broken
from gfnet_dense.datasets.survey.segmentation import IGNORED, build_dataset
from gfnet_dense.utils.decoding import LOSSY
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.image_headers import FORMATS, exif_orientation
from gfnet_dense.utils.images import IMAGE_SUFFIXES, read_bytes, visible_files
from gfnet_dense.utils.types import Size

from .copy import NamedDataset, Plan
from .orientation_tag import without_orientation

DEEP = {"I", "I;16", "I;16B"}  # Pillow's modes of integers of more than 8 bits


class Pair(NamedTuple):
    """An image and its label map, as they are copied.

    Attributes:
        image, label_map: File or content of the copy, None if the pair is left out.
        values: Values in the label map.
        mended, left: What was mended, and what cannot be.
    """

    image: Path | Callable[[], bytes] | None
    label_map: Path | Callable[[], bytes] | None
    values: frozenset[int]
    mended: list[Problem]
    left: list[Problem]


def plan_dataset(plan: Plan, cfg: ConfigDict, dataset: NamedDataset, name: str) -> dict[str, Any]:
    """Add a data set to the plan of a copy.

    Args:
        plan: The plan, changed in place.
        cfg: The whole config.
        dataset: The data set.
        name: Its folder in the copy.

    Returns:
        Settings of the data set for the copy.

    Raises:
        InputError: If the data set cannot be read.
    """
    check_folders(dataset.cfg)
    ignored = ignore_index_of(cfg.model)
    built = build_dataset(ConfigDict({**dataset.cfg, "indices": None}), ignored)
    folders = built.data_prefix
    if not folders.get("seg_map_path"):
        raise InputError(f"{dataset.key} has no label maps: there is nothing to mend")
    images, labels = Path(folders["img_path"]), Path(folders["seg_map_path"])
    paths = [Path(built.get_data_info(i)["img_path"]) for i in range(len(built))]
    by_stem = {str(path.relative_to(images)).removesuffix(built.img_suffix): path for path in paths}
    if not built.ann_file:
        _add_other_suffixes(plan, by_stem, images, built.img_suffix)
    stems = sorted(by_stem)
    sources = []
    for stem in stems:
        label_map = _with_other_suffix(labels / f"{stem}{built.seg_map_suffix}")
        if not label_map.name.endswith(built.seg_map_suffix):
            _note(
                plan.mended, label_map, f"the label map {{}} is renamed to {built.seg_map_suffix}"
            )
        sources.append((by_stem[stem], label_map))
    values: set[int] = set()
    results = in_parallel(partial(mend_pair, built, ignored=ignored), sources, dataset.split)
    for stem, pair in zip(stems, results, strict=True):
        plan.mended += pair.mended
        plan.left += pair.left
        values |= pair.values
        if pair.image is not None and pair.label_map is not None:
            plan.files[f"images/{name}/{stem}{built.img_suffix}"] = pair.image
            plan.files[f"labels/{name}/{stem}{built.seg_map_suffix}"] = pair.label_map
    if values == {0, IGNORED} and len(built.metainfo["classes"]) > 1:
        sentence = (
            f'the label maps of {name} hold 0 and 255 alone, and 255 means "not labeled": '
            f"whether it stands for {built.metainfo['classes'][1]!r} only their author knows"
        )
        plan.left.append(Problem("", sentence))
    prefix = dict(img_path=f"images/{name}", seg_map_path=f"labels/{name}")
    # The copy holds what a list of names and a number of images have chosen.
    chosen = {"ann_file": "", "indices": None}
    return {"data_prefix": prefix, **{k: v for k, v in chosen.items() if dataset.cfg.get(k)}}


def _note(problems: list[Problem], path: Path, sentence: str) -> None:
    problems.append(Problem(str(path), sentence.format(path)))


def _synonyms(suffix: str) -> set[str]:
    """Return the suffixes, in lower case, of the format that a suffix names."""
    return {other for group in FORMATS.values() if suffix.lower() in group for other in group}


def _add_other_suffixes(
    plan: Plan, by_stem: dict[str, Path], images: Path, img_suffix: str
) -> None:
    """Add the images of a folder whose suffix is another one of the same format."""
    for path in visible_files(images):
        suffix = path.suffix.lower()
        if path.name.endswith(img_suffix) or suffix not in IMAGE_SUFFIXES:
            continue
        stem = str(path.relative_to(images).with_suffix(""))
        if suffix not in _synonyms(img_suffix):
            _note(plan.left, path, f"the image {{}} is not used, img_suffix is {img_suffix!r}")
        elif stem in by_stem:
            _note(plan.left, path, f"the image {{}} has the name of {by_stem[stem].name}")
        else:
            by_stem[stem] = path
            _note(plan.mended, path, f"the image {{}} is renamed to {img_suffix}, and used")


def _with_other_suffix(path: Path) -> Path:
    """Return a label map, or the only file of its name with another suffix of the same format."""
    if path.exists() or not path.parent.is_dir():
        return path
    stem = path.with_suffix("").name
    found = [
        other
        for suffix in _synonyms(path.suffix)
        for other in path.parent.glob(f"{escape(stem)}.*")
        if other.suffix.lower() == suffix
    ]
    return found[0] if len(found) == 1 else path


def mend_pair(dataset: Any, sources: tuple[Path, Path], ignored: int | None = None) -> Pair:
    """Read an image and its label map, and return what is copied of them.

    Args:
        dataset: The built dataset.
        sources: The two files.
        ignored: ``ignore_index`` of the head.
    """
    image, label_map = sources
    mended: list[Problem] = []
    left: list[Problem] = []
    for path, kind in ((image, "image"), (label_map, "label map")):
        reason = why_broken(str(path), kind)
        if reason:
            mended.append(Problem(str(path), f"{reason}: image and label map are left out"))
            return Pair(None, None, frozenset(), mended, left)
    data, map_data = read_bytes(image), read_bytes(label_map)
    if exif_orientation(map_data) != 1:
        _note(left, label_map, "the label map {} has an EXIF orientation of its own")
        return Pair(image, label_map, frozenset(), mended, left)
    indices, how = _read_indices(map_data)
    if indices is None:
        _note(left, label_map, f"the label map {{}} {how}")
        return Pair(image, label_map, frozenset(), mended, left)
    values = frozenset(np.unique(indices).tolist())
    info = dataset.get_data_info(0)
    stored, shown = _sizes(data)
    size = shown if indices.shape != stored else stored
    try:
        seg_map = class_indices(indices, info["reduce_zero_label"], info.get("label_map"))
        classes = dataset.metainfo["classes"]
        check_seg_map(
            seg_map, len(classes), len(dataset.metainfo.get("label_map") or classes), size,
            info["reduce_zero_label"], str(label_map), ignored=ignored,
        )  # fmt: skip
    except InputError as e:
        left.append(Problem(str(label_map), str(e)))
        return Pair(image, label_map, values, mended, left)
    new_map: Path | Callable[[], bytes] = label_map
    if how:
        _note(mended, label_map, f"the label map {{}} {how}")
        new_map = partial(_as_gray, label_map)
    new_image = _mend_orientation(image, data, label_map, indices.shape, mended, left)
    return Pair(new_image, new_map, values, mended, left)


def _read_indices(data: bytes) -> tuple[np.ndarray | None, str]:
    """Return the values of a label map as uint8, and how it has to be changed, '' if not.

    The values are None if they have no single meaning; then the text says why.
    """
    with Image.open(io.BytesIO(data)) as image:
        kind, mode, array = image.format, image.mode, np.asarray(image)
    if kind in LOSSY:
        return None, f"is a {kind}, whose compression has changed class indices"
    if mode in ("1", "L", "P"):
        return array.astype(np.uint8), ""
    if mode in DEEP:
        if array.min() < 0 or array.max() > 255:
            return None, f"is a {mode} image with values that are no indices of 8 bits"
        return array.astype(np.uint8), "is written with 8 bits"
    if mode in ("RGB", "RGBA", "LA"):
        colors, alpha = (array, None) if mode == "RGB" else (array[..., :-1], array[..., -1])
        if (colors == colors[..., :1]).all() and (alpha is None or (alpha == 255).all()):
            return np.ascontiguousarray(colors[..., 0]), "is written with one channel"
        return None, f"is a {mode} image of colors, and which class a color stands for is not known"
    return None, f"is a {mode} image"


def _as_gray(path: Path) -> bytes:
    indices, _ = _read_indices(path.read_bytes())
    if indices is None:
        raise InputError(f"{path} was changed while the copy was made: start again")
    with Image.open(path) as image:
        kind = image.format
    file = io.BytesIO()
    Image.fromarray(indices).save(file, kind)
    return file.getvalue()


def _sizes(data: bytes) -> tuple[Size, Size]:
    """Return (height, width) of an image as it is stored, and as it is shown."""
    with Image.open(io.BytesIO(data)) as image:
        stored = image.height, image.width
        return stored, stored[::-1] if exif_orientation(image) >= 5 else stored


def _mend_orientation(
    image: Path,
    data: bytes,
    label_map: Path,
    map_size: tuple[int, ...],
    mended: list[Problem],
    left: list[Problem],
) -> Path | Callable[[], bytes]:
    """Return an image without its orientation tag, if its label map is for the stored image."""
    orientation = exif_orientation(data)
    if orientation == 1:
        return image
    if is_ambiguous(data, str(label_map)):
        _note(
            left,
            image,
            f"the image {{}} is turned when it is read (EXIF orientation {orientation}), and "
            "nothing tells whether its label map is",
        )
        return image
    if map_size != _sizes(data)[0]:
        return image
    if without_orientation(data) is None:
        _note(left, image, "the orientation tag of {} cannot be taken out")
        return image
    _note(
        mended,
        image,
        f"{{}} is written without its EXIF orientation {orientation}, since its label map is for "
        "the stored image",
    )
    return partial(untagged, image)


def untagged(path: Path) -> bytes:
    """Return the content of an image file without its orientation tag."""
    content = without_orientation(path.read_bytes())
    if content is None:
        raise InputError(f"{path} was changed while the copy was made: start again")
    return content
