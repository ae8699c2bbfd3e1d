"""Survey of a segmentation data set: all images and label maps are read, all pixels are counted.

mmsegmentation builds the datasets from the config, so the survey reads the files that a training
reads. The pipelines are reduced to their loading transforms.
"""

from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mmengine.config import ConfigDict
from mmengine.registry import DATASETS

from gfnet_dense.datasets.checks.bands import check_count
from gfnet_dense.datasets.checks.datasets import check_folders, class_names
from gfnet_dense.datasets.checks.ignored_labels import (
    differing_ignore_indices,
    ignore_index_of,
    ignored_by_head,
)
from gfnet_dense.datasets.checks.images import doubtful_samples, is_ambiguous
from gfnet_dense.datasets.checks.label_maps import unused_images
from gfnet_dense.datasets.checks.lists import repeated_names
from gfnet_dense.datasets.checks.segmentation_heads import check_heads
from gfnet_dense.datasets.loading_guards import GuardedImage, guard_pipeline
from gfnet_dense.utils.channels import Channels, channels_of, shown_input
from gfnet_dense.utils.config import type_name
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.images import read_bytes, visible_files
from gfnet_dense.utils.users_code import places_in_users_code

from .contents import AnnotatedImage, Example, Problem, Report, in_parallel
from .pictures import Picture, dark_pictures, identical_files

IGNORED = 255  # index of pixels that have no label
MIN_SIDE = 32  # largest stride of the backbones: in pixels, a smaller image is less than one cell


class Sample(NamedTuple):
    """Contents of one image and its label map.

    Attributes:
        picture: The image.
        errors, warnings: Problems of the files.
        label_map: Path of the label map, empty if it is not loaded or has an error.
        counts: (256,) int64, number of pixels of each index, 0 without a label map.
    """

    picture: Picture
    errors: list[Problem]
    warnings: list[Problem]
    label_map: str
    counts: np.ndarray


def survey_split(cfg: ConfigDict, split: str, datasets: list[ConfigDict]) -> Report:
    """Read the datasets of a split.

    Args:
        cfg: A whole config of mmsegmentation.
        split: 'train', or names of splits with the same datasets, 'val, test'.
        datasets: Their configs, without wrappers.
    """
    report = Report(split, "pixels")
    for dataset in datasets:
        _survey_dataset(report, dataset, cfg)
    return report


def _survey_dataset(report: Report, cfg: ConfigDict, whole: ConfigDict) -> None:
    """Read one dataset, and add its contents and problems to a report."""
    try:
        check_folders(cfg)
        classes = class_names(cfg, "mmseg")
        dataset = build_dataset(cfg, ignore_index_of(whole.model))
    except InputError as e:
        report.errors.append(Problem("", str(e)))
        return
    try:
        check_heads(whole.model, classes)
    except InputError as e:
        report.errors.append(Problem("", str(e)))
    splits = tuple(report.split.split(", "))
    for sentence in differing_ignore_indices(whole, classes, splits):
        report.warnings.append(Problem("", sentence))
    report.warnings += [Problem("", sentence) for sentence in (repeated_names(cfg),) if sentence]
    report.warnings += [Problem("", sentence) for sentence in doubtful_samples(dataset)]
    report.add_classes(classes)
    report.palette = dataset.metainfo["palette"]
    report.warnings.extend(unused_files(dataset))
    same_counts = defaultdict(list)
    pictures = []
    channels = channels_of(whole.model)
    check = partial(check_sample, dataset, channels=channels)
    samples = in_parallel(check, range(len(dataset)), report.split)
    for i, sample in enumerate(samples):
        report.num_images += 1
        report.errors.extend(sample.errors)
        report.warnings.extend(sample.warnings)
        report.ignored += int(sample.counts[IGNORED])
        pictures.append(sample.picture)
        load = partial(_load, dataset, i, channels)
        for name, count in zip(classes, sample.counts[: len(classes)].tolist(), strict=True):
            report.counts[name] += count
            report.images[name] += count > 0
            if count:
                report.add_example(name, Example(sample.picture.path, load))
        if np.count_nonzero(sample.counts) > 1:
            same_counts[sample.counts.tobytes()].append(sample.label_map)
    ignored = ignored_by_head(whole.model)
    if report.ignored and ignored is not None and ignored[1] != IGNORED:
        sentence = (
            f"label maps hold {IGNORED}, not labeled, at which the loss stops, since {ignored[0]} "
            f"is {ignored[1]}"
        )
        report.errors.append(Problem("", sentence))
    report.files += [picture.path for picture in pictures]
    report.warnings += _identical_label_maps(list(same_counts.values()))
    if dataset.metainfo.get("image_range") is None:
        errors, warnings = dark_pictures(pictures)
        report.errors += errors
        report.warnings += warnings


def build_dataset(cfg: ConfigDict, ignored: int | None = None) -> Any:
    """Build a dataset of mmsegmentation whose pipeline has guarded loading transforms only.

    Args:
        cfg: Config of the dataset, without wrappers.
        ignored: See :func:`guard_pipeline`.

    Raises:
        InputError: If the dataset cannot be built, or has no images.
    """
    loading = []
    for transform in cfg.get("pipeline", []):
        name = type_name(transform)
        # OpenCV reads a truncated file without an error and fills the rest with gray.
        if name == "LoadImageFromFile" and transform.get("imdecode_backend", "cv2") == "cv2":
            transform = dict(transform, imdecode_backend="pillow")
        if name.startswith("Load"):
            loading.append(transform)
    try:
        dataset = DATASETS.build(dict(cfg, pipeline=loading, serialize_data=False, _scope_="mmseg"))
    except (AssertionError, KeyError, OSError, TypeError, ValueError) as e:
        if places_in_users_code(e):  # a dataset or transform of the user's own
            raise
        reason = " ".join(str(e).split())
        raise InputError(f"the dataset cannot be built: {type(e).__name__}: {reason}") from None
    if len(dataset) == 0:
        raise InputError(
            f"{type_name(cfg)} finds no images in {dataset.data_prefix.get('img_path')}: compare "
            "img_suffix and ann_file in the config with what the files are called"
        )
    guard_pipeline(dataset, ignored)
    return dataset


def check_sample(dataset: Any, i: int, channels: Channels | None) -> Sample:
    """Read one image and its label map.

    Args:
        dataset: Dataset whose pipeline has loading transforms only, wrapped by
            :func:`guard_pipeline`.
        i: Index of the image.
        channels: The bands that the model takes; None if that is not known.
    """
    results = dataset.get_data_info(i)
    errors: list[Problem] = []
    warnings: list[Problem] = []
    for load in dataset.pipeline.transforms:
        try:
            results = load(results)
            if channels is not None and isinstance(load, GuardedImage):
                check_count(results["img"], results["img_path"], channels)
        except InputError as e:
            path = results.get(load.path_key, "")
            errors.append(Problem(path, " ".join(str(e).split())))
            results.pop("gt_seg_map", None)
    height, width = results.get("ori_shape", (0, 0))
    orientation = results.get("exif_orientation", 1)
    size = (height, width) if orientation >= 5 else (width, height)
    picture = Picture(results["img_path"], size, orientation, results.get("used_bits"))
    if 0 < min(size) < MIN_SIDE:
        sentence = f"the image {picture.path} has {width}x{height} pixels, less than {MIN_SIDE}"
        warnings.append(Problem(picture.path, sentence))
    if "gt_seg_map" not in results:
        return Sample(picture, errors, warnings, "", np.zeros(256, int))
    path = results["seg_map_path"]
    if orientation != 1 and is_ambiguous(read_bytes(picture.path), path):
        sentence = (
            f"the image {picture.path} is turned when it is read (EXIF orientation {orientation}), "
            "and nothing tells whether its label map is: compare them in the contact sheet"
        )
        warnings.append(Problem(picture.path, sentence))
    counts = np.bincount(results["gt_seg_map"].ravel(), minlength=256)
    if not counts[:IGNORED].any():
        warnings.append(Problem(path, f"the label map {path} has no labeled pixel"))
    return Sample(picture, errors, warnings, path, counts)


def _load(dataset: Any, i: int, channels: Channels | None) -> AnnotatedImage:
    results = dataset.get_data_info(i)
    for load in dataset.pipeline.transforms:
        results = load(results)
    image = results["img"]
    image = image[..., None] if image.ndim == 2 else image
    return AnnotatedImage(shown_input(image, channels), results["gt_seg_map"])


def _identical_label_maps(groups: list[list[str]]) -> list[Problem]:
    """Return a warning for each label map of several classes whose file others repeat.

    Args:
        groups: Paths of label maps with the same number of pixels of each class.
    """
    return [
        Problem(path, f"the label map {path} is identical to another one, {first}")
        for group in groups
        for first, *others in identical_files([path for path in group if path])
        for path in others
    ]


def unused_files(dataset: Any) -> list[Problem]:
    """Return label maps without an image, and images whose suffix is not ``img_suffix``.

    Args:
        dataset: A built dataset of mmsegmentation, with folders that are absolute or relative to
            the working directory.

    Returns:
        A warning for each such file.
    """
    folders = dataset.data_prefix
    if not folders.get("seg_map_path"):
        return []
    images, labels = Path(folders["img_path"]), Path(folders["seg_map_path"])
    problems = []
    for path in visible_files(labels):
        name = str(path.relative_to(labels)).removesuffix(dataset.seg_map_suffix)
        image = images / (name + dataset.img_suffix)
        if path.name.endswith(dataset.seg_map_suffix) and not image.exists():
            problems.append(Problem(str(path), f"the label map {path} has no image in {images}"))
    problems += [
        Problem(str(path), f"the image {path} is not used, img_suffix is {dataset.img_suffix!r}")
        for path in unused_images(dataset)
    ]
    return problems
