"""Settings of a config that have no effect or that contradict each other.

mmengine accepts all of them in silence. They are doubtful, not wrong: each gets a sentence in the
log, and the run goes on.
"""

import inspect
import os
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import OPTIMIZERS
from mmengine.runner import Runner

from gfnet_dense.utils.config import evaluators_of, find_datasets, type_name
from gfnet_dense.utils.errors import InputError

# Names that a runner reads from a config.
SETTINGS = set(inspect.signature(Runner.__init__).parameters) - {"self"}
SIMILAR = 0.88  # least similarity (difflib's ratio) of a name that may be misspelled, 0..1
# Means of ImageNet's images, of the channels R, G, B
# (https://docs.pytorch.org/vision/stable/models.html, times 255).
IMAGENET_MEAN = [123.675, 116.28, 103.53]
# Schedules that lower the learning rate to ``eta_min``, by default 0, and keep it there.
TO_ZERO = ("PolyLR", "CosineAnnealingLR")


def doubtful_settings(cfg: Config) -> list[str]:
    """Return a sentence for each setting that is ignored, or that contradicts another one.

    Args:
        cfg: A whole config. Settings of training are checked if it has ``train_cfg``.
    """
    return [
        *_misspelled(cfg),
        *_channels(cfg.model),
        *(_schedules(cfg) if cfg.get("train_cfg") else ()),
        *_evaluations(cfg),
    ]


def check_optimizer_names(optim_wrapper: Any) -> None:
    """Check that the optimizers of a config exist; mmengine says: None is not a callable object.

    Args:
        optim_wrapper: Setting of the config: one wrapper, or several by name.

    Raises:
        InputError: If an optimizer is not known.
    """
    if not isinstance(optim_wrapper, dict):
        return
    for wrapper in (optim_wrapper, *optim_wrapper.values()):
        optimizer = wrapper.get("optimizer") if isinstance(wrapper, dict) else None
        kind = optimizer.get("type") if isinstance(optimizer, dict) else None
        if not isinstance(kind, str):
            continue
        with OPTIMIZERS.switch_scope_and_registry(None) as registry:
            if registry.get(kind) is None:
                known = sorted({*registry.module_dict, *OPTIMIZERS.module_dict})
                same = [name for name in known if name.lower() == kind.lower()]
                close = same or get_close_matches(kind, known, n=1)
                raise InputError(
                    f"optim_wrapper.optimizer.type is {kind}, which is no optimizer of PyTorch or "
                    f"mmengine{f': is {close[0]} meant?' if close else ''}"
                )


def _misspelled(cfg: Config) -> Iterator[str]:
    for name in cfg:
        close = [] if name in SETTINGS else get_close_matches(name, SETTINGS, cutoff=SIMILAR)
        if close:
            yield f"{name} in the config is read by nothing: is {close[0]} meant?"


def _channels(model: ConfigDict) -> Iterator[str]:
    """Compare the means of a model's inputs with the values and channels of images."""
    preprocessor = model.get("data_preprocessor") or {}
    mean = list(preprocessor.get("mean") or [])
    if mean and all(0 < value < 1 for value in mean):
        yield (
            f"data_preprocessor.mean is {mean}, for pixels from 0 to 1, but pixels are from 0 to "
            "255: multiply mean and std by 255"
        )
    # Images are loaded as B, G, R, and each of these settings exchanges the first and the last.
    now = any(preprocessor.get(key) for key in ("bgr_to_rgb", "rgb_to_bgr", "to_rgb"))
    expected = IMAGENET_MEAN if now else IMAGENET_MEAN[::-1]
    if mean == expected[::-1]:
        yield (
            f"data_preprocessor.mean is {mean}, ImageNet's means in the order "
            f"{'B, G, R' if now else 'R, G, B'}, but bgr_to_rgb={now} gives the model "
            f"{'R, G, B' if now else 'B, G, R'}: turn around the means or bgr_to_rgb"
        )


def _schedules(cfg: Config) -> Iterator[str]:
    """Compare the schedules of the learning rate with the length of the training."""
    by_epoch = cfg.train_cfg.get("by_epoch", type_name(cfg.train_cfg) != "IterBasedTrainLoop")
    unit = "epochs" if by_epoch else "iterations"
    key = "max_epochs" if by_epoch else "max_iters"
    length = cfg.train_cfg.get(key)
    if isinstance(length, int) and length <= 0:
        yield f"train_cfg.{key} is {length}: nothing is trained"
    if length is not None and not (isinstance(length, int) and length > 0):
        return  # what is no number is told when the loop is built
    schedulers = cfg.get("param_scheduler") or []
    if isinstance(schedulers, dict):
        # One scheduler, or those of several optimizers by name
        schedulers = [schedulers] if "type" in schedulers else []
    ends = []
    for i, scheduler in enumerate(schedulers):
        name = f"param_scheduler[{i}], {type_name(scheduler)},"
        if scheduler.get("by_epoch", True) != by_epoch:
            if not by_epoch and not scheduler.get("convert_to_iter_based"):
                yield (
                    f"{name} counts epochs, but the training counts iterations: it has no "
                    "effect; set by_epoch=False"
                )
            continue
        ends.append((scheduler.get("end"), i))
        milestones = [n for n in scheduler.get("milestones") or () if isinstance(n, int)]
        late = [n for n in milestones if n >= length] if length else []
        if late and length and (scheduler.get("end") or 0) <= length:  # else the end says it all
            yield f"{name} has a milestone at {late[0]}, but the training ends at {length} {unit}"
    finite = [(end, i) for end, i in ends if isinstance(end, int)]
    if not finite or len(finite) < len(ends) or not length:
        return
    end, i = max(finite)
    last = schedulers[i]
    if end > length:
        yield (
            f"the schedule of the learning rate is for {end} {unit}, the training ends at {length}"
        )
    elif end < length and type_name(last) in TO_ZERO and not last.get("eta_min"):
        yield (
            f"the learning rate is 0 from {end} to {length} {unit}: param_scheduler[{i}], "
            f"{type_name(last)}, ends before the training"
        )


def _evaluations(cfg: Config) -> Iterator[str]:
    """Compare evaluators with the images that they evaluate."""
    for split in ("val", "test"):
        loader = cfg.get(f"{split}_dataloader")
        if not loader:
            continue
        if loader.get("drop_last"):
            yield f"{split}_dataloader.drop_last=True leaves the last images out of the evaluation"
        # Panoptic data sets have a second file, of instances, with the same numbers of images.
        datasets = [d for d in find_datasets(loader["dataset"]) if "Panoptic" not in type_name(d)]
        for dataset in datasets:
            if dataset.get("filter_cfg") and not dataset.get("test_mode"):
                yield (
                    f"filter_cfg of the {split} data leaves images out of the evaluation: set "
                    "test_mode=True"
                )
        files = {_annotation_file(dataset) for dataset in datasets}
        for each in evaluators_of(cfg, split):
            file = each.get("ann_file")
            if file and files and os.path.normpath(file) not in files:
                yield (
                    f"{split}_evaluator reads {file}, but the images are those of "
                    f"{', '.join(sorted(files))}: figures are right only if both files number the "
                    "same images in the same way"
                )


def _annotation_file(dataset: ConfigDict) -> str:
    return os.path.normpath(
        os.path.join(dataset.get("data_root") or "", dataset.get("ann_file", ""))
    )
