"""Configs as JSON: their data alone, without what is private to the machine of their author."""

import copy
import json
import math
from typing import Any

from mmengine.config import Config

from gfnet_dense.benchmark.whole_model import forget_weights
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.private import RUN, without_private

from .safe_config import SCOPES, registered_name

# Keys that stand for what JSON has not; it has no tuples, and several transforms take no lists.
TUPLE, FLOAT = "__tuple__", "__float__"


def portable(cfg: Config) -> tuple[dict[str, Any], list[str]]:
    """Return the data of a config without what only its author's machine has, and notes of changes.

    Beside what :func:`.private.without_private` takes out, imports of the libraries' own modules
    are left out, as are the files that parts of the model start from: the weights that belong to
    the config replace them.

    Types that are classes, as in configs with lazy imports, become their registered names.

    Args:
        cfg: A whole config.
    """
    config = {name: _named(cfg[name]) for name in cfg.to_dict()}
    before = copy.deepcopy(config.get("model"))
    forget_weights(config.get("model"))
    notes = []
    if config.get("model") != before:
        notes.append("the files from which the training started (init_cfg) are left out")
    settings: tuple[str, ...] = RUN
    if _imports_libraries(config.get("custom_imports")):
        settings += ("custom_imports",)  # the names of types tell their library
    public, cuts = without_private(config, settings)
    return public, notes + cuts


def _imports_libraries(settings: Any) -> bool:
    """Tell whether a ``custom_imports`` names modules of the libraries alone."""
    names: Any = settings.get("imports") if isinstance(settings, dict) else None
    names = [names] if isinstance(names, str) else names or []
    return bool(names) and all(str(name).partition(".")[0] in SCOPES for name in names)


def _named(node: Any) -> Any:
    """Return a copy in plain containers, with registered names in place of classes."""
    if isinstance(node, dict):
        return {key: _named(value) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return type(node)(_named(each) for each in node)
    return registered_name(node) or node if callable(node) else node


def encode(config: dict[str, Any]) -> str:
    """Return a config as a JSON text, from which :func:`decode` makes the same data.

    Raises:
        InputError: If it holds what is no data, such as a function.
    """
    return json.dumps(_to_json(config, ""), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _to_json(node: Any, name: str) -> Any:
    if isinstance(node, dict):
        if odd := [key for key in node if not isinstance(key, str)]:
            raise InputError(f"config.json takes names as keys, and {name} has {odd[0]!r}")
        return {key: _to_json(value, f"{name}.{key}".lstrip(".")) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        items = [_to_json(each, name) for each in node]
        return items if isinstance(node, list) else {TUPLE: items}
    if isinstance(node, float) and not math.isfinite(node):
        return {FLOAT: str(node)}
    if node is None or isinstance(node, (bool, int, float, str)):
        return node
    raise InputError(
        f"config.json takes numbers, strings, lists, tuples and dicts, and {name} is a "
        f"{type(node).__name__}: write the config with plain data"
    )


def decode(text: str) -> Any:
    """Return the data of a text of :func:`encode`; of any other text, data all the same.

    Raises:
        ValueError: If the text is no JSON.
        RecursionError: If it is nested too deeply.
    """
    return json.loads(text, object_hook=_from_json)


def _from_json(node: dict[str, Any]) -> Any:
    if list(node) == [TUPLE] and isinstance(node[TUPLE], list):
        return tuple(node[TUPLE])
    if list(node) == [FLOAT] and node[FLOAT] in ("inf", "-inf", "nan"):
        return float(node[FLOAT])
    return node
