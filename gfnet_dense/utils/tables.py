"""Tables of text, for terminals and for Markdown pages."""

from collections.abc import Collection, Sequence
from io import StringIO
from typing import Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text


def format_table(
    rows: Sequence[Sequence[str]], markdown: bool = True, left: Collection[int] = (0,)
) -> str:
    """Return a text table with aligned columns.

    Args:
        rows: Rows of cells, all of the same length; the first row is the heading. Cells are printed
            as they are: rich's markup is not interpreted, Markdown's ``|`` is not escaped.
        markdown: Whether to return a Markdown table. If False, spaces separate the columns.
        left: Indices of the columns that are aligned to the left, such as names. All others are
            aligned to the right.

    Returns:
        The lines of the table, joined by newlines, without one at the end.
    """
    heading, *body = rows
    table = Table(box=box.MARKDOWN if markdown else None, pad_edge=markdown)
    for i, cell in enumerate(heading):
        justify: Literal["left", "right"] = "left" if i in left else "right"
        table.add_column(Text(cell), justify=justify, no_wrap=True, min_width=3)
    for row in body:
        table.add_row(*map(Text, row))
    output = StringIO()
    # Detected, a notebook would get the table instead of the file.
    Console(file=output, width=100_000, color_system=None, force_jupyter=False).print(table)
    lines = [line.rstrip() for line in output.getvalue().splitlines() if line.strip()]
    if markdown:  # rich does not write the colons that align columns to the right
        rules = lines[1].strip("|").split("|")
        rules = [rule if i in left else rule[:-1] + ":" for i, rule in enumerate(rules)]
        lines[1] = f"|{'|'.join(rules)}|"
    return "\n".join(lines)


def format_number(value: float | None) -> str:
    """Return a number as text, '' for None: ``12346``, ``1.23``, ``1.2e-07``.

    From 100 on it is rounded to an integer, else to three significant digits, below 0.001 to two.
    """
    if value is None:
        return ""
    if value == 0 or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}" if abs(value) >= 1e-3 else f"{value:.1e}"
