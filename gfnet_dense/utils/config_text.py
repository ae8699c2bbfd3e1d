"""Configs as Python text, as mmengine stores them in checkpoints: read and written as data."""

import ast
from pprint import pformat
from typing import Any

from .errors import InputError

CONSTANTS = {"inf": float("inf"), "nan": float("nan")}  # as mmengine writes them


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
        raise InputError(f"{source} is no plain data ({reason})") from None


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


def write(config: dict[str, Any]) -> str:
    """Return settings as a text that :func:`parse` and mmengine's ``Config.fromstring`` read.

    Args:
        config: Data of a config, whose keys are names.
    """
    lines = (
        f"{key} = {pformat(value, width=100, sort_dicts=False)}\n" for key, value in config.items()
    )
    return "".join(lines)
