"""Argument parser of the commands, and arguments that several commands have.

Private functions of mmengine's DictAction are used here, as seen in onedl-mmengine 0.10.12.
"""

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.program import PROGRAM
from gfnet_dense.utils.types import AMP, Size

from .console import ShowTracebacks

# The environment variable that each launcher sets in its processes, and its command line
LAUNCHERS = {
    "pytorch": ("RANK", "torchrun --nproc-per-node=GPUS"),
    "slurm": ("SLURM_PROCID", "srun --ntasks=GPUS python"),
}

KEPT_SPACE = "\0"  # stands for a space inside of an element of a list, while the list is parsed


class ArgumentParser(argparse.ArgumentParser):
    """Parser with one-sentence errors, whose help keeps the line breaks of the description.

    Every command has the argument ``--traceback``, see :func:`.console.plain_errors`. The examples
    in the description are shown as the command was started: as a file of ``tools/``, or by
    :mod:`gfnet_dense.__main__`.

    Args:
        description: Text at the top of the help.
        **kwargs: See :class:`argparse.ArgumentParser`.
    """

    takes_amp = False  # whether add_amp_argument() was called
    takes_checkpoint = False  # whether add_optional_checkpoint_argument() was called

    def __init__(self, description: str | None = None, **kwargs: Any):
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)
        if description and self.prog.startswith(f"{PROGRAM} "):
            description = re.sub(r"python tools/(\w+)\.py", rf"{PROGRAM} \1", description)
        self.description = description
        self.add_argument(
            "--traceback",
            nargs=0,
            action=ShowTracebacks,
            help="show where in the code an error was raised, above its sentence",
        )

    def parse_known_args(  # type: ignore[override]
        self,
        args: Sequence[str] | None = None,
        namespace: argparse.Namespace | None = None,
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse; ``--amp`` takes the word behind it if that is one of its own.

        argparse would take any word, also the config of ``--amp CONFIG``. It would also take the
        checkpoint of ``CONFIG --demo CHECKPOINT``, which may be left out, for a word too many.
        """
        words = list(sys.argv[1:] if args is None else args)
        if self.takes_amp:
            pairs = zip(words, [*words, ""][1:], strict=True)
            words = [f"{a}={AMP[0]}" if a == "--amp" and b not in AMP else a for a, b in pairs]
        if not self.takes_checkpoint:
            return super().parse_known_args(words, namespace)
        self.takes_checkpoint = False  # older Pythons call this method again within
        try:
            return super().parse_known_intermixed_args(words, namespace)
        finally:
            self.takes_checkpoint = True

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; all arguments: {self.prog} --help\n")


def add_config_arguments(parser: ArgumentParser, or_shared: bool = False) -> None:
    """Add the arguments of every command that reads a config.

    These are ``config``, ``--demo``, ``--cfg-options`` and ``--work-dir``.

    Args:
        parser: The parser.
        or_shared: Whether the command takes the folder of a shared model, too, see
            :func:`.models.read_model`.
    """
    from mmengine.config import DictAction

    class Overrides(DictAction):
        """mmengine's parser of KEY=VALUE, which keeps spaces, with errors of one sentence."""

        @staticmethod
        def _parse_iterable(val: str) -> Any:
            # mmengine removes all spaces, also those inside of paths and class names.
            val = val.strip()
            if not val.strip("'\"").startswith(("[", "(")) and "," not in val:
                return DictAction._parse_int_float_bool(val.strip("'\""))
            kept = re.sub(r"(?<=[^\s,()\[\]]) +(?=[^\s,()\[\]])", _kept_spaces, val)
            return _with_spaces(DictAction._parse_iterable(kept))

        def __call__(
            self,
            parser: argparse.ArgumentParser,
            namespace: argparse.Namespace,
            values: Sequence[str],
            option_string: str | None = None,
        ) -> None:
            try:
                super().__call__(parser, namespace, values, option_string)
            except (AssertionError, RecursionError, ValueError):  # mmengine's, for "a" and "a={}"
                parser.error(
                    f"--cfg-options takes KEY=VALUE, values being numbers, strings and lists of "
                    f"them ([1,2]), got {' '.join(values)}"
                )

    kinds = ["config file", "name of a config of this project"]
    kinds += ["folder of tools/publish_checkpoint.py, without CHECKPOINT"] if or_shared else []
    parser.add_argument("config", help=", or ".join(kinds))
    parser.add_argument(
        "--demo", action="store_true", help="run a shrunken copy of the config on synthetic scenes"
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
    """Flag that takes effect while arguments are parsed: checkpoints may then run code."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        from gfnet_dense.checkpoint.safe_reader import trust_checkpoints

        trust_checkpoints()


def _kept_spaces(match: re.Match) -> str:
    return KEPT_SPACE * len(match[0])


def _with_spaces(value: Any) -> Any:
    """Return a parsed value with spaces in place of :data:`KEPT_SPACE`."""
    if isinstance(value, (list, tuple)):
        return type(value)(_with_spaces(each) for each in value)
    return value.replace(KEPT_SPACE, " ") if isinstance(value, str) else value


def add_checkpoint_argument(parser: ArgumentParser, help_text: str) -> None:
    """Add ``checkpoint``, and ``--trust-checkpoint`` as :func:`add_trust_argument` does."""
    parser.add_argument("checkpoint", help=help_text)
    add_trust_argument(parser)


def add_optional_checkpoint_argument(parser: ArgumentParser, help_text: str) -> None:
    """Add ``checkpoint`` behind ``config``, see :func:`.checkpoints.checkpoint_of`.

    Args:
        parser: Parser with the arguments of :func:`add_config_arguments`.
        help_text: Help without the default.
    """
    parser.takes_checkpoint = True
    help_text += " (default: the trained weights of CONFIG, if its authors published some)"
    parser.add_argument("checkpoint", nargs="?", help=help_text)
    add_trust_argument(parser)


def add_trust_argument(parser: ArgumentParser) -> None:
    """Add ``--trust-checkpoint``, which allows checkpoints to run code while they are read."""
    parser.add_argument(
        "--trust-checkpoint",
        nargs=0,
        action=_Trust,
        help="read files that hold objects of Python, too, which can run any code",
    )


def add_amp_argument(parser: ArgumentParser) -> None:
    """Add ``--amp``, mixed precision: None, or a word of :data:`gfnet_dense.utils.types.AMP`."""
    parser.takes_amp = True
    parser.add_argument(
        "--amp",
        nargs="?",
        choices=AMP,
        const=AMP[0],
        metavar="DTYPE",
        help="automatic mixed precision: float16 (GPU) or bfloat16 (default: float16 on a GPU, "
        "bfloat16 on a CPU)",
    )


def add_run_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of every command that runs a model on one or several GPUs.

    These are the arguments of :func:`add_config_arguments`, ``--launcher`` and ``--local_rank``.
    """
    add_config_arguments(parser)
    parser.add_argument("--launcher", choices=["none", *LAUNCHERS], default="none")
    parser.add_argument("--local_rank", "--local-rank", type=int, help=argparse.SUPPRESS)


def command_line() -> str:
    """Return the command line of this process, for a user who repeats it."""
    program, *arguments = sys.argv
    start = [program] if program.startswith(f"{PROGRAM} ") else ["python", shlex.quote(program)]
    return " ".join([*start, *map(shlex.quote, arguments)])


def parse_size(text: str) -> Size:
    """Parse an image size ``HxW`` in pixels, or ``N`` for a square, such as ``512x683`` or ``512``.

    Returns:
        (H, W).

    Raises:
        InputError: If the text is not a size, or a side is less than 32 pixels.
    """
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    size = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if min(size) < 32:
        raise InputError(
            f"an image size is HxW, of 32 pixels and more, such as 512x683, got {text!r}"
        )
    return size
