"""What the command lines in tools/ share."""

import argparse
import errno
import io
import multiprocessing
import os
import re
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from .errors import InputError, building

# oneDNN, PyTorch's convolutions on CPUs, keeps 1024 prepared convolutions, one for each shape, and
# PyTorch as many of its own around them. Most shapes of detectors, and of whole images, never come
# again, and memory grows with them: docs/reliability.md.
ONEDNN_CACHE = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "16", "LRU_CACHE_CAPACITY": "64"}
# What a launcher sets for its processes, and its command
LAUNCHERS = {
    "pytorch": ("RANK", "torchrun --nproc-per-node=GPUS"),
    "slurm": ("SLURM_PROCID", "srun --ntasks=GPUS python"),
}
# What the file system refuses is not a defect of the program.
REFUSALS = {
    errno.EACCES, errno.EDQUOT, errno.EEXIST, errno.EFBIG, errno.EISDIR, errno.ELOOP,
    errno.ENAMETOOLONG, errno.ENOENT, errno.ENOSPC, errno.ENOTDIR, errno.EPERM, errno.EROFS,
}  # fmt: skip
# What gloo and NCCL say where another process of the training has ended
PEER_IS_GONE = re.compile(r"(closed|reset) by peer|Broken pipe|remote process exited")


# OpenCV reads it when it is imported: images of formats that Pillow does not know
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2**28))


class ArgumentParser(argparse.ArgumentParser):
    """A parser whose help keeps the lines of ``description``, and whose errors are one sentence."""

    def __init__(self, description: str | None = None, **kwargs):
        super().__init__(
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **kwargs,
        )

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; all arguments: {self.prog} --help\n")


@contextmanager
def plain_errors() -> Iterator[None]:
    """Print a user's mistake as one sentence, without traceback, and exit with a non-zero code."""
    try:
        yield
    except InputError as e:
        sys.exit(f"error: {sentence(e)}")
    except OSError as e:
        if e.errno not in REFUSALS:
            raise
        sys.exit(f"error: {e.filename or 'a file'} could not be written or read: {e.strerror}")
    except RuntimeError as e:
        if "RANK" not in os.environ or not PEER_IS_GONE.search(str(e)):
            raise
        sys.exit(1)  # the process that has ended tells why
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)


def sentence(error: InputError) -> str:
    """Return the message alone: DataLoader workers wrap it in a traceback of theirs."""
    return " ".join(str(error).rpartition("InputError: ")[2].split())


def quiet_third_party() -> None:
    """Keep warnings away that a user of this project can do nothing about."""
    warnings.filterwarnings("ignore", category=UserWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", module="PIL", category=RuntimeWarning)  # of large images

    from mmengine.logging import MMLogger

    # mmdet's, at import, of a model for road lanes
    MMLogger.get_current_instance().addFilter(lambda record: "Line NMS" not in record.getMessage())


def add_config_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of every command that reads a config."""
    from mmengine.config import DictAction

    class Overrides(DictAction):
        def __call__(self, parser, namespace, values, option_string=None):
            try:
                super().__call__(parser, namespace, values, option_string)
            except (AssertionError, RecursionError, ValueError):  # mmengine's, for "a", "a={}"
                parser.error(
                    f"--cfg-options takes KEY=VALUE, values being numbers, strings and lists of "
                    f"them ([1,2]), got {' '.join(values)}"
                )

    parser.add_argument("config", help="config file")
    parser.add_argument(
        "--demo", action="store_true", help="run a shrunken copy of the config on drawn data"
    )
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=Overrides,
        metavar="KEY=VALUE",
        help="override settings of the config, after --demo: optim_wrapper.optimizer.lr=1e-4",
    )
    parser.add_argument(
        "--work-dir", help="where results go (default: work_dirs/CONFIG, work_dirs/demo/CONFIG)"
    )


class _Trust(argparse.Action):
    def __call__(self, parser, namespace, values, option_string=None) -> None:
        from .safe_loading import trust_checkpoints

        trust_checkpoints()


def add_checkpoint_argument(parser: ArgumentParser, help_text: str) -> None:
    """Add the checkpoint of a command that reads one."""
    parser.add_argument("checkpoint", help=help_text)
    add_trust_argument(parser)


def add_trust_argument(parser: ArgumentParser) -> None:
    """Add the argument that lets checkpoints run code."""
    parser.add_argument(
        "--trust-checkpoint",
        nargs=0,
        action=_Trust,
        help="read files that hold objects of Python, too, which can run any code",
    )


def add_run_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of every command that runs a model on one or several GPUs."""
    add_config_arguments(parser)
    parser.add_argument("--launcher", choices=["none", *LAUNCHERS], default="none")
    parser.add_argument("--local_rank", "--local-rank", type=int, help=argparse.SUPPRESS)


def read_config(path: str | Path):
    """Return the mmengine Config of a file.

    Raises:
        InputError: If the config file is missing or broken, or needs what is not installed.
    """
    from mmengine.config import Config

    path = Path(path)
    if not path.is_file():
        raise InputError(f"the config {path} does not exist; the project's own are in configs/")
    for name, value in ONEDNN_CACHE.items():  # read at the first convolution
        os.environ.setdefault(name, value)
    try:
        cfg = Config.fromfile(path)
        if not {"default_scope", "model", "test_dataloader"} <= set(cfg):
            raise InputError(
                f"{path} is a part of configs, not a whole one: it has no model and data"
            )
        with redirect_stdout(io.StringIO()):  # datasets print which optional packages they miss
            import_module(f"{cfg.default_scope}.datasets")
            if cfg.default_scope == "mmdet":
                import_module("mmdet.models")
    except InputError:
        raise
    except Exception as e:  # whatever a Python file can raise
        if isinstance(e, ImportError) and (reason := _why_no_operators()):
            raise InputError(
                f"{path} needs mmcv with compiled operators, which cannot be imported ({reason}): "
                "make install-det compiles them (some minutes, needs a C++ compiler)"
            ) from None
        reason = str(e).strip().splitlines()
        raise InputError(
            f"{path} cannot be read as a config: {type(e).__name__}: {reason[-1] if reason else ''}"
        ) from None
    return cfg


def parse_size(text: str) -> tuple[int, int]:
    """Return the image size (H, W) of an argument: ``512x683``, or ``512`` for a square.

    Raises:
        InputError: If it is none, or below 32 pixels.
    """
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    size = match and (int(match[1]), int(match[2] or match[1]))
    if not size or min(size) < 32:
        raise InputError(
            f"an image size is HxW, of 32 pixels and more, such as 512x683, got {text!r}"
        )
    return size


def _why_no_operators() -> str:
    """Return why mmcv's compiled operators cannot be imported, '' if they can."""
    try:
        import_module("mmcv._ext")
    except ImportError as e:  # not there, or compiled for another torch
        return str(e)
    return ""


def adapt_config(cfg, args: argparse.Namespace) -> None:
    """Set what the arguments of :func:`add_config_arguments` ask for, in place.

    Raises:
        InputError: If the options do not fit the config.
    """
    stem = Path(args.config).stem
    if args.demo:
        from .demo import shrink

        try:
            shrink(cfg)
        except (AttributeError, KeyError, StopIteration) as e:
            raise InputError(
                f"--demo is for configs built like those in configs/: {args.config} lacks what "
                f"they have ({type(e).__name__}: {e})"
            ) from e
        cfg.work_dir = os.path.join("work_dirs", "demo", stem)
    cfg.setdefault("work_dir", os.path.join("work_dirs", stem))
    if args.cfg_options is not None:
        try:
            cfg.merge_from_dict(args.cfg_options)
        except (TypeError, KeyError, IndexError) as e:
            raise InputError(f"--cfg-options do not fit the config: {e}") from None
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir


def load_config(args: argparse.Namespace):
    """Return the Config that the arguments ask for; with --demo its data are drawn.

    Raises:
        InputError: See :func:`read_config` and :func:`adapt_config`.
    """
    cfg = read_config(args.config)
    adapt_config(cfg, args)
    if args.demo:
        from .demo import write_ade20k, write_coco

        write_coco() if cfg.default_scope == "mmdet" else write_ade20k()
    return cfg


def set_launcher(cfg, args: argparse.Namespace) -> None:
    """Set what starts the processes of a distributed run, in place.

    Raises:
        InputError: If it has not started this process, or needs a GPU that is not there.
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


def prepare_training(cfg, resume: bool, amp: bool) -> None:
    """Check what training needs and set what the command line asks for, in place.

    Raises:
        InputError: If data is missing or the heads are for other classes, or mixed precision is
            asked for without a GPU.
    """
    from .data_check import check_classes, check_dataset_folders, check_evaluators
    from .resume import newest_checkpoint

    check_dataset_folders(cfg, ("train", "val"))
    check_classes(cfg, ("train", "val"))
    check_evaluators(cfg, ("val",))
    if resume:
        hook = cfg.get("default_hooks", {}).get("checkpoint", {})
        settings = {key: hook.get(key) for key in ("out_dir", "filename_tmpl")}
        newest = newest_checkpoint(Path(cfg.work_dir), **settings)
        cfg.resume = newest is not None  # without, load_from stays what the training starts from
        if newest is None:
            print(f"no checkpoint in {cfg.work_dir}: the training starts anew", file=sys.stderr)
        else:
            path, content = newest
            cfg.load_from = str(path)
            seed = content.get("meta", {}).get("seed")
            if seed is not None:  # the data go on in their order
                cfg.randomness = {**cfg.get("randomness", {}), "seed": seed}
    if amp:
        import torch

        if not torch.cuda.is_available():
            raise InputError("--amp needs a GPU, none was found: leave it out to train in float32")
        cfg.optim_wrapper.update(type="AmpOptimWrapper", loss_scale="dynamic")


def prepare_testing(cfg, checkpoint: str, out: str | None, show_dir: str | None, tta: bool) -> None:
    """Check what testing needs and set what the command line asks for, in place.

    Raises:
        InputError: If data or checkpoint are missing.
    """
    from .checkpoints import fetch
    from .data_check import check_dataset_folders, check_evaluators

    check_dataset_folders(cfg, ("test",))
    check_evaluators(cfg, ("test",))
    cfg.load_from = checkpoint
    if "://" not in checkpoint:
        fetch(checkpoint)  # if it is missing, say so before building
    for key in ("train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler"):
        cfg[key] = None
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


def build_runner(cfg):
    """Return the runner of a config; checkpoints that it reads are data, never code."""
    from . import checkpoints
    from .runner import DenseRunner

    checkpoints.use_safe_loading()
    with building("the config"):
        return DenseRunner.from_cfg(cfg)


def build_optim_wrapper(cfg):
    """Return the optimizer wrapper of a config, around its model without pretrained weights."""
    from mmengine.optim import build_optim_wrapper
    from mmengine.registry import MODELS, init_default_scope

    from .checkpoints import use_safe_loading

    use_safe_loading()
    init_default_scope(cfg.default_scope)
    with building("the config"):
        return build_optim_wrapper(MODELS.build(cfg.model), cfg.optim_wrapper)


def train(runner) -> None:
    """Train; when interrupted, say how to go on, and exit."""
    start, signals = time.time(), []

    def interrupt(number, frame):
        signals.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    try:
        runner.train()
    except BaseException:
        # mmengine makes another error of an interrupt while it formats a config.
        if not signals:
            raise
        from .resume import LAST_CHECKPOINT, NONE_YET

        last = Path(runner.work_dir) / LAST_CHECKPOINT
        name = Path(last.read_text().strip()).name if last.exists() else NONE_YET
        if name != NONE_YET and last.stat().st_mtime > start:  # not another run's
            how = f"the same command with --resume goes on from {name}"
        else:
            how = "before the first checkpoint of this run"
        print(f"\ninterrupted; {how}", file=sys.stderr)
        sys.exit(130)
    _leave_gloo(runner)


def test(runner) -> None:
    """Evaluate."""
    runner.test()
    _leave_gloo(runner)


def _leave_gloo(runner) -> None:
    """End a process of a distributed run without a GPU: gloo's sometimes hang at their end."""
    import torch

    if runner.distributed and torch.distributed.get_backend() == "gloo":
        for loader in multiprocessing.active_children():
            loader.kill()  # they would outlive it, and keep its output open
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
