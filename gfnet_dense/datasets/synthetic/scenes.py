"""Synthetic outdoor scenes with exact labels, so that every config trains without data.

A scene is laid out in meters and seen through a pinhole camera. Sky, backdrop and strips of ground
are painted first, then the upright things, from far to near. Palettes of the classes overlap and
the light changes from scene to scene, so color alone does not tell the classes apart; shape,
texture and place do.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from .canvas import Canvas
from .shapes import WHITE, box, disc, mix, noise, planes
from .terrain import cross_line, drift, ground, lane_lines, pond
from .things import (
    balloon,
    boat,
    building,
    car,
    car_end,
    lamp,
    person,
    sign,
    skyline,
    tree,
    treeline,
)

ADE_INDEX: dict[str, int] = {
    "other": 0,
    "building": 2,
    "sky": 3,
    "tree": 5,
    "road": 7,
    "grass": 10,
    "sidewalk": 12,
    "person": 13,
    "earth": 14,
    "mountain": 17,
    "car": 21,
    "water": 22,
}

_ANYWHERE = (-400, 400)  # range of x in meters, wider than any view
_MIN_VISIBLE = 12  # smallest number of visible pixels of an annotated instance


@dataclass(frozen=True)
class Instance:
    """Person or car in a scene.

    Attributes:
        label: ADE20K class index, as in ``Scene.labels``.
        mask: (H, W) bool, True at its visible pixels.
    """

    label: int
    mask: np.ndarray


@dataclass(frozen=True)
class Scene:
    """Synthetic image with its annotations.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        labels: (H, W) uint8 ADE20K class indices, 0 for "other".
        instances: People and cars from far to near, with disjoint masks.
    """

    image: np.ndarray
    labels: np.ndarray
    instances: list[Instance]


def draw_scene(
    seed: int, height: int = 192, width: int = 256, index: Mapping[str, int] = ADE_INDEX
) -> Scene:
    """Generate the scene of a seed and a size; the same arguments give the same scene.

    Args:
        seed: Non-negative integer.
        height: Height in pixels, at least 64.
        width: Width in pixels, at least 64.
        index: Class index of each class: those of :data:`ADE_INDEX`, and further ones for what
            belongs to "other" there: "balloon", "boat", "lamp", "sign".

    Raises:
        ValueError: If the size is too small.
    """
    if height < 64 or width < 64:
        raise ValueError(f"a scene needs at least 64 x 64 pixels, got {height} x {width}")
    rng = np.random.default_rng(seed)
    canvas = Canvas(rng, height, width, index)
    kinds = (_street, _avenue, _country, _lake, _park)
    kinds[rng.integers(len(kinds))](canvas)
    canvas.draw_deferred()
    instances = [
        Instance(label, mask)
        for number, label in enumerate(canvas.countables, start=1)
        if np.count_nonzero(mask := canvas.owner == number) >= _MIN_VISIBLE
    ]
    return Scene(canvas.develop(), canvas.labels, instances)


# ------------------------------------------------------------------------------------- the backdrop


def _sky(c: Canvas) -> None:
    """Paint a sky over the whole image, lighter at the horizon, with clouds and perhaps a sun."""
    (height, width), top = c.size, c.color("sky")
    fade = (np.clip(np.arange(height) / c.horizon, 0, 1) ** 1.5).astype(np.float32)[:, None]
    clear = mix(top, c.haze, fade)
    cover = np.clip((c.noise(22, 60, 4) - c.between(-0.6, 1)) * 0.9, 0, 1) * c.between(0.3, 0.95)
    c.brush("sky")
    c.fill([box(-1, -1, width, height)], mix(clear, WHITE * c.between(0.75, 1.05), cover))
    if c.chance(0.3):
        x, y = c.between(0, width), c.between(0.1, 0.7) * c.horizon
        c.tint([disc(x, y, 9 * c.unit, 9 * c.unit)], WHITE, 0.9, c.unit)


def _mountains(c: Canvas) -> None:
    """Paint one to three mountain ranges, perhaps with snow, shaded by the slopes of noise."""
    field, step = c.noise(36, 22, 3), max(1, round(3 * c.unit))
    relief = np.clip((field - np.roll(field, (step, step * c.sun), (0, 1))) * 0.5, -0.4, 0.4)
    base, x = planes(c.color("mountain")), np.linspace(-5, c.size[1] + 5, 60)
    for layer in range(c.rng.integers(1, 4)):
        rise = np.abs(noise(c.rng, (1, 60), 1, 15 - 3 * layer, 4)[0])
        rise = np.clip(1.05 - 0.6 * rise, 0.3, 1)
        top = c.horizon * (1 - (0.8 - 0.22 * layer) * c.between(0.75, 1.05) * rise)
        line = np.quantile(top, 0.5) if layer == 0 and c.chance(0.5) else -c.size[0]
        snow = np.arange(c.size[0])[:, None] + 5 * c.unit * field < line
        c.brush("mountain", c.visibility * (0.7 - 0.25 * layer))
        foot = [(x[-1], c.horizon + 3), (x[0], c.horizon + 3)]
        outline = np.concatenate([np.stack([x, top], -1), foot])
        c.fill([outline], np.where(snow, planes(WHITE), base * (1 - 0.1 * layer)), relief)


def _stand(
    c: Canvas,
    draw: Callable[[Canvas, float, float], None],
    low: int,
    high: int,
    xs: tuple[float, float],
    zs: tuple[float, float],
) -> None:
    """Put things at random visible places, boats on water and all others on land.

    Args:
        c: The canvas.
        draw: Function that paints the thing at (x, z); it is deferred.
        low: Smallest number of things.
        high: Largest number of things, fewer if no place is found for some.
        xs: Range of x in meters.
        zs: Range of z in meters.
    """
    limit = np.array(c.size[::-1]) - 1
    for _ in range(c.rng.integers(low, high + 1)):
        for _ in range(6):  # attempts
            z = np.exp(c.between(*np.log(zs)))  # log-uniform, so that near things are not rare
            view = (np.array([0.03, 0.97]) * c.size[1] - c.vanish) * z / c.focal
            x = c.between(*np.clip(sorted(xs), *view))
            column, row = np.clip(c.project(x, z), 0, limit).astype(int)
            if (c.labels[row, column] == c.index["water"]) == (draw is boat):
                c.draw_later(z, draw, x, z)
                break


def _backdrop(c: Canvas, mountains: float, trees: float, city: float) -> None:
    """Paint the sky, and each by chance a balloon, mountains, a city and trees.

    Args:
        c: The canvas.
        mountains: Probability of mountains.
        trees: Probability of a row of trees.
        city: Probability of a row of buildings.
    """
    _sky(c)
    if c.chance(mountains):
        _mountains(c)
    _stand(c, balloon, 0, 1, _ANYWHERE, (60, 110))
    c.draw_deferred()
    if c.chance(city):
        skyline(c, c.between(90, 140))
    if c.chance(trees):
        treeline(c, c.between(70, 130))


# --------------------------------------------------------------------------------------- the scenes


def _street(c: Canvas) -> None:
    """Lay out a street that runs to the horizon between sidewalks and buildings."""
    _backdrop(c, mountains=0.6, trees=0.6, city=0.4)
    half, walk, shift = c.between(3.2, 4.5), c.between(2.2, 3.5), c.between(-2, 2)
    canal = c.side() if c.chance(0.45) else 0
    ground(c, "grass" if c.chance(0.5) else "earth")
    for side in (-1, 1):
        kerb, wall = shift + side * half, shift + side * (half + walk)
        ground(c, "sidewalk", kerb, wall)
        if side == canal:
            ground(c, "water", wall + side, wall + side * 40)
        start = c.between(11, 16)
        if side != canal:
            _house_row(c, side, wall, start)
        avenue = c.chance(0.6)
        for z in (13.0, 24.0, 38.0):
            c.draw_later(z, *((tree, wall, z) if avenue else (lamp, kerb + side * 0.3, z)))
        _stand(c, person, 2, 3, (kerb + side * 0.4, wall - side * 0.4), (7.5, 20))
    ground(c, "road", shift - half, shift + half)
    lane_lines(c, shift - half, shift + half)
    z = c.between(10, 14)
    while z < 42:
        c.draw_later(z, car_end, shift + c.side() * half / 2, z)
        z += c.between(5, 14)


def _house_row(c: Canvas, side: int, wall: float, z: float) -> None:
    """Lay out buildings and some trees along one side of a street, from ``z`` to the horizon."""
    while z < 110:
        end, inner = z + c.between(8, 15), wall + side * c.between(0, 2)
        if c.chance(0.75):
            height = c.between(5, 9) if c.chance(0.4) else c.between(9, 17)
            c.draw_later(z, building, inner, inner + side * c.between(8, 13), z, end, height)
        else:
            c.draw_later(z, tree, inner + side * 2, z)
        z = end + c.between(0, 5)


def _avenue(c: Canvas) -> None:
    """Lay out a street across the image, in front of a row of facades."""
    _backdrop(c, mountains=0.7, trees=0.7, city=0.3)
    front, kerb, near = c.between(24, 30), c.between(19, 22), c.between(10, 12)
    ground(c, "grass")
    ground(c, "sidewalk", z0=kerb, z1=front + 1)
    x, end = -c.view_width(front), c.view_width(front)
    while x < end:
        width = c.between(7, 13)
        if c.chance(0.6):
            height = c.between(4, 8) if c.chance(0.5) else c.between(8, 16)
            c.draw_later(front, building, x, x + width, front, front + 10, height)
        else:
            c.draw_later(front, tree, x + width / 2, front)
        x += width + c.between(0, 2)
    ground(c, "road", z0=near, z1=kerb)
    cross_line(c, (near * kerb) ** 0.5)
    ground(c, "sidewalk", z0=near - 1.6, z1=near)
    ground(c, c.rng.choice(["grass", "earth", "earth", "water", "water"]), z0=3, z1=near - 1.6)
    _stand(c, car, 1, 2, _ANYWHERE, (kerb - 2, kerb - 1))
    _stand(c, car, 1, 2, _ANYWHERE, (near + 1, near + 3))
    _stand(c, person, 2, 4, _ANYWHERE, (kerb + 0.5, front - 1))
    _stand(c, person, 2, 3, _ANYWHERE, (near - 1.5, near - 0.3))
    _stand(c, tree, 0, 2, _ANYWHERE, (kerb + 0.3, kerb + 1))
    _stand(c, sign if c.chance(0.5) else lamp, 1, 3, _ANYWHERE, (kerb + 0.2, kerb + 0.5))


def _country(c: Canvas) -> None:
    """Lay out a bending road between fields, farmhouses and trees."""
    _backdrop(c, mountains=0.85, trees=0.7, city=0)
    half, bend, side = c.between(2.8, 3.6), c.between(-5, 5), c.side()
    ground(c, "grass")
    for flank in (side, -side):
        edge, start = flank * c.between(4, 6), c.between(4, 8)
        ground(c, "earth", edge, edge + flank * 60, start, start * c.between(2.5, 5))
    if c.chance(0.55):
        start = c.between(15, 25)
        ground(c, "water", z0=start, z1=start * c.between(1.8, 2.6), wobble=0.6)
    ground(c, "road", -half, half, z1=150, bend=bend)
    lane_lines(c, -half, half, bend)
    for side in (-1, 1):
        _stand(c, tree, 2, 5, (5 * side, 60 * side), (13, 60))
        _stand(c, person, 1, 3, (side * (half + 0.6), side * (half + 5)), (7.5, 18))
    for _ in range(c.rng.integers(1, 4)):
        z, side = c.between(18, 45), c.side()
        x, deep = side * c.between(7, 12) + drift(bend, z), c.between(6, 12)
        c.draw_later(z, building, x, x + side * deep, z, z + deep, c.between(3.5, 7))
    for z in (c.between(9, 13), c.between(16, 22), c.between(25, 32))[: c.rng.integers(2, 4)]:
        c.draw_later(z, car_end, c.side() * half / 2 + drift(bend, z), z)
    _stand(c, sign, 0, 2, (half, half + 1), (10, 25))


def _lake(c: Canvas) -> None:
    """Lay out a lake under mountains, with a shore in front."""
    _backdrop(c, mountains=0.95, trees=0.6, city=0)
    far, near, shore = c.between(45, 90), c.between(10, 17), c.rng.integers(3)
    ground(c, "grass", z0=40)
    _stand(c, tree, 2, 5, _ANYWHERE, (far, far + 30))
    for x in c.rng.uniform(-60, 60, c.rng.integers(2, 6)):
        c.draw_later(far + 5, building, x, x + 10, far + 5, far + 12, c.between(4, 12))
    c.draw_deferred()  # the water mirrors only things that are painted before it
    ground(c, "water", z0=near - 2, z1=far, wobble=0.25)
    _stand(c, boat, 0, 2, _ANYWHERE, (near + 8, far - 5))
    c.draw_deferred()
    ground(c, "earth" if c.chance(0.8) else "grass", z0=4, z1=near, wobble=0.3)
    if shore == 0:
        ground(c, "sidewalk", z0=3, z1=near * 0.75)
    elif shore == 1:
        ground(c, "road", z0=near * 0.68, z1=near * 0.95)
        ground(c, c.rng.choice(["grass", "sidewalk"]), z0=3, z1=near * 0.64)
        _stand(c, car, 2, 3, _ANYWHERE, (near * 0.78, near * 0.9))
    else:
        ground(c, "grass", z0=3, z1=near * 0.6, wobble=0.4)
    _stand(c, person, 3, 6, _ANYWHERE, (7.5, near))
    _stand(c, tree, 0, 2, _ANYWHERE, (near * 0.85, near * 1.05))


def _park(c: Canvas) -> None:
    """Lay out lawns, a path, a pond and people, with a town behind."""
    _backdrop(c, mountains=0.5, trees=0.7, city=0.7)
    side, half, road = c.side(), c.between(1.2, 2.2), c.between(19, 24)
    ground(c, "grass")
    if c.chance(0.65):
        ground(c, "sidewalk", z0=road - 2, z1=road + 12)
        ground(c, "road", z0=road, z1=road + 10)
        _stand(c, car, 2, 4, _ANYWHERE, (road + 1, road + 5))
    for name, where in (("water", -side), ("earth", side)):
        if c.chance(0.8):
            x, z = where * c.between(4, 8), c.between(10, 14)
            pond(c, name, x, z, c.between(4, 7), c.between(3, 5))
    x = side * c.between(0, 3)
    ground(c, "sidewalk", x - half, x + half, z1=60, bend=side * c.between(2, 9))
    _stand(c, person, 4, 7, _ANYWHERE, (7.5, 20))
    _stand(c, tree, 3, 7, _ANYWHERE, (14, 45))
    _stand(c, lamp, 0, 2, _ANYWHERE, (9, 20))
