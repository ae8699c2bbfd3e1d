"""Curves of one or several training runs, from the logs that mmengine writes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.tables import format_number, format_table

from .curves import METRICS

Curve = dict[int, float]  # value by iteration


@dataclass
class Log:
    """What the logs of a run tell.

    Attributes:
        name: Of the run, for legend and table.
        loss: Of the training.
        metrics: In percent, by label.
    """

    name: str
    loss: Curve = field(default_factory=dict)
    metrics: dict[str, Curve] = field(default_factory=dict)


def read_log(path: Path) -> Log:
    """Read the logs below a folder, those of resumed runs one after the other.

    Args:
        path: A work directory of a training, or one ``scalars.json``.

    Raises:
        InputError: If there is no log, or none of a training.
    """
    files = [path] if path.is_file() else sorted(path.glob("**/vis_data/scalars.json"))
    if not files:
        raise InputError(
            f"{path} holds no logs of a training, TIME/vis_data/scalars.json: give the work "
            "directory of one"
        )
    log, ends = Log(_name_of(path.resolve())), {}
    for file in files:
        for line in file.read_text(errors="replace").splitlines():
            try:
                _add_entry(log, ends, json.loads(line))
            except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
                continue  # the last line of a run that was killed
    if not log.loss and not log.metrics:
        raise InputError(f"{files[0]} holds neither losses nor metrics")
    return log


def _name_of(path: Path) -> str:
    """Return the name of a run: that of its work directory."""
    work_dir = path.parents[min(2, len(path.parents) - 1)] if path.is_file() else path
    return work_dir.name


def _add_entry(log: Log, ends: dict[int, int], entry: dict) -> None:
    """Add a line of a log.

    Args:
        ends: The last iteration by epoch, kept from line to line.
    """
    step = int(entry["step"])
    if "loss" in entry:
        log.loss[step] = float(entry["loss"])
        if "epoch" in entry:
            ends[int(entry["epoch"])] = step
        return
    for name, (label, factor) in METRICS.items():
        value = entry.get(name.removeprefix("val/"))
        if value is not None:
            # Runs by epochs count validations in epochs.
            log.metrics.setdefault(label, {})[ends.get(step, step)] = float(value) * factor


def smooth(curve: Curve, share: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """Return iterations and the mean of the values around each, over a share of the curve."""
    steps = np.array(sorted(curve))
    values = np.array([curve[step] for step in steps])
    window = max(int(len(values) * share), 1)
    means = np.convolve(values, np.ones(window), mode="same")
    return steps, means / np.convolve(np.ones(len(values)), np.ones(window), mode="same")


def format_logs(logs: Sequence[Log]) -> str:
    """Return a Markdown table: iterations, last loss, best and last value of each metric."""
    labels = list(dict.fromkeys(label for log in logs for label in log.metrics))
    lines = [["run", "iterations", "loss"]]
    lines[0] += [text for label in labels for text in (f"best {label}", "at", f"last {label}")]
    for log in logs:
        last = max([*log.loss, *(s for curve in log.metrics.values() for s in curve)])
        loss = format_number(float(smooth(log.loss)[1][-1])) if log.loss else ""
        line = [log.name, str(last), loss]
        for label in labels:
            curve = log.metrics.get(label)
            if not curve:
                line += ["", "", ""]
                continue
            best = max(curve, key=curve.get)
            line += [f"{curve[best]:.2f}", str(best), f"{curve[max(curve)]:.2f}"]
        lines.append(line)
    return format_table(lines)


def draw_logs(logs: Sequence[Log]) -> Figure:
    """Draw losses and metrics of runs, a plot for each metric, a color for each run."""
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
