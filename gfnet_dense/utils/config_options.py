"""Overriding settings of a config, as ``--cfg-options`` does."""

import inspect
import logging
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from .config import check_sections
from .errors import InputError

SIMILAR = 0.85  # least similarity (difflib's ratio) of a key that may be misspelled, 0..1


def merge_options(cfg: Config, options: dict | None) -> None:
    """Override settings of a config in place.

    Args:
        cfg: The config.
        options: Values by dotted key, such as ``model.test_cfg.mode``, from ``--cfg-options``.

    Raises:
        InputError: If a key does not fit the config.
    """
    if options is None:
        return
    for key in options:
        if similar := misspelled(cfg, key):
            # A new setting may be meant: many have defaults and are not in the config.
            message = f"--cfg-options {key} sets what the config has not: is {similar} meant?"
            print_log(message, logger="current", level=logging.WARNING)
        if (variable := key.partition(".")[0]) in cfg and variable not in _settings():
            message = (
                f"--cfg-options {key} changes a variable of the config: settings that were "
                f"computed from {variable} stay as they are{_example(cfg, variable)}"
            )
            print_log(message, logger="current", level=logging.WARNING)
    try:
        cfg.merge_from_dict(options)
    except (TypeError, KeyError, IndexError) as e:
        raise InputError(f"--cfg-options do not fit the config: {e}") from e
    except AttributeError as e:  # mmengine's, of a value that is no dict
        raise InputError(
            f"--cfg-options do not fit the config: a key leads into a value that is no dict ({e})"
        ) from e
    check_sections(cfg)


def misspelled(cfg: Config, key: str) -> str | None:
    """Return the name in the config that a dotted key almost has, if it has none."""
    node: Any = cfg
    parts = key.split(".")
    for i, part in enumerate(parts):
        if isinstance(node, (list, tuple)) and part.isdecimal() and int(part) < len(node):
            node = node[int(part)]
        elif isinstance(node, (Config, dict)) and part not in node:
            close = get_close_matches(part, list(node), n=1, cutoff=SIMILAR)
            return ".".join([*parts[:i], close[0], *parts[i + 1 :]]) if close else None
        elif isinstance(node, (Config, dict)):
            node = node[part]
        else:
            return None
    return None


def _settings() -> set[str]:
    """Return the names at the top of a config that mmengine and the commands read."""
    from mmengine.runner import Runner  # here, since it imports PyTorch's distributed training

    others = (
        "custom_imports find_unused_parameters model_wrapper_cfg sync_bn tta_model tta_pipeline"
    )
    return {*inspect.signature(Runner.__init__).parameters, *others.split()}


def _example(cfg: Config, name: str) -> str:
    """Return the end of a sentence that names a setting of the value of a variable, if any."""
    for section in sorted(_settings() & set(cfg)):
        for place, node in _nodes(cfg[section], section):
            if isinstance(node, dict) and name in node and node[name] == cfg[name]:
                return f", such as {place}.{name}"
    return ""


def _nodes(node: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Yield the parts of a section of a config, with their dotted keys."""
    yield place, node
    if not isinstance(node, (dict, list, tuple)):
        return
    pairs = node.items() if isinstance(node, dict) else enumerate(node)
    for key, each in pairs:
        yield from _nodes(each, f"{place}.{key}")
