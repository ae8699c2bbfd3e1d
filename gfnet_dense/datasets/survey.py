"""Survey of a segmentation data set: all images and label maps are read, all classes are counted.

mmsegmentation builds the datasets from the config, so the survey reads the files that a training
reads. The pipelines are reduced to their loading transforms.
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mmengine.config import ConfigDict
from mmengine.registry import DATASETS
from rich.console import Console
from rich.progress import track
from torch.utils.data import DataLoader, Dataset

from gfnet_dense.utils.config import find_datasets
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.images import IMAGE_SUFFIXES

from .config_checks import check_folders, check_num_classes, class_names
from .loading_guards import guard_pipeline

IGNORED = 255  # index of pixels that have no label

MAX_PROCESSES = 16  # largest number of processes that read files
IMAGES_PER_PROCESS = 64  # for fewer images a process takes longer to start than it saves


class Problem(NamedTuple):
    """Problem in the data of a config.

    Attributes:
        path: The file concerned, empty if the problem is in the config.
        sentence: Description, which contains the path.
    """

    path: str
    sentence: str


@dataclass
class Report:
    """Contents of the files of a split.

    Attributes:
        split: Name of the split, 'train', or names of splits with the same datasets, 'val, test'.
        num_images: Number of images.
        errors: Problems at which training or evaluation would stop.
        warnings: Problems that do not stop a training, such as unused files.
        pixels: Number of pixels of each class, in label maps without an error.
        images: Number of images in which each class occurs.
        ignored: Number of pixels without a label, in label maps without an error.
    """

    split: str
    num_images: int = 0
    errors: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    pixels: Counter = field(default_factory=Counter)
    images: Counter = field(default_factory=Counter)
    ignored: int = 0

    @property
    def num_pixels(self) -> int:
        """Number of pixels in label maps without an error."""
        return self.ignored + self.pixels.total()


def survey(cfg: ConfigDict) -> list[Report]:
    """Read all images and label maps of a segmentation config, and show the progress on stderr.

    Args:
        cfg: A whole config.

    Returns:
        One report for each split; splits with the same datasets share one.

    Raises:
        InputError: If the config is not for segmentation.
    """
    if cfg.default_scope != "mmseg":
        raise InputError(
            "check_dataset reads images with label maps, for configs of mmsegmentation; "
            f"this config is for {cfg.default_scope}"
        )
    reports = []
    for split, datasets in _splits(cfg).items():
        report = Report(split)
        for dataset in datasets:
            _survey_dataset(report, dataset, cfg.model)
        reports.append(report)
    return reports


def _splits(cfg: ConfigDict) -> dict[str, list[ConfigDict]]:
    """Return the dataset configs by split; splits with the same ones are joined: 'val, test'."""
    splits: dict[str, list[ConfigDict]] = {}
    for split in ("train", "val", "test"):
        loader = cfg.get(f"{split}_dataloader")
        if loader is None:
            continue
        datasets = find_datasets(loader["dataset"])
        same = next((name for name, others in splits.items() if others == datasets), None)
        if same is not None:
            del splits[same]
        splits[f"{same}, {split}" if same else split] = datasets
    return splits


def _survey_dataset(report: Report, cfg: ConfigDict, model: ConfigDict) -> None:
    """Read one dataset, and add its contents and problems to a report."""
    try:
        check_folders(cfg)
        classes = class_names(cfg, "mmseg")
        dataset = _build(cfg)
    except InputError as e:
        report.errors.append(Problem("", str(e)))
        return
    try:
        check_num_classes(model, classes)
    except InputError as e:
        report.errors.append(Problem("", str(e)))
    report.pixels.update(dict.fromkeys(classes, 0))  # so that absent classes are listed, too
    report.warnings.extend(unused_files(dataset))
    num_processes = min(os.cpu_count() or 1, MAX_PROCESSES, len(dataset) // IMAGES_PER_PROCESS)
    samples = DataLoader(
        _Samples(dataset), batch_size=None, collate_fn=_unchanged, num_workers=num_processes
    )
    progress = track(samples, report.split, len(dataset), console=Console(stderr=True))
    for errors, warnings, counts in progress:
        report.num_images += 1
        report.errors.extend(errors)
        report.warnings.extend(warnings)
        report.ignored += int(counts[IGNORED])
        for name, count in zip(classes, counts[: len(classes)].tolist(), strict=True):
            report.pixels[name] += count
            report.images[name] += count > 0


def _build(cfg: ConfigDict) -> Any:
    """Build a dataset of mmsegmentation whose pipeline has guarded loading transforms only.

    Raises:
        InputError: If the dataset cannot be built, or has no images.
    """
    loading = []
    for transform in cfg.get("pipeline", []):
        name = transform["type"].rpartition(".")[2]
        # OpenCV reads a truncated file without an error and fills the rest with gray.
        if name == "LoadImageFromFile" and transform.get("imdecode_backend", "cv2") == "cv2":
            transform = dict(transform, imdecode_backend="pillow")
        if name.startswith("Load"):
            loading.append(transform)
    try:
        dataset = DATASETS.build(dict(cfg, pipeline=loading, serialize_data=False, _scope_="mmseg"))
    except (AssertionError, KeyError, OSError, TypeError, ValueError) as e:
        reason = " ".join(str(e).split())
        raise InputError(f"the dataset cannot be built: {type(e).__name__}: {reason}") from None
    if len(dataset) == 0:
        raise InputError(
            f"{cfg.type} finds no images in {dataset.data_prefix.get('img_path')}: compare "
            "img_suffix and ann_file in the config with what the files are called"
        )
    guard_pipeline(dataset)
    return dataset


class _Samples(Dataset):
    """Results of :func:`check_sample` as a dataset, so that a DataLoader computes them in parallel.

    Args:
        dataset: Dataset from :func:`_build`.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, i: int) -> tuple[list[Problem], list[Problem], np.ndarray]:
        return check_sample(self.dataset, i)


def _unchanged(sample: Any) -> Any:
    return sample


def check_sample(dataset: Any, i: int) -> tuple[list[Problem], list[Problem], np.ndarray]:
    """Read one image and its label map.

    Args:
        dataset: Dataset whose pipeline has loading transforms only, wrapped by
            :func:`guard_pipeline`.
        i: Index of the image.

    Returns:
        Errors, warnings, and the number of pixels of each index, (256,) int64. The counts are 0 if
        the label map has an error or is not loaded.
    """
    results = dataset.get_data_info(i)
    errors: list[Problem] = []
    warnings: list[Problem] = []
    for load in dataset.pipeline.transforms:
        try:
            results = load(results)
        except InputError as e:
            path = results.get(load.path_key, "")
            errors.append(Problem(path, " ".join(str(e).split())))
            results.pop("gt_seg_map", None)
    if "gt_seg_map" not in results:
        return errors, warnings, np.zeros(256, int)
    counts = np.bincount(results["gt_seg_map"].ravel(), minlength=256)
    if not counts[:IGNORED].any():
        path = results["seg_map_path"]
        warnings.append(Problem(path, f"the label map {path} has no labeled pixel"))
    return errors, warnings, counts


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
    for path in _visible_files(labels):
        name = str(path.relative_to(labels)).removesuffix(dataset.seg_map_suffix)
        image = images / (name + dataset.img_suffix)
        if path.name.endswith(dataset.seg_map_suffix) and not image.exists():
            problems.append(Problem(str(path), f"the label map {path} has no image in {images}"))
    if dataset.ann_file or labels.is_relative_to(images):
        return problems
    for path in _visible_files(images):
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.endswith(dataset.img_suffix):
            suffix = dataset.img_suffix
            problems.append(
                Problem(str(path), f"the image {path} is not used, img_suffix is {suffix!r}")
            )
    return problems


def _visible_files(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, sorted; hidden ones are left out, as mmsegmentation does."""
    return (path for path in sorted(folder.rglob("*")) if path.name[0] != "." and path.is_file())
