"""Sharing the checkpoint of a training: its config and its accuracy are read from its files."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import HistoryBuffer, print_log
from mmengine.model import BaseModel

from gfnet_dense.apis.loading import load_model
from gfnet_dense.checkpoint.download import fetch
from gfnet_dense.checkpoint.safe_reader import read_checkpoint
from gfnet_dense.utils.errors import InputError
from gfnet_dense.visualization.curves import METRICS
from gfnet_dense.visualization.log_curves import read_log

from .config_json import portable
from .folder import save_pretrained
from .hub import check_id, client_module, upload
from .safe_config import check_config

CONSTANTS = {"inf": float("inf"), "nan": float("nan")}  # as mmengine writes them


def publish_folder(
    source: str | Path,
    folder: Path,
    config: str | None = None,
    image: Path | None = None,
    license: str | None = None,
    repo_id: str | None = None,
) -> Iterator[str]:
    """Write the folder of :func:`.folder.save_pretrained` for a checkpoint, and upload it.

    Args:
        source: Path or address of a checkpoint that ``tools/train.py`` saved.
        folder: See :func:`.folder.save_pretrained`, as ``image`` and ``license``.
        config: Path or name of its config; None for the text of it in the checkpoint, which is read
            as data.
        image: See there.
        license: See there.
        repo_id: ``USER/NAME`` on the Hugging Face hub; None for no upload.

    Yields:
        The places that are written: the folder, and the address of the page on the hub.

    Raises:
        InputError: If there is no config, if it is not of the checkpoint, and as
            :func:`.folder.save_pretrained` and :func:`.folder.push_to_hub`.
    """
    if repo_id is not None:
        check_id(repo_id)  # both before anything is fetched and run
        client_module()
    checkpoint = fetch(source)
    content = read_checkpoint(checkpoint)
    if config is not None:
        model = load_model(config, checkpoint)
    else:
        model = _by_stored_config(content.get("meta", {}), checkpoint)
    metrics = validation_of(content, checkpoint)
    if not metrics:
        print_log(
            f"neither {checkpoint.name} nor logs beside it tell the accuracy of these weights: the "
            "model card has none",
            logger="current",
        )
    written = save_pretrained(
        model, folder, image=image, license=license, metrics=metrics, name=repo_id
    )
    yield str(written)
    if repo_id is not None:
        yield upload(written, repo_id)


def _by_stored_config(meta: dict[str, Any], checkpoint: Path) -> BaseModel:
    """Return the model of a checkpoint by the text of its config, which is checked before."""
    source = f"the config in {checkpoint}"
    if not isinstance(meta.get("cfg"), str):
        raise InputError(f"{checkpoint} holds no config: give it as --config")
    config = parse(meta["cfg"], source)
    try:
        cfg = Config(config)
    except (KeyError, TypeError) as e:  # a name that mmengine reserves
        raise InputError(f"{source} is no config of mmengine ({e})") from None
    shared, _ = portable(cfg)
    check_config(shared, source)
    model = load_model(Config(shared), checkpoint)
    model.cfg = cfg  # for the notes of what is left out
    return model


def parse(text: str, source: str) -> dict[str, Any]:
    """Return the settings of a config that mmengine has written as Python, without executing it.

    Args:
        text: Assignments of numbers, strings, lists, tuples, dicts and ``dict(...)``.
        source: Where it comes from, for messages.

    Raises:
        InputError: If there is anything else in it.
    """
    try:
        statements = ast.parse(text).body
        return dict(_assignment(statement) for statement in statements)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as e:
        reason = " ".join(str(e).split())
        raise InputError(
            f"{source} is no plain data ({reason}): give the config as --config"
        ) from None


def _assignment(statement: ast.stmt) -> tuple[str, Any]:
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
        return statement.targets[0].id, _value(statement.value)
    raise ValueError(f"line {statement.lineno}: {ast.unparse(statement)[:60]}")


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        pairs = [(k.arg, _value(k.value)) for k in node.keywords]
        parts: list[Any] = [_value(arg) for arg in node.args]
        merged = {k: v for part in parts for k, v in dict(part).items()}
        for key, value in pairs:
            merged |= dict(value) if key is None else {key: value}  # None: **{...}
        return merged
    if isinstance(node, ast.Dict) and None not in node.keys:
        keys = [ast.literal_eval(key) for key in node.keys if key is not None]
        return dict(zip(keys, map(_value, node.values), strict=True))
    if isinstance(node, (ast.List, ast.Tuple)):
        items = [_value(each) for each in node.elts]
        return items if isinstance(node, ast.List) else tuple(items)
    if isinstance(node, ast.Name) and node.id in CONSTANTS:
        return CONSTANTS[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    if isinstance(node, ast.Constant):
        return node.value
    raise ValueError(f"line {node.lineno}: {ast.unparse(node)[:60]}")


def validation_of(content: dict[str, Any], checkpoint: Path) -> dict[str, float]:
    """Return the accuracy of the weights in a checkpoint in percent, empty if it is not known.

    mmengine saves a checkpoint before the validation of the same iteration: the numbers in the file
    are of earlier weights, unless it is the best one so far, which is saved after its validation.
    For the others, the logs beside the file tell the validation of their iteration.

    Args:
        content: Content of the checkpoint.
        checkpoint: Its path, ``WORK_DIR/iter_160000.pth``.
    """
    meta, hub = content.get("meta", {}), content.get("message_hub", {})
    info, scalars = hub.get("runtime_info", {}), hub.get("log_scalars", {})
    best = re.search(r"_(iter|epoch)_(\d+)\.pth$", str(info.get("best_ckpt", "")))
    if best and meta.get(best[1]) == int(best[2]):
        return {
            label: round(float(scalars[name].current()) * factor, 4)
            for name, (label, factor) in METRICS.items()
            if isinstance(scalars.get(name), HistoryBuffer)
        }
    try:
        curves = read_log(checkpoint.resolve().parent).metrics
    except InputError:
        return {}
    step = meta.get("iter")
    return {label: round(curve[step], 4) for label, curve in curves.items() if step in curve}
