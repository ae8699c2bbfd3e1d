"""Report the results of a sweep: tables, CSV, plots, exponents of growth with resolution."""

import csv
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from gfnet_dense.utils import tables
from gfnet_dense.utils.tables import format_number
from gfnet_dense.visualization.figures import save_figure

from .mixers import EXPONENTS
from .sweep import OK

Row = dict[str, Any]  # a row of summarize(): one series at one size

# Columns of the table: the heading, and a function from a row to the value in the heading's unit
COLUMNS: dict[str, Callable[[Row], float | None]] = {
    "ms": lambda row: _scaled(row, "latency", 1e3),
    "min": lambda row: _scaled(row, "latency_min", 1e3),
    "max": lambda row: _scaled(row, "latency_max", 1e3),
    "compiled ms": lambda row: _scaled(row, "compiled", 1e3),
    "compile s": lambda row: row.get("compile_seconds"),
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
OURS = ("gfnet", "global filter")  # parts of the names of our own series, in small letters
MARKERS = "osDv^<>ph*"


def summarize(results: Mapping[str, Any], reference: str | None = None) -> list[Row]:
    """Return a row for each case, sorted by size and then by latency.

    Args:
        results: Results of :func:`.sweep.run_sweep`, with records of :func:`.measure.measure` that
            may hold more.
        reference: The series with which others are compared.

    Returns:
        Rows with ``series``, ``size`` and ``status``. Rows of cases that have records also hold
        ``latency`` (the median over all calls and rounds), ``latency_min`` and ``latency_max`` in
        seconds; ``images_per_second``; ``ratio``, the latency divided by that of the reference at
        the same size, if there is one; ``extra_memory`` and ``peak_memory``, medians over the
        rounds in bytes; and all other values of the last record.
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


def present(
    results: Mapping[str, Any], compiled: Mapping[str, Any] | None = None
) -> tuple[list[Row], str, Figure]:
    """Return rows, tables (Markdown) and plot of a sweep of mixers, backbones or a whole model.

    Args:
        results: Results of :func:`.sweep.run_sweep`; ``settings`` are those of the subcommand
            ``command`` of ``tools/benchmark.py`` that measured them.
        compiled: Results of the same command with ``--compile``, whose times get columns and a
            table of their own.
    """
    settings = results["settings"]
    reference, unit = "GFNet-H-Ti", "pixels"
    # Exponents are fitted from this size on: below it, time depends on overheads more than on size.
    smallest, theory = 512, None
    if settings["command"] == "mixers":
        reference, unit, smallest, theory = "global filter", "tokens", 56, EXPONENTS
    elif settings["command"] == "model":
        reference = Path(settings["config"]).stem
    rows = summarize(results, reference)
    others = [] if compiled is None else summarize(compiled, reference)
    text = format_table(join_compiled(rows, others), reference)
    for kind, some in (("", rows), (", all under torch.compile", others)):
        if ratios := format_ratios(some, reference):
            text += f"\n\nTime over that of {reference}{kind}, by size:\n\n{ratios}"
    if growth := format_exponents(rows, smallest, math.inf, theory):
        text += f"\n\nTime grows as a power of the number of {unit}:\n\n{growth}"
    text += f"\n\nMeasured on {describe_machine(results)}."
    return rows, text, draw_plot(rows, unit)


def describe_machine(results: Mapping[str, Any]) -> str:
    """Return processor, instruction set, threads and PyTorch of a sweep; on a GPU also its name.

    Files of earlier versions do not name the instruction set that PyTorch used.
    """
    machine, settings = results["machine"], results["settings"]
    on_gpu = str(settings.get("device", "cpu")).startswith("cuda")
    parts = [machine["gpu"]] if on_gpu and machine.get("gpu") else []
    parts.append(machine["cpu"])
    if "instructions" in machine:
        parts.append(machine["instructions"])
    threads = settings.get("threads") or machine["threads"]
    parts.append(f"{threads} thread{'s' if threads > 1 else ''} of {machine['cores']} cores")
    return ", ".join([*parts, f"PyTorch {machine['torch']}"])


def join_compiled(rows: list[Row], compiled: list[Row]) -> list[Row]:
    """Return rows of :func:`summarize` with the times of the same cases under torch.compile.

    Args:
        rows: Rows without torch.compile.
        compiled: Rows with it.

    Returns:
        ``rows``, to which ``compiled``, the latency in seconds, and ``compile_seconds`` are added,
        and to ``status`` that of a case that could not be compiled.
    """
    found = {(row["series"], row["size"]): row for row in compiled}
    joined = []
    for row in rows:
        other = found.get((row["series"], row["size"]), {})
        more = {"compile_seconds": other["compile_seconds"]} if "compile_seconds" in other else {}
        if "latency" in other:
            more["compiled"] = other["latency"]
        if other.get("status", OK) != OK:
            more["status"] = f"{row['status']}; compiled: {other['status']}"
        joined.append(row | more)
    return joined


def rank(rows: list[Row]) -> list[str]:
    """Return the series from fast to slow at the largest size at which all of them were measured.

    A series that was never measured comes last.
    """
    latencies: dict[str, dict[float, float]] = {row["series"]: {} for row in rows}
    for row in rows:
        if "latency" in row:
            latencies[row["series"]][row["size"]] = row["latency"]
    measured = [set(by_size) for by_size in latencies.values() if by_size]
    size = max(set.intersection(*measured), default=math.nan) if measured else math.nan
    return sorted(latencies, key=lambda series: latencies[series].get(size, math.inf))


def fit_exponent(rows: list[Row], series: str, smallest: float, largest: float) -> float:
    """Return p of latency ~ (size^2)^p, fitted by least squares to the logarithms.

    Args:
        rows: Rows of :func:`summarize`.
        series: The series for which p is fitted.
        smallest: Sizes below are left out.
        largest: Sizes above are left out.

    Returns:
        The exponent p, or nan with fewer than two sizes.
    """
    points = [
        (2 * math.log(row["size"]), math.log(row["latency"]))
        for row in rows
        if row["series"] == series and smallest <= row["size"] <= largest and "latency" in row
    ]
    if len(points) < 2:
        return math.nan
    x, y = zip(*points, strict=True)
    return float(np.polyfit(x, y, deg=1)[0])


def format_table(rows: list[Row], reference: str | None = None) -> str:
    """Return the rows of :func:`summarize` as a Markdown table, without columns that are empty."""
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


def format_ratios(rows: list[Row], reference: str) -> str:
    """Return a Markdown table of latencies divided by the reference's, with a row for each series.

    Args:
        rows: Rows of :func:`summarize`, with the same reference.
        reference: The series that is left out, since its ratio is 1.

    Returns:
        The table, series from fast to slow, with the status in place of a ratio that was not
        measured; an empty string if nothing can be compared.
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
    rows: list[Row], smallest: float, largest: float, theory: Mapping[str, float] | None = None
) -> str:
    """Return a Markdown table of the exponents of :func:`fit_exponent`, series from fast to slow.

    Args:
        rows: Rows of :func:`summarize`.
        smallest: Sizes below are left out.
        largest: Sizes above are left out.
        theory: Exponents that theory predicts, by series.

    Returns:
        The table; an empty string if no series has two sizes.
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


def write_csv(rows: list[Row], path: Path) -> None:
    """Write the rows of :func:`summarize` as CSV, in seconds and bytes."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


def draw_plot(rows: list[Row], unit: str) -> Figure:
    """Draw latency and extra memory over resolution on logarithmic axes, a line for each series.

    Our own series have thick lines. A line that ends before the largest size ends with a cross, and
    the legend states the reason.

    Args:
        rows: Rows of :func:`summarize`.
        unit: Unit of the x axis: ``pixels`` or ``tokens``.
    """
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    plots = {"latency": ("latency, ms", 1e3), "extra_memory": ("extra memory, MiB", 2**-20)}
    axes = figure.subplots(1, len(plots))
    sizes = sorted({row["size"] for row in rows})
    styles = series_styles(sorted({row["series"] for row in rows}))
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
        axis.set(xlabel=f"{unit} of a square", ylabel=label)
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


def series_styles(names: list[str]) -> dict[str, dict[str, Any]]:
    """Return the arguments of ``Axes.plot`` for the line of each series; ours are thick."""
    ours = [name for name in names if any(part in name.lower() for part in OURS)]
    others = [name for name in names if name not in ours]
    styles: dict[str, dict[str, Any]] = {}
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
    """Save a figure beside ``path`` as PNG and as SVG."""
    for suffix in (".png", ".svg"):
        save_figure(figure, path.with_suffix(suffix), dpi=150)


def _scaled(row: Row, key: str, factor: float) -> float | None:
    return row[key] * factor if key in row else None
