"""Tables of text."""


def align(lines: list[list[str]]) -> str:
    """Return a Markdown table of cells, heading first: names to the left, numbers to the right."""
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    rules = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    table = []
    for line in (lines[0], rules, *lines[1:]):
        name, *numbers = line
        cells = [text.rjust(width) for text, width in zip(numbers, widths[1:], strict=True)]
        table.append(" | ".join([f"| {name:{widths[0]}}", *cells]) + " |")
    return "\n".join(table)


def format_number(value: float | None) -> str:
    """Return a number with three digits: ``0.012``, ``1.23``, ``12345``, ``1.2e-07``."""
    if value is None:
        return ""
    if value == 0 or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}" if abs(value) >= 1e-3 else f"{value:.1e}"
