"""Checks and settings of a config before a runner is built from it."""

import sys
from pathlib import Path

import torch
from mmengine.config import Config

from gfnet_dense.checkpoint.download import fetch
from gfnet_dense.datasets.config_checks import (
    check_classes,
    check_dataset_folders,
    check_evaluators,
)
from gfnet_dense.utils.errors import InputError

from .resuming import newest_checkpoint


def prepare_training(cfg: Config, resume: bool, amp: bool) -> None:
    """Check what training needs and set how it starts, in place.

    Args:
        cfg: A whole config with its ``work_dir``.
        resume: Go on from the newest checkpoint in the work dir, with its seed.
        amp: Train in mixed precision.

    Raises:
        InputError: If data is missing or the heads are for other classes, or mixed precision is
            asked for without a GPU.
    """
    check_dataset_folders(cfg, ("train", "val"))
    check_classes(cfg, ("train", "val"))
    check_evaluators(cfg, ("val",))
    if resume:
        _set_start(cfg)
    if amp:
        if not torch.cuda.is_available():
            raise InputError("--amp needs a GPU, none was found: leave it out to train in float32")
        cfg.optim_wrapper.update(type="AmpOptimWrapper", loss_scale="dynamic")


def _set_start(cfg: Config) -> None:
    hook = cfg.get("default_hooks", {}).get("checkpoint", {})
    settings = {key: hook.get(key) for key in ("out_dir", "filename_tmpl")}
    newest = newest_checkpoint(Path(cfg.work_dir), **settings)
    cfg.resume = newest is not None  # without, load_from stays what the training starts from
    if newest is None:
        print(f"no checkpoint in {cfg.work_dir}: the training starts anew", file=sys.stderr)
        return
    path, content = newest
    cfg.load_from = str(path)
    seed = content.get("meta", {}).get("seed")
    if seed is not None:  # the data go on in their order
        cfg.randomness = {**cfg.get("randomness", {}), "seed": seed}


def prepare_testing(cfg: Config, checkpoint: str) -> None:
    """Check what testing needs and set the checkpoint, in place; training is left out.

    Args:
        cfg: A whole config.
        checkpoint: A file, or an address.

    Raises:
        InputError: If data or checkpoint are missing.
    """
    check_dataset_folders(cfg, ("test",))
    check_evaluators(cfg, ("test",))
    cfg.load_from = checkpoint
    if "://" not in checkpoint:
        fetch(checkpoint)  # if it is missing, say so before building
    for key in ("train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler"):
        cfg[key] = None
