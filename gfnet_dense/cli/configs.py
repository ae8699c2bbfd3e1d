"""Reading the config of a command and applying the arguments of the command to it."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from gfnet_dense.utils.errors import InputError

from .environment import limit_onednn_cache
from .parser import LAUNCHERS

if TYPE_CHECKING:  # --help must answer without importing mmengine's config
    from mmengine.config import Config


def read_config(path: str | Path) -> "Config":
    """Read a config and limit oneDNN's caches, see :func:`gfnet_dense.utils.config.read_config`.

    Commands read their config before they import modules that need mmcv or mmsegmentation: it says
    in one sentence which library is missing.
    """
    from gfnet_dense.utils.config import read_config

    limit_onednn_cache()
    return read_config(path)


def adapt_config(cfg: "Config", args: argparse.Namespace) -> None:
    """Apply the arguments of :func:`.parser.add_config_arguments` to a config, in place.

    Raises:
        InputError: If ``--cfg-options`` or ``--demo`` do not fit the config.
    """
    from gfnet_dense.utils.config_options import merge_options

    stem = Path(args.config).stem
    if args.demo:
        from gfnet_dense.demo import match_bands, shrink

        shrink(cfg)
        cfg.work_dir = os.path.join("work_dirs", "demo", stem)
    cfg.setdefault("work_dir", os.path.join("work_dirs", stem))
    merge_options(cfg, args.cfg_options)
    if args.demo:
        match_bands(cfg)  # which an option may have changed
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir


def load_config(args: argparse.Namespace) -> "Config":
    """Read and adapt the config that a command was given, and write the dataset of its demo.

    Args:
        args: Arguments of :func:`.parser.add_config_arguments`.

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

    Args:
        cfg: The config.
        args: Arguments of :func:`.parser.add_run_arguments`.

    Raises:
        InputError: If the process was not started by the launcher, or the launcher needs GPUs and
            there are none.
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
    """Set the output folders and the test-time augmentation of a test in its config, in place.

    Args:
        cfg: The config.
        out: Folder for predictions, label maps or COCO JSON; none are written if None.
        show_dir: Folder for images with overlays; none are written if None.
        tta: Whether to average predictions over several scales and flips.

    Raises:
        InputError: If the config lacks the settings for ``tta``, has several evaluators of
            detections and ``out`` is given, or a folder cannot be written to.
    """
    from gfnet_dense.utils.results import make_writable

    if tta and not {"tta_model", "tta_pipeline"} <= set(cfg):
        raise InputError("--tta needs tta_model and tta_pipeline in the config, which has none")
    for folder in (out, show_dir):
        if folder is not None:
            make_writable(Path(folder))
    label_dir = None if out is None or _evaluator_writes(cfg, out) else out
    if label_dir is not None or show_dir is not None:
        hook = dict(type="gfnet_dense.ResultsHook", label_dir=label_dir, picture_dir=show_dir)
        cfg.custom_hooks = [*(cfg.get("custom_hooks") or []), hook]
    if tta:
        cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
        cfg.model = dict(cfg.tta_model, module=cfg.model)


def _evaluator_writes(cfg: "Config", out: str) -> bool:
    """Let the evaluator write predictions if it has a format of its own, and return whether.

    These are COCO's JSON, and label maps in the numbers of a benchmark's server, as of
    mmsegmentation's CityscapesMetric.
    """
    from gfnet_dense.utils.config import type_name

    evaluator = cfg.test_evaluator
    if cfg.default_scope == "mmdet":
        if isinstance(evaluator, (list, tuple)):
            raise InputError(
                "--out needs one test_evaluator in the config, which has a list of them"
            )
        evaluator.outfile_prefix = os.path.join(out, "results")
        return True
    is_one = isinstance(evaluator, dict)
    if is_one and "output_dir" in evaluator and type_name(evaluator) != "IoUMetric":
        evaluator.update(output_dir=out, keep_results=True)
        return True
    return False
