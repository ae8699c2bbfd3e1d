"""Tables of text, for terminals and for Markdown pages."""

from collections.abc import Collection, Sequence
from io import StringIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text


def format_table(
    rows: Sequence[Sequence[str]], markdown: bool = True, left: Collection[int] = (0,)
) -> str:
    """Return rows of cells as a table whose columns are aligned.

    Args:
        rows: Cells, all rows of the same length, the heading first. They are taken as they are:
            neither rich's markup nor Markdown's ``|`` is escaped.
        markdown: Markdown, which reads well as text, too; otherwise columns between spaces.
        left: Columns that are aligned to the left, such as names; all others to the right.

    Returns:
        Lines without an end of line at the end.
    """
    heading, *body = rows
    table = Table(box=box.MARKDOWN if markdown else None, pad_edge=markdown)
    for i, cell in enumerate(heading):
        justify = "left" if i in left else "right"
        table.add_column(Text(cell), justify=justify, no_wrap=True, min_width=3)
    for row in body:
        table.add_row(*map(Text, row))
    output = StringIO()
    Console(file=output, width=100_000, color_system=None).print(table)
    lines = [line.rstrip() for line in output.getvalue().splitlines() if line.strip()]
    if markdown:  # rich does not mark the columns that are aligned to the right
        rules = lines[1].strip("|").split("|")
        rules = [rule if i in left else rule[:-1] + ":" for i, rule in enumerate(rules)]
        lines[1] = f"|{'|'.join(rules)}|"
    return "\n".join(lines)


def format_number(value: float | None) -> str:
    """Return a number with three digits, such as ``1.23`` or ``1.2e-07``; '' for None."""
    if value is None:
        return ""
    if value == 0 or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}" if abs(value) >= 1e-3 else f"{value:.1e}"
