"""What a sweep has measured, for people: tables, CSV, plots, growth with resolution."""

import csv
import math
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from gfnet_dense.utils import tables
from gfnet_dense.utils.tables import format_number
from gfnet_dense.visualization.figures import save_figure

from .mixers import EXPONENTS
from .sweep import OK

# Columns of the table: heading, and value of a row in the unit of the heading
COLUMNS: dict[str, Callable[[dict], float | None]] = {
    "ms": lambda row: _scaled(row, "latency", 1e3),
    "min": lambda row: _scaled(row, "latency_min", 1e3),
    "max": lambda row: _scaled(row, "latency_max", 1e3),
    "images/s": lambda row: row.get("images_per_second"),
    "extra MiB": lambda row: _scaled(row, "extra_memory", 2**-20),
    "peak MiB": lambda row: _scaled(row, "peak_memory", 2**-20),
    "M params": lambda row: _scaled(row, "params", 1e-6),
    "M by formula": lambda row: _scaled(row, "params_formula", 1e-6),
    "GFLOPs": lambda row: _scaled(row, "flops", 1e-9),
    "G by formula": lambda row: _scaled(row, "flops_formula", 1e-9),
    "difference": lambda row: row.get("difference"),
    "difference of gradients": lambda row: row.get("gradient_difference"),
    "% backbone": lambda row: _scaled(row, "backbone", 100),
    "% neck": lambda row: _scaled(row, "neck", 100),
    "% heads": lambda row: _scaled(row, "heads", 100),
}
# Okabe and Ito's colors, which color-blind people can tell apart
OUR_COLORS = ("#D55E00", "#E69F00", "#CC79A7")
COLORS = ("#0072B2", "#009E73", "#56B4E9", "#000000")
OURS = ("GFNet", "global filter")
MARKERS = "osDv^<>ph*"


def summarize(results: dict, reference: str | None = None) -> list[dict]:
    """Return a row for each case, sorted by size and then by time.

    Args:
        results: Of :func:`.sweep.run_sweep`, whose records are those of :func:`.measure` and more.
        reference: The series to which others are compared.

    Returns:
        Rows with ``series``, ``size``, ``status`` and, where there are records, ``latency``, the
        median over all rounds, ``latency_min`` and ``latency_max`` (seconds),
        ``images_per_second``, ``ratio``, latency over the reference's at this size, the medians of
        ``extra_memory`` and ``peak_memory`` (bytes), and what else the last record tells.
    """
    rows = []
    for entry in results["cases"]:
        row = {key: entry[key] for key in ("series", "size", "status")}
        if records := entry["records"]:
            row |= {k: v for k, v in records[-1].items() if k not in ("latencies", "shares")}
            row |= records[-1].get("shares", {})
            latencies = [seconds for record in records for seconds in record["latencies"]]
            row["latency"] = median(latencies)
            row["latency_min"], row["latency_max"] = min(latencies), max(latencies)
            row["images_per_second"] = row["batch_size"] / row["latency"]
            for key in ("extra_memory", "peak_memory"):
                row[key] = median(record[key] for record in records)
        rows.append(row)
    references = {
        row["size"]: row["latency"]
        for row in rows
        if row["series"] == reference and "latency" in row
    }
    for row in rows:
        if "latency" in row and row["size"] in references:
            row["ratio"] = row["latency"] / references[row["size"]]
    return sorted(rows, key=lambda row: (row["size"], row.get("latency", math.inf)))


def present(results: dict) -> tuple[list[dict], str, Figure]:
    """Return rows, tables (Markdown) and plot of a sweep of mixers, backbones or a whole model.

    Args:
        results: Of :func:`.sweep.run_sweep`, with the subcommand as ``settings["command"]``.
    """
    is_mixers = results["settings"]["command"] == "mixers"
    reference, what = ("global filter", "tokens") if is_mixers else ("GFNet-H-Ti", "pixels")
    smallest, theory = (56, EXPONENTS) if is_mixers else (512, None)
    rows = summarize(results, reference)
    text = format_table(rows, reference)
    if ratios := format_ratios(rows, reference):
        text += f"\n\nTime over that of {reference}, by size:\n\n{ratios}"
    if growth := format_exponents(rows, smallest, math.inf, theory):
        text += f"\n\nTime grows as a power of the number of {what}:\n\n{growth}"
    return rows, text, draw_plot(rows, what)


def rank(rows: list[dict]) -> list[str]:
    """Return the series from fast to slow, at the largest size that all of them have reached.

    A series without any time is the last.
    """
    latencies = {row["series"]: {} for row in rows}
    for row in rows:
        if "latency" in row:
            latencies[row["series"]][row["size"]] = row["latency"]
    measured = [set(by_size) for by_size in latencies.values() if by_size]
    size = max(set.intersection(*measured), default=None) if measured else None
    return sorted(latencies, key=lambda series: latencies[series].get(size, math.inf))


def fit_exponent(rows: list[dict], series: str, smallest: float, largest: float) -> float:
    """Return p of latency ~ (size^2)^p by least squares, from ``smallest`` to ``largest``.

    Returns:
        nan with less than two sizes.
    """
    points = [
        (2 * math.log(row["size"]), math.log(row["latency"]))
        for row in rows
        if row["series"] == series and smallest <= row["size"] <= largest and "latency" in row
    ]
    if len(points) < 2:
        return math.nan
    return float(np.polyfit(*zip(*points, strict=True), deg=1)[0])


def format_table(rows: list[dict], reference: str | None = None) -> str:
    """Return the rows of :func:`summarize` as a Markdown table that is aligned as text, too."""
    columns = dict(COLUMNS)
    if len({row["series"] for row in rows}) > 1:
        columns[f"x {reference}"] = lambda row: row.get("ratio")
    values = {name: [value(row) for row in rows] for name, value in columns.items()}
    values = {name: column for name, column in values.items() if set(column) != {None}}
    lines = [["", "size", *values, "status"]]
    for i, row in enumerate(rows):
        cells = [format_number(column[i]) for column in values.values()]
        lines.append([row["series"], f"{row['size']:g}", *cells, row["status"]])
    return tables.format_table(lines)


def format_ratios(rows: list[dict], reference: str) -> str:
    """Return a Markdown table of latencies over the reference's, a row for each series, fast first.

    Args:
        rows: Of :func:`summarize`, with the same reference.
        reference: The series that is left out, as 1 everywhere.

    Returns:
        '' if nothing can be compared. Where a series has no time its status stands.
    """
    cells = {
        (row["series"], row["size"]): format_number(row.get("ratio")) or row["status"].split(":")[0]
        for row in rows
    }
    sizes = sorted({row["size"] for row in rows if "ratio" in row})
    others = [series for series in rank(rows) if series != reference]
    if not sizes or not others:
        return ""
    lines = [["", *(f"{size:g}" for size in sizes)]]
    lines += [[series, *(cells.get((series, size), "") for size in sizes)] for series in others]
    return tables.format_table(lines)


def format_exponents(
    rows: list[dict], smallest: float, largest: float, theory: dict[str, float] | None = None
) -> str:
    """Return a Markdown table of fitted exponents, series from fast to slow, '' if there are none.

    Args:
        rows: Of :func:`summarize`.
        smallest: Size from which exponents are fitted.
        largest: Size up to which they are.
        theory: Exponents to expect, by series.
    """
    lines = [["", "sizes", "fitted exponent", "in theory"]]
    for series in rank(rows):
        sizes = [
            row["size"]
            for row in rows
            if row["series"] == series and smallest <= row["size"] <= largest and "latency" in row
        ]
        if len(sizes) > 1:
            exponent = fit_exponent(rows, series, smallest, largest)
            expected = format_number((theory or {}).get(series))
            lines.append([series, f"{min(sizes):g} to {max(sizes):g}", f"{exponent:.2f}", expected])
    if len(lines) == 1:
        return ""
    return tables.format_table(lines if theory else [line[:-1] for line in lines])


def write_csv(rows: list[dict], path: Path) -> None:
    """Write the rows of :func:`summarize`, in seconds and bytes."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


def draw_plot(rows: list[dict], what: str) -> Figure:
    """Draw latency and extra memory over resolution, a line for each series, both axes log.

    Our own series are thick. A line that ended before the largest size has a cross at its end, and
    the legend, beside the plots, says why.

    Args:
        rows: Of :func:`summarize`.
        what: What is counted on the x axis: pixels, tokens.
    """
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    plots = {"latency": ("latency, ms", 1e3), "extra_memory": ("extra memory, MiB", 2**-20)}
    axes = figure.subplots(1, len(plots))
    sizes = sorted({row["size"] for row in rows})
    styles = _styles(sorted({row["series"] for row in rows}))
    for axis, (key, (label, factor)) in zip(axes, plots.items(), strict=True):
        for series, style in styles.items():
            points = [
                (row["size"] ** 2, factor * row[key])
                for row in rows
                if row["series"] == series and row.get(key, 0) > 0
            ]
            x, y = zip(*points, strict=True) if points else ((), ())
            end = next((r for r in rows if r["series"] == series and r["status"] != OK), None)
            name = series
            if end:
                name += f"\n({end['status'].split(':')[0]} at {end['size']:g})"
                axis.plot(x[-1:], y[-1:], "X", color=style["color"], markersize=11)
            axis.plot(x, y, label=name, gid=series, **style)
        axis.set(xlabel=f"{what} of a square", ylabel=label)
        if any(len(line.get_xdata()) for line in axis.lines):
            axis.set(xscale="log", yscale="log")
        axis.set_xticks([size**2 for size in sizes], [f"{size:g}²" for size in sizes])
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.grid(alpha=0.3)
    handles = {line.get_gid(): line for line in axes[0].lines if line.get_gid()}
    slow_first = [handles[series] for series in reversed(rank(rows))]
    figure.legend(handles=slow_first, loc="outside right upper", frameon=False)
    return figure


def _styles(names: list[str]) -> dict[str, dict]:
    """Return how the line of each series is drawn."""
    ours = [name for name in names if name.startswith(OURS)]
    others = [name for name in names if name not in ours]
    styles = {}
    for group, colors, width in ((ours, OUR_COLORS, 3), (others, COLORS, 1.5)):
        for i, name in enumerate(group):
            styles[name] = dict(
                color=colors[i % len(colors)],
                linestyle=("-", "--", ":")[i // len(colors) % 3],
                marker=MARKERS[len(styles) % len(MARKERS)],
                linewidth=width,
                markersize=5,
                zorder=3 if group is ours else 2,
            )
    return styles


def write_plot(figure: Figure, path: Path) -> None:
    """Save a figure as PNG and as SVG."""
    for suffix in (".png", ".svg"):
        save_figure(figure, path.with_suffix(suffix), dpi=150)


def _scaled(row: dict, key: str, factor: float) -> float | None:
    return row[key] * factor if key in row else None
