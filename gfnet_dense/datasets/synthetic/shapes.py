"""Shapes, noise and colors as arrays: pure functions to paint scenes with."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np

Polygons = Sequence[np.ndarray] | np.ndarray  # polygons, (N, 2) each: (x, y) of their corners
Share = float | np.floating | np.ndarray  # share of a color or image in a mixture, 0..1
# Parts of a figure: name of the color, factor of the brightness, polygons in meters.
Parts = list[tuple[str, float, list[np.ndarray]]]

DARK = np.array([0.13, 0.14, 0.16], np.float32)
WHITE = np.array([0.93, 0.92, 0.88], np.float32)
RED = np.array([0.8, 0.12, 0.1], np.float32)


def planes(color: np.ndarray) -> np.ndarray:
    """Return a color, (3,), as (3, 1, 1), which broadcasts with images; others are unchanged."""
    return color[:, None, None] if color.ndim == 1 else color


def mix(one: np.ndarray, other: np.ndarray, share: Share) -> np.ndarray:
    """Interpolate linearly between two colors or images.

    Args:
        one: Color, (3,), or image, (3, H, W).
        other: Color or image at ``share`` = 1.
        share: Number, or (H, W).
    """
    one, other = planes(one), planes(other)
    return one + share * (other - one)


def noise(
    rng: np.random.Generator,
    size: tuple[int, int],
    cell_y: float,
    cell_x: float,
    octaves: int = 1,
) -> np.ndarray:
    """Sample smooth noise, about of unit variance for one octave.

    Args:
        rng: Generator of the random numbers.
        size: (H, W) of the noise.
        cell_y: Rows from one random number to the next; cubic interpolation is in between.
        cell_x: Columns from one random number to the next.
        octaves: Number of layers that are added; each has half the cell size and half the strength
            of the layer before.

    Returns:
        (H, W) float32.
    """
    height, width = size
    total = np.zeros(size, np.float32)
    for fine in 2.0 ** np.arange(octaves):
        cells = [
            max(1, round(n / max(c / fine, 1))) for n, c in zip(size, (cell_y, cell_x), strict=True)
        ]
        grid = rng.standard_normal(cells, np.float32) / np.float32(fine)
        layer: np.ndarray = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        total += layer.reshape(size)
    return total


def box(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    """Return the corners of a rectangle with axis-aligned edges, (4, 2)."""
    return area(x0, y0, x1, y0, x1, y1, x0, y1)


def disc(x: float, y: float, rx: float, ry: float, steps: int = 16) -> np.ndarray:
    """Return points on the ellipse around (x, y) with radii rx and ry, (steps, 2)."""
    turn = np.exp(2j * np.pi / steps * np.arange(steps))
    return np.stack([x + rx * turn.real, y + ry * turn.imag], -1)


def bar(x0: float, y0: float, x1: float, y1: float, width: float) -> np.ndarray:
    """Return the outline of a bar between two points with pointed ends, (6, 2)."""
    a, b = np.array([x0, y0]), np.array([x1, y1])
    along = (b - a) / np.hypot(*(b - a)) * width / 2
    side = along[::-1] * (-1, 1)
    return np.stack([a + side, a - along, a - side, b - side, b + along, b + side])


def area(*numbers: float) -> np.ndarray:
    """Return the polygon with the corners x0, y0, x1, y1, ... as (N, 2)."""
    return np.reshape(numbers, (-1, 2))


def parse_parts(drawing: str) -> Parts:
    """Parse the description of a figure.

    Args:
        drawing: A line ``color shade shape numbers`` for each part, back to front. The shape is the
            name of a function (box, disc, bar or area), the numbers are its arguments in meters.
            An "s" at the end of the name (discs) adds the shape mirrored at x = 0.

    Returns:
        The parts, for :meth:`Canvas.figure`.
    """
    shapes: dict[str, Callable[..., np.ndarray]] = dict(box=box, disc=disc, bar=bar, area=area)
    parts: Parts = []
    for line in drawing.strip().splitlines():
        color, shade, kind, *numbers = line.replace(",", " ").split()
        shape = shapes[kind.rstrip("s")](*map(float, numbers))
        pair = [shape, shape * (-1, 1)] if kind.endswith("s") else [shape]
        parts.append((color, float(shade), pair))
    return parts
