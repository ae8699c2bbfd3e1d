"""Comparing training runs by the logs that mmengine writes: curves and a table."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.tables import format_number, format_table

from .curves import METRICS

Curve = dict[int, float]  # values by iteration


@dataclass
class Log:
    """The curves of one training run.

    Attributes:
        name: Name of the run in legend and table.
        loss: Training loss.
        metrics: Validation metrics by label, in percent.
    """

    name: str
    loss: Curve = field(default_factory=dict)
    metrics: dict[str, Curve] = field(default_factory=dict)


def read_log(path: Path) -> Log:
    """Read the logs of a run from its work directory.

    A run that was resumed has several logs. They are read in the order of their time stamps, and
    for an iteration that occurs twice the later value counts.

    Args:
        path: Work directory of a training, or a single ``scalars.json``.

    Raises:
        InputError: If there is no log, or the logs have neither losses nor metrics.
    """
    files = [path] if path.is_file() else sorted(path.glob("**/vis_data/scalars.json"))
    if not files:
        raise InputError(
            f"{path} holds no logs of a training, TIME/vis_data/scalars.json: give the work "
            "directory of one"
        )
    log = Log(_name_of(path.resolve()))
    epoch_ends: dict[int, int] = {}
    for file in files:
        for line in file.read_text(errors="replace").splitlines():
            try:
                _add_entry(log, epoch_ends, json.loads(line))
            except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
                continue  # a run that was killed leaves an incomplete last line
    if not log.loss and not log.metrics:
        raise InputError(f"{files[0]} holds neither losses nor metrics")
    return log


def _name_of(path: Path) -> str:
    """Return the name of the work directory that is ``path`` or contains this scalars.json."""
    work_dir = path.parents[min(2, len(path.parents) - 1)] if path.is_file() else path
    return work_dir.name


def _add_entry(log: Log, epoch_ends: dict[int, int], entry: dict[str, Any]) -> None:
    """Add one entry of a log file to the curves.

    Args:
        log: The curves so far; modified in place.
        epoch_ends: Last iteration of each epoch so far; modified in place.
        entry: A parsed line of ``scalars.json``.
    """
    step = int(entry["step"])
    if "loss" in entry:
        log.loss[step] = float(entry["loss"])
        if "epoch" in entry:
            epoch_ends[int(entry["epoch"])] = step
        return
    for name, (label, factor) in METRICS.items():
        value = entry.get(name.removeprefix("val/"))
        if value is not None:
            # Runs that count in epochs give the epoch as the step of a validation.
            iteration = epoch_ends.get(step, step)
            log.metrics.setdefault(label, {})[iteration] = float(value) * factor


def smooth(curve: Curve, share: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """Return the iterations of a curve and its moving average.

    Args:
        curve: The curve.
        share: Width of the averaging window, as a fraction of the number of values. At both ends
            the average is over the part of the window that has values.

    Returns:
        Two arrays of equal length: iterations in ascending order, averages.
    """
    steps = np.array(sorted(curve))
    values = np.array([curve[step] for step in steps])
    window = max(int(len(values) * share), 1)
    means = np.convolve(values, np.ones(window), mode="same")
    return steps, means / np.convolve(np.ones(len(values)), np.ones(window), mode="same")


def format_logs(logs: Sequence[Log]) -> str:
    """Return a Markdown table of iterations, last smoothed loss, best and last metrics of runs."""
    labels = list(dict.fromkeys(label for log in logs for label in log.metrics))
    lines = [["run", "iterations", "loss"]]
    lines[0] += [text for label in labels for text in (f"best {label}", "at", f"last {label}")]
    for log in logs:
        last = max([*log.loss, *(step for curve in log.metrics.values() for step in curve)])
        loss = format_number(float(smooth(log.loss)[1][-1])) if log.loss else ""
        line = [log.name, str(last), loss]
        for label in labels:
            curve = log.metrics.get(label)
            if not curve:
                line += ["", "", ""]
                continue
            best = max(curve, key=curve.__getitem__)
            line += [f"{curve[best]:.2f}", str(best), f"{curve[max(curve)]:.2f}"]
        lines.append(line)
    return format_table(lines)


def draw_logs(logs: Sequence[Log]) -> Figure:
    """Draw losses and metrics of runs, with one plot for each metric and one color for each run."""
    labels = list(dict.fromkeys(label for log in logs for label in log.metrics))
    figure = Figure(figsize=(5 * (1 + len(labels)), 3.8), layout="constrained")
    loss, *others = figure.subplots(1, 1 + len(labels), squeeze=False)[0]
    for i, log in enumerate(logs):
        style = dict(color=f"C{i % 10}", linestyle=("-", "--", ":")[i // 10 % 3])
        if log.loss:
            steps, values = smooth(log.loss)
            loss.plot(steps, [log.loss[s] for s in steps], color=style["color"], alpha=0.2, lw=0.7)
            loss.plot(steps, values, **style)
        loss.plot([], [], label=log.name, **style)
        for axis, label in zip(others, labels, strict=True):
            if curve := log.metrics.get(label):
                axis.plot(sorted(curve), [curve[s] for s in sorted(curve)], marker="o", **style)
    loss.set(title="training loss, smoothed", ylim=(0, None))
    for axis, label in zip(others, labels, strict=True):
        axis.set_title(f"{label}, %")
    for axis in (loss, *others):
        axis.set_xlabel("iteration")
        axis.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure
