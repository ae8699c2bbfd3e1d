"""The model of a command: a config with a checkpoint, or the folder of a shared model."""

import argparse
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gfnet_dense.utils.errors import InputError

from .checkpoints import checkpoint_of
from .configs import adapt_config, read_config
from .environment import limit_onednn_cache

if TYPE_CHECKING:  # --help must answer without importing mmengine and torch
    from mmengine.config import Config
    from mmengine.model import BaseModel


def read_model(args: argparse.Namespace) -> tuple["Config", Callable[[str], "BaseModel"]]:
    """Return the config of a command's model, and a function from a device to the model.

    A command checks its inputs in between: the weights may have to be downloaded first.

    Args:
        args: Arguments of :func:`.parser.add_config_arguments` and
            :func:`.parser.add_optional_checkpoint_argument`. In place of a config there may be a
            folder of :func:`gfnet_dense.save_pretrained`.

    Raises:
        InputError: If the config, or the config of the folder, cannot be read or is refused, if
            there are no weights, or if more is given for a folder, which has its own.
    """
    from gfnet_dense.utils.config import SHARED_WEIGHTS, shared_folder

    folder = shared_folder(args.config)
    if folder is None:
        try:
            checkpoint = checkpoint_of(args)
        except InputError as e:
            if shared_folder(path := os.path.join(".", args.config)) is None:
                raise
            raise InputError(f"{e}; the folder of this name is {path}") from None
        cfg = read_config(args.config)
        adapt_config(cfg, args)
        from gfnet_dense import load_model

        return cfg, partial(load_model, cfg, checkpoint)
    given = {
        args.checkpoint: args.checkpoint is not None,
        "--demo": args.demo,
        "--cfg-options": args.cfg_options is not None,
        "--work-dir": args.work_dir is not None,
    }
    if any(given.values()):
        extra = " and ".join(word for word, is_given in given.items() if is_given)
        raise InputError(
            f"{args.config} is a shared model, which has weights and settings of its own: leave "
            f"out {extra}, or give the config of the training and the checkpoint "
            f"{folder / SHARED_WEIGHTS}"
        )
    cfg = read_shared_config(folder)
    from gfnet_dense import from_pretrained

    return cfg, partial(from_pretrained, folder)


def read_shared_config(folder: Path) -> "Config":
    """Return the config of a shared model, and limit oneDNN's caches as for any other config.

    Raises:
        InputError: If it cannot be read or is refused, or if a library is not installed.
    """
    from gfnet_dense.utils.config import missing_library

    limit_onednn_cache()
    try:
        from gfnet_dense.sharing.folder import shared_config
    except ImportError as e:
        if (sentence := missing_library(folder, e)) is None:
            raise
        raise InputError(sentence) from e
    return shared_config(folder)
