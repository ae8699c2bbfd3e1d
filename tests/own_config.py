"""Configs for own data as docs/own_data.md says: a copy in which some lines are set."""

import re
from pathlib import Path

CONFIGS = Path(__file__).parents[1] / "configs"


def write_own_config(path, name, **lines):
    """Copy the config ``name`` to ``path``, set the values of lines, and return their number."""
    text = (CONFIGS / f"{name}.py").read_text()
    touched = 0
    for key, value in lines.items():
        line = f"{key} = {value!r}".replace("\\", r"\\")  # no escapes of a replacement
        text, number = re.subn(rf"^{key} = (?!classes or).*$", line, text, flags=re.MULTILINE)
        touched += number
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.replace('"./_base_', f'"{CONFIGS}/_base_'))
    return touched
