"""Reading the text of a config as data, without running it."""

import ast
from typing import Any

MAX_LENGTH = 2**20  # characters; our longest config has 20,000


def parse_config_text(text: object) -> dict[str, Any] | None:
    """Return the settings in the text of a config, as mmengine's ``Config.pretty_text`` writes it.

    Args:
        text: The text, such as ``meta.cfg`` of a checkpoint, which may hold anything.

    Returns:
        A dict of nested dicts, lists and values. An expression that is neither a literal nor
        ``dict(...)`` stands as its text. None if the text cannot be read.
    """
    if not isinstance(text, str) or len(text) > MAX_LENGTH:
        return None
    try:
        return {
            target.id: _value(statement.value)
            for statement in ast.parse(text).body
            if isinstance(statement, ast.Assign)
            for target in statement.targets
            if isinstance(target, ast.Name)
        }
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Dict) and all(isinstance(key, ast.Constant) for key in node.keys):
        keys = [key.value for key in node.keys if isinstance(key, ast.Constant)]
        return dict(zip(keys, map(_value, node.values), strict=True))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        keywords = {each.arg: _value(each.value) for each in node.keywords if each.arg}
        parts = [_value(each) for each in node.args]
        if len(keywords) == len(node.keywords) and all(isinstance(each, dict) for each in parts):
            return {key: value for part in [*parts, keywords] for key, value in part.items()}
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(each) for each in node.elts]
    try:
        return ast.literal_eval(node)
    except (TypeError, ValueError):
        return ast.unparse(node)
