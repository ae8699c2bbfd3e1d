"""The checkpoint of a command, given or of the authors of the model."""

import argparse
import os
import re
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


def is_checkpoint(word: str) -> bool:
    """Tell whether a word of a command line is a checkpoint rather than an image or video.

    It is one if it is an address, has the suffix of a checkpoint, or is a file without the suffix
    of an image or video.
    """
    from gfnet_dense.apis.inputs import VIDEO_SUFFIXES
    from gfnet_dense.utils.bands import NUMPY_SUFFIX
    from gfnet_dense.utils.images import IMAGE_SUFFIXES

    suffix = Path(word).suffix.lower()
    if ADDRESS.match(word) or suffix in SUFFIXES:
        return True
    is_input = suffix in {*IMAGE_SUFFIXES, *VIDEO_SUFFIXES, NUMPY_SUFFIX}
    return not is_input and os.path.isfile(os.path.expanduser(word))
