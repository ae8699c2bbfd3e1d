"""Checks and settings of a config before a runner is built from it."""

import sys

import torch
from mmengine.config import Config

from gfnet_dense.checkpoint.download import fetch
from gfnet_dense.datasets.checks.bands import check_channels
from gfnet_dense.datasets.checks.datasets import (
    check_classes,
    check_dataset_folders,
    check_evaluators,
)
from gfnet_dense.datasets.checks.detection_classes import check_detector_classes
from gfnet_dense.datasets.checks.segmentation_heads import check_losses_on_cpu
from gfnet_dense.utils.errors import InputError

from .mixed_precision import set_test_precision, set_training_precision
from .resuming import agreed_start


def prepare_training(cfg: Config, resume: bool, amp: str | None) -> None:
    """Check the data of a config before a training, and set its start and precision in place.

    A distributed run that resumes joins its processes here.

    Args:
        cfg: A whole config with its ``work_dir``.
        resume: Whether to resume from the newest checkpoint in the work dir, with its seed. Without
            a checkpoint the training starts anew.
        amp: Mixed precision, see :func:`.set_training_precision`; None as the config says.

    Raises:
        InputError: If the work dir is remote, if data are missing or broken, if the heads are for
            other classes, if there are checkpoints to resume from but none can be read, or if
            ``amp`` does not fit the device or the config.
    """
    _check_local(cfg)
    set_training_precision(cfg, amp)
    check_dataset_folders(cfg, ("train", "val"))
    check_classes(cfg, ("train", "val"))
    if not torch.cuda.is_available():
        check_losses_on_cpu(cfg.model)
    check_detector_classes(cfg, ("train", "val"))
    check_channels(cfg, ("train", "val"))
    check_evaluators(cfg, ("val",))
    if resume:
        _set_start(cfg)


def _set_start(cfg: Config) -> None:
    """Set ``resume``, ``load_from`` and the seed of a config after its newest checkpoint."""
    start = agreed_start(cfg)
    cfg.resume = start is not None
    if start is None:  # load_from stays: a training that starts anew starts from it
        print(f"no checkpoint in {cfg.work_dir}: the training starts anew", file=sys.stderr)
        return
    path, seed = start
    cfg.load_from = str(path)
    if seed is not None:  # so that the samples go on in the order of the interrupted training
        given = cfg.get("randomness", {}).get("seed")
        if given not in (None, seed):
            print(
                f"the seed is that of {path.name}, {seed}, not {given}, that of the config: the "
                "order of the samples goes on",
                file=sys.stderr,
            )
        cfg.randomness = {**cfg.get("randomness", {}), "seed": seed}


def _check_local(cfg: Config) -> None:
    """Raise InputError unless files are written to folders of this machine."""
    hook = (cfg.get("default_hooks") or {}).get("checkpoint") or {}
    for key, place in (
        ("work_dir", cfg.get("work_dir")),
        ("default_hooks.checkpoint.out_dir", hook.get("out_dir")),
    ):
        if "://" in str(place):
            raise InputError(
                f"{key} is {place}: checkpoints and logs are written to a folder of this machine, "
                "or one that is mounted; copy them to a remote store afterwards"
            )


def prepare_testing(cfg: Config, checkpoint: str, amp: str | None = None) -> None:
    """Check the data of a config before testing, and set its checkpoint in place.

    The settings of training are set to None.

    Args:
        cfg: A whole config.
        checkpoint: A file or a URL.
        amp: Mixed precision, see :func:`.set_test_precision`; None for float32.

    Raises:
        InputError: If data are missing or broken, if the checkpoint is missing, or if the device
            has no ``amp``.
    """
    _check_local(cfg)
    set_test_precision(cfg, amp)
    check_dataset_folders(cfg, ("test",))
    check_classes(cfg, ("train", "test"))
    check_detector_classes(cfg, ("test",))
    check_channels(cfg, ("test",))
    check_evaluators(cfg, ("test",))
    cfg.load_from = checkpoint
    if "://" not in checkpoint:
        fetch(checkpoint)  # a missing file is reported before the model is built
    for key in ("train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler"):
        cfg[key] = None
