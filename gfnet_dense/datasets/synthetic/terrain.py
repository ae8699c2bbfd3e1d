"""The ground of a scene: strips of ground, water, and the marks on roads.

Places are (x, z) in meters: x to the right of the camera, z ahead of it.
"""

from typing import TypeVar

import numpy as np

from .canvas import Canvas
from .shapes import DARK, WHITE, disc, mix, noise

_Distance = TypeVar("_Distance", float, np.ndarray)


def drift(bend: float, z: _Distance) -> _Distance:
    """Return the sideways shift of a bending road at a distance.

    Args:
        bend: Shift at a distance of 30 m, in meters to the right.
        z: Distance or distances in meters.
    """
    return bend * (z / 30) ** 2


def ground(
    c: Canvas,
    name: str,
    x0: float = -400.0,
    x1: float = 400.0,
    z0: float = 4.0,
    z1: float = 900.0,
    bend: float = 0.0,
    wobble: float = 0.0,
) -> None:
    """Paint a strip of ground.

    Args:
        c: The canvas.
        name: Class of the ground.
        x0: One edge.
        x1: The opposite edge.
        z0: Distance of the near end.
        z1: Distance of the far end.
        bend: Sideways shift of the strip at a distance of 30 m, see :func:`drift`.
        wobble: Roughness of the near and the far end; 0 for straight ends. With rough ends the
            edges are straight lines between them.
    """
    z, across = np.geomspace(z0, z1, 24), np.linspace(x0, x1, 40)
    shift = drift(bend, z)
    rough = 1 + 0.35 * wobble * noise(c.rng, (2, 40), 1, 10, 3).clip(-1.2)
    far, near = c.project(across + shift[-1], z1 * rough[0]), c.project(across, z0 * rough[1])
    left, right = c.project(x0 + shift, z), c.project(x1 + shift, z)
    sides = [far, near[::-1]] if wobble else [left, far, right[::-1], near[::-1]]
    _cover(c, name, np.concatenate(sides), (z0 * z1) ** 0.5)


def pond(c: Canvas, name: str, x: float, z: float, rx: float, rz: float) -> None:
    """Paint a patch of ground with a rough elliptic outline, of any class of ground.

    Args:
        c: The canvas.
        name: Class of the ground.
        x: Center.
        z: Center.
        rx: Radius to the sides.
        rz: Radius in depth.
    """
    rim = disc(0, 0, 1, 1, 32) * (1 + 0.1 * noise(c.rng, (32, 1), 6, 1))
    _cover(c, name, c.project(x + rx * rim[:, 0], z + rz * rim[:, 1]), z)


def _cover(c: Canvas, name: str, outline: np.ndarray, z: float) -> None:
    """Fill an outline in pixels with a class of ground, in its color and texture.

    Args:
        c: The canvas.
        name: Class of the ground.
        outline: (N, 2) in pixels.
        z: Distance of its middle, for the haze.
    """
    color = c.color(name)
    soil = c.furrows if c.chance(0.5) else c.pebbles
    road = c.fine + 0.3 * c.clumps
    texture = dict(grass=c.blades, earth=soil, sidewalk=c.tiles, water=c.ripples, road=road)[name]
    if name == "water":  # a dark bank, and the mirror image of the image above the shore
        c.tint([outline], DARK, 0.5, 1.5 * c.unit)
        shore = int(np.clip(outline[:, 1].min(), 1, c.size[0] - 1))
        mirror = c.image[:, np.abs(2 * shore - np.arange(c.size[0])).clip(0, shore)]
        color = mix(color, mirror, np.clip(0.4 + c.ripples, 0.15, 0.7))
    c.brush(name, min(z, 40))
    c.fill([outline], color, texture)


def lane_lines(c: Canvas, x0: float, x1: float, bend: float = 0.0) -> None:
    """Paint the dashed middle line and the edge lines of a road that runs to the horizon."""
    c.brush("road", 15)
    dash = np.arange(5, 60, 5.0)[:, None] + (0, 0, 2.4, 2.4)
    middle = (x0 + x1) / 2 + np.array([-0.12, 0.12, 0.12, -0.12])
    marks = list(c.project(middle + drift(bend, dash), dash))
    away = np.geomspace(4, 200, 24)
    z = np.append(away, away[::-1])
    wide = np.repeat([0, 0.15], 24) + drift(bend, z)
    c.fill(marks + [c.project(edge + wide, z) for edge in (x0 + 0.3, x1 - 0.45)], WHITE * 0.9)


def cross_line(c: Canvas, z: float) -> None:
    """Paint the dashed middle line of a road that runs across the image."""
    c.brush("road", z)
    dash = np.arange(-60, 60, 4.0)[:, None] + (0, 2, 2, 0)
    c.fill(c.project(dash, z + np.array([-0.15, -0.15, 0.2, 0.2])), WHITE * 0.9)
