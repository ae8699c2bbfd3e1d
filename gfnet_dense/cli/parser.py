"""The argument parser of the commands and the arguments that several of them have."""

import argparse
import re
from typing import NoReturn

from gfnet_dense.utils.errors import InputError

# What a launcher sets for its processes, and its command
LAUNCHERS = {
    "pytorch": ("RANK", "torchrun --nproc-per-node=GPUS"),
    "slurm": ("SLURM_PROCID", "srun --ntasks=GPUS python"),
}


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
        from gfnet_dense.checkpoint.safe_reader import trust_checkpoints

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
