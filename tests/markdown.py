"""Reading what the tables say, whatever their columns are aligned like."""

import re


def read_table(text: str) -> list[list[str]]:
    """Return the cells of a Markdown table, the heading first, without the rule below it."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))] for line in lines]
    assert set("".join(rows[1])) <= set("-:"), rows[1]
    assert {len(row) for row in rows} == {len(rows[0])}
    return [rows[0], *rows[2:]]
