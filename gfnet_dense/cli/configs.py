"""The config that the arguments of a command ask for."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from gfnet_dense.utils.errors import InputError

from .environment import limit_onednn_cache
from .parser import LAUNCHERS

if TYPE_CHECKING:  # imported when it is needed: --help answers at once
    from mmengine.config import Config


def read_config(path: str | Path) -> "Config":
    """Return the config of a file, see :func:`gfnet_dense.utils.config.read_config`."""
    from gfnet_dense.utils.config import read_config

    limit_onednn_cache()
    return read_config(path)


def adapt_config(cfg: "Config", args: argparse.Namespace) -> None:
    """Apply the arguments of :func:`.parser.add_config_arguments` to a config, in place.

    Raises:
        InputError: If the options do not fit the config.
    """
    from gfnet_dense.utils.config import merge_options

    stem = Path(args.config).stem
    if args.demo:
        from gfnet_dense.demo import shrink

        shrink(cfg)
        cfg.work_dir = os.path.join("work_dirs", "demo", stem)
    cfg.setdefault("work_dir", os.path.join("work_dirs", stem))
    merge_options(cfg, args.cfg_options)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir


def load_config(args: argparse.Namespace) -> "Config":
    """Return the config that the arguments ask for; with ``--demo`` the synthetic data are written.

    Raises:
        InputError: See :func:`read_config` and :func:`adapt_config`.
    """
    cfg = read_config(args.config)
    adapt_config(cfg, args)
    if args.demo:
        from gfnet_dense.demo import write_data

        write_data(cfg)
    return cfg


def set_launcher(cfg: "Config", args: argparse.Namespace) -> None:
    """Set the launcher of a distributed run in a config, in place.

    Raises:
        InputError: If the launcher has not started this process, or needs a GPU that is not there.
    """
    import torch

    cfg.launcher = args.launcher
    if args.launcher == "slurm" and not torch.cuda.is_available():
        raise InputError("--launcher slurm needs GPUs, none was found: without, take torchrun")
    variable, command = LAUNCHERS.get(args.launcher, ("PATH", ""))
    if variable not in os.environ:
        raise InputError(
            f"--launcher {args.launcher} is for processes that {command.split()[0]} has started: "
            f"{command} tools/train.py CONFIG --launcher {args.launcher}"
        )
    if args.local_rank is not None:
        os.environ.setdefault("LOCAL_RANK", str(args.local_rank))


def set_outputs(cfg: "Config", out: str | None, show_dir: str | None, tta: bool) -> None:
    """Set what a test writes, and whether it averages over scales and flips, in place.

    Args:
        cfg: The config of a test.
        out: Folder for predictions: label maps, or COCO JSON; none are written if None.
        show_dir: Folder for images with overlays; none are written if None.
        tta: Test-time augmentation.

    Raises:
        InputError: If the config cannot do it.
    """
    if tta and not {"tta_model", "tta_pipeline"} <= set(cfg):
        raise InputError("--tta needs tta_model and tta_pipeline in the config, which has none")
    if out is not None and isinstance(cfg.test_evaluator, (list, tuple)):
        raise InputError("--out needs one test_evaluator in the config, which has a list of them")
    if out is not None and cfg.default_scope == "mmdet":
        cfg.test_evaluator.outfile_prefix = os.path.join(out, "results")
    elif out is not None:
        cfg.test_evaluator.update(output_dir=out, keep_results=True)
    if show_dir is not None:
        cfg.default_hooks.visualization.draw = True
        cfg.visualizer.save_dir = show_dir
    if tta:
        cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
        cfg.model = dict(cfg.tta_model, module=cfg.model)
