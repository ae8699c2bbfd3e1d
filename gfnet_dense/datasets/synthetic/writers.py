"""Writing of synthetic scenes in the layout of ADE20K and of COCO."""

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .scenes import ADE_INDEX, Scene, draw_scene

DATA_ROOT = Path("data/demo")
# Version of the scenes, a part of the folder names: scenes of another version are written anew.
VERSION = 1
NUM_IMAGES = {"training": 96, "validation": 32}  # number of images of each split, as ADE20K
NUM_COCO_IMAGES = {"train2017": 384, "val2017": 48}  # number of images of each split, as COCO

COCO_CATEGORIES: list[dict[str, Any]] = [
    dict(supercategory="person", id=1, name="person"),
    dict(supercategory="vehicle", id=3, name="car"),
]
# Smallest number of visible pixels of an instance; smaller ones are joined to a crowd region.
MIN_AREA = 64


def ade20k_folder(root: str | Path = DATA_ROOT) -> Path:
    """Return the folder ``ADEChallengeData2016`` under ``root``."""
    return Path(root) / f"v{VERSION}" / "ADEChallengeData2016"


def coco_folder(root: str | Path = DATA_ROOT) -> Path:
    """Return the folder ``coco`` under ``root``."""
    return Path(root) / f"v{VERSION}" / "coco"


def write_ade20k(
    root: str | Path = DATA_ROOT, seed: int = 0, draw: Callable[[int], Scene] | None = None
) -> Path:
    """Write synthetic scenes in the layout of ADEChallengeData2016, unless the folder exists.

    Label maps are 8-bit PNGs with the class indices of ADE20K: 0 for "other", 1..150 for classes.

    Args:
        root: Folder in which :func:`ade20k_folder` is created, completely or not at all.
        seed: Seed of the scenes. Scenes of training and of validation never share a seed.
        draw: Function from a seed to a scene, :func:`.draw_scene` if None.

    Returns:
        The folder ``ADEChallengeData2016``.
    """
    return _write(ade20k_folder(root), NUM_IMAGES, seed, _write_ade20k_split, draw or draw_scene)


def write_coco(
    root: str | Path = DATA_ROOT, seed: int = 0, draw: Callable[[int], Scene] | None = None
) -> Path:
    """Write synthetic scenes in the layout of COCO 2017, unless the folder exists.

    An instance has a category id of COCO, a box (x, y, w, h) in pixels, and a mask of its visible
    pixels as compressed RLE. Instances of fewer than :data:`MIN_AREA` pixels are joined to one
    crowd region for each category and image.

    Args:
        root: Folder in which :func:`coco_folder` is created, completely or not at all.
        seed, draw: See :func:`write_ade20k`.

    Returns:
        The folder ``coco``.
    """
    return _write(coco_folder(root), NUM_COCO_IMAGES, seed, _write_coco_split, draw or draw_scene)


def _write(
    folder: Path,
    num_images: dict[str, int],
    seed: int,
    write_split: Callable[[Path, str, Iterator[Scene]], None],
    draw: Callable[[int], Scene],
) -> Path:
    """Write the scenes of all splits into a temporary folder, and rename it to ``folder``."""
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    print(
        f"writing {sum(num_images.values())} synthetic scenes to {folder}, some seconds", flush=True
    )
    with tempfile.TemporaryDirectory(prefix=".part-", dir=folder.parent) as temporary:
        part = Path(temporary) / folder.name
        start = seed * sum(num_images.values())
        for split, count in num_images.items():
            write_split(part, split, map(draw, range(start, start + count)))
            start += count
        try:
            part.rename(folder)
        except OSError:  # another process of a distributed run may have been faster
            if not folder.is_dir():
                raise
    return folder


def suffix_of(bands: int) -> str:
    """Return the suffix of image files of three or four bands."""
    return ".jpg" if bands == 3 else ".png"


def _save(image: np.ndarray, path: Path) -> None:
    Image.fromarray(image).save(path, quality=95)  # PNG, without loss, has no quality


def _write_ade20k_split(root: Path, split: str, scenes: Iterator[Scene]) -> None:
    images, annotations = root / "images" / split, root / "annotations" / split
    images.mkdir(parents=True)
    annotations.mkdir(parents=True)
    for i, scene in enumerate(scenes, start=1):
        name = f"ADE_{split[: 5 if split == 'training' else 3]}_{i:08d}"
        _save(scene.image, images / f"{name}{suffix_of(scene.image.shape[2])}")
        Image.fromarray(scene.labels).save(annotations / f"{name}.png")


def _write_coco_split(root: Path, split: str, scenes: Iterator[Scene]) -> None:
    (root / split).mkdir(parents=True)
    (root / "annotations").mkdir(exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for i, scene in enumerate(scenes, start=1):
        name = f"{i:012d}{suffix_of(scene.image.shape[2])}"
        _save(scene.image, root / split / name)
        height, width = scene.labels.shape
        images.append(dict(id=i, file_name=name, height=height, width=width))
        for annotation in _coco_annotations(scene):
            annotations.append(dict(id=len(annotations) + 1, image_id=i, **annotation))
    content = dict(images=images, annotations=annotations, categories=COCO_CATEGORIES)
    (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


def _coco_annotations(scene: Scene) -> Iterator[dict]:
    """Yield the annotations of a scene without ids, for each category instances, then a crowd."""
    for category in COCO_CATEGORIES:
        small = []
        for instance in scene.instances:
            if instance.label == ADE_INDEX[category["name"]]:
                if np.count_nonzero(instance.mask) < MIN_AREA:
                    small.append(instance.mask)
                else:
                    yield _coco_annotation(instance.mask, category["id"], iscrowd=0)
        if small:
            yield _coco_annotation(np.any(small, axis=0), category["id"], iscrowd=1)


def _coco_annotation(mask: np.ndarray, category_id: int, iscrowd: int) -> dict:
    from pycocotools import mask as coco_mask  # comes with mmdetection

    rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return dict(
        category_id=category_id,
        bbox=coco_mask.toBbox(rle).tolist(),
        area=int(coco_mask.area(rle)),
        segmentation=dict(size=rle["size"], counts=rle["counts"].decode()),
        iscrowd=iscrowd,
    )
