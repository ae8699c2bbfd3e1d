"""Check of a sample of images for what no single file shows: depths, turned photos, classes."""

import logging
from typing import Any

import numpy as np
from mmengine.logging import print_log

from gfnet_dense.datasets.loading_guards import GuardedImage, GuardedSegMap, inner_datasets
from gfnet_dense.utils.decoding import is_dark, likely_range, used_bits
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.image_headers import exif_orientation, open_unchecked
from gfnet_dense.utils.images import read_bytes

from .label_maps import doubtful_label_maps, unused_images

SAMPLES = 32  # images of a dataset that are read, spread evenly


def check_images(dataset: Any) -> None:
    """Read a sample of the images of a dataset, before a training.

    A warning is logged for images that are turned by their EXIF orientation while their label maps
    have no such tag, if the sizes do not tell whether the label maps are turned already; for images
    of another suffix, and for label maps that :mod:`.label_maps` doubts.

    Args:
        dataset: A dataset guarded by :func:`.loading_guards.guard_pipeline`.

    Raises:
        InputError: If a file cannot be read, or if all images of 16 bits leave their upper bits
            empty, so that they would be read almost black, and there is no ``image_range``.
    """
    for inner in inner_datasets(dataset):
        transforms = getattr(getattr(inner, "pipeline", None), "transforms", [])
        readers = [t for t in transforms if isinstance(t, GuardedImage) and not t.is_own]
        if readers and len(inner):
            _check_sample(_sample(inner), readers[0])
        unused = unused_images(inner)
        if unused:
            _warn(
                f"{len(unused)} images are not used, such as {unused[0]}: img_suffix is "
                f"{inner.img_suffix!r}"
            )
        for sentence in doubtful_samples(inner):
            _warn(sentence)


def doubtful_samples(dataset: Any) -> list[str]:
    """Return the sentences of :func:`.label_maps.doubtful_label_maps` on a sample of a dataset.

    Args:
        dataset: A guarded dataset, without wrappers.
    """
    transforms = getattr(getattr(dataset, "pipeline", None), "transforms", [])
    readers = [t for t in transforms if isinstance(t, GuardedSegMap) and not t.is_own]
    if not readers:
        return []
    try:
        return doubtful_label_maps(
            _sample(dataset), dataset.metainfo["classes"], readers[0].class_indices
        )
    except InputError:  # raised again where the file is loaded
        return []


def _sample(dataset: Any) -> list[dict]:
    """Return what a dataset knows of some samples, spread evenly."""
    places = np.linspace(0, len(dataset) - 1, min(len(dataset), SAMPLES)).astype(int)
    return [dataset.get_data_info(int(i)) for i in places]


def _warn(sentence: str) -> None:
    print_log(sentence, logger="current", level=logging.WARNING)


def _check_sample(infos: list[dict], reader: GuardedImage) -> None:
    """Check the images of some samples.

    Args:
        infos: What the dataset knows of each sample: ``img_path`` and perhaps ``seg_map_path``.
        reader: The transform that reads the images.
    """
    deep: list[tuple[int, str]] = []  # used bits and path
    turned: list[tuple[int, str]] = []  # orientation and path
    for info in infos:
        path = info["img_path"]
        try:
            data = reader.content(path)
            bits = used_bits(data, path)
        except InputError:
            if reader.transform.ignore_empty:
                continue
            raise
        if bits is not None:
            deep.append((bits, path))
        if info.get("seg_map_path") and is_ambiguous(data, info["seg_map_path"]):
            turned.append((exif_orientation(data), path))
    if deep and reader.image_range is None and is_dark(max(deep)[0]):
        bits, path = max(deep)
        raise InputError(
            f"all of {len(deep)} images of 16 bits use at most {bits} of their bits, such as {path}"
            ", and would be read almost black: set metainfo=dict(image_range="
            f"{likely_range(bits)}) of all datasets in the config, or (0, 65535) if they are dark"
        )
    if turned:
        orientation, path = turned[0]
        _warn(
            f"{path} is turned by its EXIF orientation {orientation} and its label map has no such "
            f"tag ({len(turned)} of {len(infos)} images that were read): if the label maps were "
            "drawn on images that were not turned, remove the tags"
        )


def is_ambiguous(data: bytes, label_map: str) -> bool:
    """Return whether an image is turned by its tag, and nothing tells that its label map is.

    Args:
        data: Content of the image.
        label_map: Path of its label map.
    """
    orientation = exif_orientation(data)
    if orientation == 1:
        return False
    if orientation > 4:  # the sizes tell, except of a square
        with open_unchecked(data) as image:
            if image.width != image.height:
                return False
    return exif_orientation(read_bytes(label_map, "label map")) == 1
