"""Survey of the data of a config: all files are read, all classes are counted, problems are listed.

:mod:`.segmentation` and :mod:`.detection` read the files that a training reads.
"""

from mmengine.config import ConfigDict

from gfnet_dense.datasets.checks.bands import check_channels
from gfnet_dense.datasets.checks.datasets import check_local_data, check_ranges
from gfnet_dense.utils.config import find_datasets
from gfnet_dense.utils.errors import InputError

from . import detection, segmentation
from .contents import Problem, Report
from .pictures import same_pictures

MODULES = {"mmseg": segmentation, "mmdet": detection}  # by library


def survey(cfg: ConfigDict) -> list[Report]:
    """Read all images and annotations of a config, and show the progress on stderr.

    Args:
        cfg: A whole config for mmsegmentation or mmdetection.

    Returns:
        One report for each split; splits with the same datasets share one.

    Raises:
        InputError: If the config is for another library, or the data are in a remote store.
    """
    module = MODULES.get(cfg.default_scope)
    if module is None:
        raise InputError(
            "check_dataset reads the data of mmsegmentation and mmdetection, this config is for "
            f"{cfg.default_scope}"
        )
    check_local_data(cfg)
    reports = [
        module.survey_split(cfg, split, datasets) for split, datasets in _splits(cfg).items()
    ]
    for check in (check_ranges, check_channels):
        try:
            check(cfg, ("train", "val", "test"))
        except InputError as e:
            reports[0].errors.append(Problem("", str(e)))
    if reports and reports[0].split.startswith("train"):
        training, *others = reports
        if training.split != "train":
            sentence = (
                f"{training.split} have the same data: figures on pictures of the training say "
                "nothing about others"
            )
            training.warnings.append(Problem("", sentence))
        for report in others:
            report.warnings += same_pictures(training.files, report.files)
    if module is detection and reports:
        reports[-1].warnings += detection.unused_pictures(reports)
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
