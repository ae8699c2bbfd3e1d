"""The checkpoint of a command, given or of the authors of the model."""

import argparse
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from gfnet_dense.utils.errors import InputError

ADDRESS = re.compile(r"\w[\w.:-]*://")
# .tar: the official files of several projects are named *.pth.tar
SUFFIXES = (".bin", ".ckpt", ".pt", ".pth", ".safetensors", ".tar")


def checkpoint_of(args: argparse.Namespace) -> str:
    """Return the checkpoint that a command was given, else the trained weights of its config.

    Args:
        args: Arguments of :func:`.parser.add_config_arguments` and
            :func:`.parser.add_optional_checkpoint_argument`.

    Raises:
        InputError: If none was given, and there are no trained weights, or ``--demo`` was given.
    """
    from gfnet_dense.checkpoint.official import trained_weights

    if args.checkpoint is not None:
        return args.checkpoint
    if args.demo:
        raise InputError(
            "--demo shrinks the model, which no published weights fit: give a checkpoint of a "
            "training with --demo"
        )
    return trained_weights(args.config)


def split_inputs(config: str, words: Sequence[str]) -> tuple[str | None, list[str]]:
    """Return the checkpoint, None if there is none, and the inputs among words behind a config.

    Args:
        config: The config, for the message.
        words: The checkpoint, which may be left out, and images, videos, folders and patterns.

    Raises:
        InputError: If an input is a checkpoint by its address or suffix, or the first word is a
            file that cannot be read.
    """
    checkpoint, inputs = None, list(words)
    if inputs and is_checkpoint(inputs[0]):
        checkpoint = inputs.pop(0)
    for word in filter(is_named_checkpoint, inputs):
        if checkpoint is not None:
            raise InputError(
                f"one checkpoint is accepted, and {checkpoint} and {word} are given: leave one out"
            )
        others = shlex.join(other for other in inputs if other != word)
        raise InputError(
            f"a checkpoint comes before the inputs: {shlex.join([config, word])} {others}"
        )
    return checkpoint, inputs


def is_checkpoint(word: str) -> bool:
    """Tell whether a word of a command line is a checkpoint rather than an image or video.

    It is one by its address or suffix. A file whose suffix is none of a checkpoint, an image or a
    video is one by its first bytes.
    """
    from gfnet_dense.apis.inputs import VIDEO_SUFFIXES
    from gfnet_dense.utils.bands import NUMPY_SUFFIX
    from gfnet_dense.utils.images import IMAGE_SUFFIXES

    if is_named_checkpoint(word):
        return True
    path = Path(word).expanduser()
    is_input = path.suffix.lower() in {*IMAGE_SUFFIXES, *VIDEO_SUFFIXES, NUMPY_SUFFIX}
    if is_input or not path.is_file():
        return False
    with open(path, "rb") as file:
        return starts_as_checkpoint(file.read(16))


def is_named_checkpoint(word: str) -> bool:
    """Tell whether a word of a command line is an address or has the suffix of a checkpoint."""
    is_folder = os.path.isdir(os.path.expanduser(word))
    return bool(ADDRESS.match(word)) or (Path(word).suffix.lower() in SUFFIXES and not is_folder)


def starts_as_checkpoint(start: bytes) -> bool:
    """Tell whether the first bytes of a file are those of a checkpoint.

    PyTorch writes zip archives, before version 1.6 pickles.
    """
    from gfnet_dense.checkpoint.safe_reader import starts_as_safetensors

    is_pickle = start[:1] == b"\x80" and start[1:2] in (b"\2", b"\3", b"\4", b"\5")  # protocols
    return start.startswith(b"PK\3\4") or is_pickle or starts_as_safetensors(start)
