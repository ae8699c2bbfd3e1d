"""Figures of the results of .dev/gpu.py."""

from statistics import median
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from gfnet_dense.benchmark.report import series_styles

MIB = 2**-20


def draw_precisions(labelled: dict[str, dict[str, Any]]) -> Figure | None:
    """Draw time and extra memory over the size of images, a column for each precision.

    Args:
        labelled: Results of sweeps by their precision.

    Returns:
        The figure; None if nothing was measured.
    """
    labelled = {label: r for label, r in labelled.items() if any(c["records"] for c in r["cases"])}
    if not labelled:
        return None
    figure = Figure(figsize=(1.8 + 2.6 * len(labelled), 5.6), layout="constrained")
    axes = figure.subplots(2, len(labelled), sharex=True, sharey="row", squeeze=False)
    cases = [case for result in labelled.values() for case in result["cases"]]
    sizes = sorted({case["size"] for case in cases})
    styles = series_styles(list(dict.fromkeys(case["series"] for case in cases)))
    for column, (label, result) in zip(axes.T, labelled.items(), strict=True):
        column[0].set_title(label)
        column[1].set_xlabel("side of the image")
        for name, style in styles.items():
            done = sorted(
                (case["size"], case["records"][-1])
                for case in result["cases"]
                if case["series"] == name and case["records"]
            )
            x = [size for size, _ in done]
            column[0].plot(x, [1e3 * median(r["latencies"]) for _, r in done], label=name, **style)
            column[1].plot(x, [r["extra_memory"] * MIB for _, r in done], **style)
        for axis in column:
            axis.set_xscale("log")
            axis.set_xticks(sizes, [f"{size}" for size in sizes])
            axis.xaxis.set_minor_locator(NullLocator())
            axis.grid(alpha=0.3)
    for axis, label in zip(axes[:, 0], ("ms", "extra memory, MiB"), strict=True):
        axis.set(yscale="log", ylabel=label)
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.yaxis.set_minor_locator(NullLocator())
    handles = {line.get_label(): line for line in axes[0, 0].lines}
    figure.legend(handles=list(handles.values()), loc="outside right upper", frameon=False)
    return figure


def draw_shapes(result: dict[str, Any]) -> Figure | None:
    """Draw time and GPU memory over the size of the plan cache, a line for each number of shapes.

    Args:
        result: Results of a sweep of :func:`gpu_cases.run_shapes`.

    Returns:
        The figure, without memory if it was measured on a CPU; None if nothing was measured.
    """
    cases = [case for case in result.get("cases", []) if case["records"]]
    if not cases:
        return None
    panels = {"ms per batch": lambda record: 1e3 * median(record["latencies"])}
    if "plan_memory" in cases[0]["records"][-1]:
        panels["GPU memory of plans, MiB"] = lambda record: record["plan_memory"] * MIB
    figure = Figure(figsize=(2 + 4 * len(panels), 3.6), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    limits = list(dict.fromkeys(case["series"] for case in cases))  # "16 plans"
    styles = series_styles([f"{count} shapes" for count in sorted({c["size"] for c in cases})])
    for axis, (label, value) in zip(axes, panels.items(), strict=True):
        for name, style in styles.items():
            done = [case for case in cases if f"{case['size']} shapes" == name]
            x = [limits.index(case["series"]) for case in done]
            axis.plot(x, [value(case["records"][-1]) for case in done], label=name, **style)
        axis.set(xlabel="size of the cache of cuFFT's plans", ylabel=label)
        axis.set_xticks(range(len(limits)), [limit.split()[0] for limit in limits])
        axis.set_ylim(0, 1.05 * axis.get_ylim()[1])
        axis.grid(alpha=0.3)
    figure.legend(handles=axes[0].lines, loc="outside right upper", frameon=False)
    return figure
