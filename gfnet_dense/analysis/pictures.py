"""Pictures of an analysis: matrices, curves, bars, maps of errors, and crops around objects."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from gfnet_dense.visualization.figures import save_figure

from .precision_recall import RECALLS

MAX_NUMBERS = 16  # classes up to which the cells of a matrix have their numbers written on them
MAX_CELLS = 32  # classes up to which a matrix is drawn, and not a list of the largest confusions
MAX_BARS = 25
MAX_CURVES = 12
MAX_NAME = 24  # characters of a class name in pictures
CROP = 320  # side of a crop, in pixels
CONTEXT = 0.5  # of a box's sides, shown around it on each side
WRONG, TRUE = (230, 30, 30), (0, 160, 70)  # RGB


def draw_confusions(
    matrix: np.ndarray, rows: Sequence[str], columns: Sequence[str], unit: str, path: Path
) -> None:
    """Draw a confusion matrix as shares of its rows, or the largest shares if it is large.

    Args:
        matrix: Counts, (R, C), integers; rows are true classes. Columns begin with the same classes
            in the same order.
        rows, columns: Names of rows and columns.
        unit: What is counted, in the plural.
        path: The PNG file to write.
    """
    totals = matrix.sum(1, keepdims=True)
    shares = np.where(totals > 0, matrix / np.maximum(totals, 1), np.nan)
    if max(matrix.shape) > MAX_CELLS:
        return _draw_largest(matrix, shares, rows, columns, unit, path)
    side = max(3.2, 0.55 * max(matrix.shape) if max(matrix.shape) <= MAX_NUMBERS else 8.5)
    figure = Figure(figsize=(side + 2.2, side + 1.4), layout="constrained")
    axis = figure.subplots()
    axis.set_facecolor("0.85")  # of rows without a pixel or an object
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    _name_ticks(axis, rows, columns)
    axis.set(xlabel="prediction", ylabel="truth")
    if max(matrix.shape) <= MAX_NUMBERS:
        for (r, c), share in np.ndenumerate(shares):
            if share == share:
                text = "0" if matrix[r, c] == 0 else f"{100 * share:.1f}"
                color = "white" if share > 0.6 else "0.65" if matrix[r, c] == 0 else "black"
                axis.text(c, r, text, ha="center", va="center", fontsize=8, color=color)
    bar = figure.colorbar(image, ax=axis, fraction=0.04, pad=0.02)
    bar.set_label("share of the row")
    save_figure(figure, path)


def describe_confusions(matrix: np.ndarray, unit: str) -> str:
    """Return a sentence on what :func:`draw_confusions` shows of a matrix.

    Args:
        matrix: Counts, (R, C), integers.
        unit: What is counted, in the plural.
    """
    if max(matrix.shape) > MAX_CELLS:
        return f"The pairs (truth → prediction) with the most {unit}, of {len(matrix)} classes."
    return f"Of all {unit} of a true class (a row), the share in % that is predicted as each class."


def _name_ticks(axis: Axes, rows: Sequence[str], columns: Sequence[str]) -> None:
    axis.set_yticks(range(len(rows)), [shorten(name) for name in rows], fontsize=8)
    axis.set_xticks(
        range(len(columns)), [shorten(name) for name in columns], fontsize=8, rotation=90
    )
    for label in [*axis.get_xticklabels(), *axis.get_yticklabels()]:
        label.set_parse_math(False)


def _draw_largest(
    matrix: np.ndarray,
    shares: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    unit: str,
    path: Path,
) -> None:
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:MAX_BARS]
    pairs = [(r, c) for r, c in zip(*np.unravel_index(order, wrong.shape), strict=True)]
    pairs = [pair for pair in pairs if wrong[pair]]
    names = [f"{shorten(rows[r])} → {shorten(columns[c])}" for r, c in pairs]
    notes = [f"{100 * shares[pair]:.1f} % of {shorten(rows[pair[0]])}" for pair in pairs]
    whole = max(int(matrix.sum()), 1)
    draw_bars([100 * wrong[pair] / whole for pair in pairs], names, notes, f"% of all {unit}", path)


def draw_bars(
    values: Sequence[float], names: Sequence[str], notes: Sequence[str], label: str, path: Path
) -> None:
    """Draw horizontal bars, from top to bottom.

    Args:
        values: Their lengths.
        names: Their names.
        notes: Texts at their ends.
        label: Name of the axis.
        path: The PNG file to write.
    """
    figure = Figure(figsize=(8.5, 0.8 + 0.3 * max(len(values), 1)), layout="constrained")
    axis = figure.subplots()
    bars = axis.barh(range(len(values)), values, color="tab:blue")
    axis.set_yticks(range(len(values)), names, fontsize=9)
    for text in [*axis.get_yticklabels(), *axis.bar_label(bars, notes, padding=3, fontsize=8)]:
        text.set_parse_math(False)
    axis.margins(x=0.3)
    axis.set_xlim(left=min(0, *values, 0))
    axis.invert_yaxis()
    axis.set_xlabel(label)
    axis.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)


def draw_precision_recall(
    means: Mapping[str, np.ndarray], classes: Mapping[str, np.ndarray], path: Path
) -> None:
    """Draw precision over recall: means over all classes left, single classes right.

    Args:
        means: Precision at 101 recalls 0..1, by name of the curve.
        classes: Likewise, by name of the class; the first MAX_CURVES are drawn.
        path: The PNG file to write.
    """
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    plots = figure.subplots(1, 2, sharey=True)
    drawn = dict(list(classes.items())[:MAX_CURVES])
    more = f", {len(drawn)} of {len(classes)}" if len(drawn) < len(classes) else ""
    titles = ("all classes", f"each class at IoU 0.5{more}")
    for axis, curves, title in zip(plots, (means, drawn), titles, strict=True):
        for i, (name, curve) in enumerate(curves.items()):
            style = ("-", "--")[i // 10 % 2]
            axis.plot(RECALLS, curve, style, label=f"{shorten(name)}: {100 * curve.mean():.1f}")
        axis.set(title=title, xlim=(0, 1), ylim=(0, 1.02), xlabel="recall")
        axis.grid(alpha=0.3)
        if curves:
            legend = axis.legend(title="AP, %", fontsize=8, frameon=False)
            for text in legend.get_texts():
                text.set_parse_math(False)
    plots[0].set_ylabel("precision")
    save_figure(figure, path)


def shorten(name: str) -> str:
    """Return a name that is at most MAX_NAME characters long."""
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"


def end_of(path: str, length: int) -> str:
    """Return the end of a path as text, at most ``length`` characters."""
    path = path.encode(errors="backslashreplace").decode()
    return path if len(path) <= length else f"…{path[1 - length :]}"


def some_of(names: Sequence[str], number: int = 8) -> str:
    """Return the first names, and dots if there are more than ``number``."""
    return ", ".join([*names[:number], *["…"] * (len(names) > number)])


def draw_error_map(image: np.ndarray, is_wrong: np.ndarray, ignored: np.ndarray) -> np.ndarray:
    """Return a pale gray picture of an image, with wrong pixels red and ignored ones black.

    Args:
        image: (H, W, 3), uint8, RGB.
        is_wrong: (H, W), bool.
        ignored: (H, W), bool.

    Returns:
        (H, W, 3), uint8, RGB.
    """
    gray = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    drawn = np.repeat((160 + 0.37 * gray[..., None]).astype(np.uint8), 3, axis=2)
    drawn[is_wrong] = WRONG
    drawn[ignored] = 0
    return drawn


class Outline(NamedTuple):
    """An object or a detection to draw.

    Attributes:
        box: x, y, width and height in pixels of the image.
        color: RGB.
        text: What is written at the box.
        mask: (H, W), bool, at the size of the image; None without.
    """

    box: np.ndarray
    color: tuple[int, int, int]
    text: str = ""
    mask: np.ndarray | None = None


def draw_crop(image: np.ndarray, center: np.ndarray, outlines: Sequence[Outline]) -> np.ndarray:
    """Return a square part of an image around a box, with outlines.

    Args:
        image: (H, W, 3), uint8, RGB.
        center: The box, x, y, width and height in pixels; it may reach beyond the image.
        outlines: Later ones are drawn over earlier ones.

    Returns:
        (CROP, CROP, 3), uint8, RGB; gray beyond the border of the image.
    """
    x, y, w, h = center
    side = max(1, min(round((1 + 2 * CONTEXT) * max(w, h, 16)), max(image.shape[:2])))
    left, top = (
        round(np.clip(start + (length - side) / 2, min(0, size - side), max(0, size - side)))
        for start, length, size in ((x, w, image.shape[1]), (y, h, image.shape[0]))
    )
    crop = _cut(image, left, top, side, 200)
    for outline in outlines:
        if outline.mask is not None:
            covered = _cut(outline.mask.astype(np.uint8), left, top, side, 0) > 0
            crop[covered] = (0.65 * crop[covered] + 0.35 * np.array(outline.color)).astype(np.uint8)
    picture = Image.fromarray(crop)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(14)
    for outline in outlines:
        x, y, w, h = outline.box
        corners = np.array([x - left, y - top, x + w - left, y + h - top]) * CROP / side
        x0, y0, x1, y1 = np.clip(corners, -8, 2 * CROP)
        draw.rectangle((x0, y0, max(x0, x1), max(y0, y1)), outline=outline.color, width=3)
        if outline.text:
            place = max(0.0, x0), max(0.0, y0 - 17)
            draw.rectangle(draw.textbbox(place, outline.text, font=font), fill=outline.color)
            draw.text(place, outline.text, fill="white", font=font)
    return np.asarray(picture)


def _cut(image: np.ndarray, left: int, top: int, side: int, fill: int) -> np.ndarray:
    """Return a square of an image at the size of a crop, filled where it reaches beyond it."""
    cut = np.full((side, side, *image.shape[2:]), fill, np.uint8)
    part = image[max(top, 0) : top + side, max(left, 0) : left + side]
    y, x = max(-top, 0), max(-left, 0)
    cut[y : y + part.shape[0], x : x + part.shape[1]] = part
    if image.ndim == 2:  # a mask
        return cv2.resize(cut, (CROP, CROP), interpolation=cv2.INTER_NEAREST)
    method = cv2.INTER_AREA if side > CROP else cv2.INTER_LINEAR
    return cv2.resize(cut, (CROP, CROP), interpolation=method)
