"""Upright things in a scene: buildings, trees, people, cars and things of class "other".

Each function paints one thing, or one row of things, on a canvas. Places are (x, z) in meters: x to
the right of the camera, z ahead of it. Heights and radii are in meters, too.
"""

from collections.abc import Callable

import cv2
import numpy as np

from .canvas import Canvas
from .shapes import DARK, RED, WHITE, Parts, area, bar, box, disc, parse_parts

_BARK = np.array([0.32, 0.25, 0.19], np.float32)


def _shadow(c: Canvas, x: float, z: float, rx: float, rz: float = 0.5) -> None:
    """Darken an ellipse on the ground, on the side of a thing that is away from the sun."""
    ring = disc(x - 0.5 * c.sun * rx, z, 1.3 * rx, rz)
    c.tint([c.project(ring[:, 0], ring[:, 1])], DARK * 0.5, 0.5, 0.06 * c.focal / z)


# ------------------------------------------------------------------------------ buildings and trees


def building(c: Canvas, x0: float, x1: float, z0: float, z1: float, height: float) -> None:
    """Paint a building as a box with roof: its front, and the side wall that faces the camera.

    Args:
        c: The canvas.
        x0: One side wall.
        x1: The opposite side wall.
        z0: Distance of the front.
        z1: Distance of the back.
        height: Height of the walls; a building below 9 m may have a gable.
    """
    x0, x1 = sorted((x0, x1))
    color, roof = c.color("building"), c.color("roof")
    glass = c.color("sky") * c.between(0.25, 0.7)
    side, middle, ridge = x0 if x0 > 0 else x1, (x0 + x1) / 2, height + c.between(1.5, 3.5)
    gable = height < 9 and c.chance(0.45)
    sunny, shady = (1.05, 0.75) if (side == x0) == (c.sun < 0) else (0.8, 1.05)
    c.brush("building", z0)
    if x0 > 0 or x1 < 0:
        _wall(c, (side, z0), (side, z1), height, color * sunny, glass)
        if gable:
            x, up = np.array([(side, middle, middle, side), (height, ridge, ridge, height)])
            c.fill([c.project(x, [z0, z0, z1, z1], up)], roof, c.fine)
    _wall(c, (x0, z0), (x1, z0), height, color * shady, glass)
    if gable:
        eaves = [bar(x, height, middle, ridge, 0.4) for x in (x0, x1)]
        parts = [("wall", shady, [area(x0, height, middle, ridge, x1, height)]), ("roof", 1, eaves)]
    elif height < 9:
        slope = area(x0 - 0.4, height, x1 + 0.4, height, x1 - 1, ridge, x0 + 1, ridge)
        chimney = box(middle + 1, ridge - 0.8, middle + 1.9, ridge + 0.9)
        parts = [("roof", 0.7, [chimney]), ("roof", 1, [slope])]
    else:
        parts = [("roof", 1, [box(x0 - 0.3, height, x1 + 0.3, height + 0.6)])]
    c.figure(0, z0, parts, wall=color, roof=roof)


def _wall(
    c: Canvas,
    a: tuple[float, float],
    b: tuple[float, float],
    height: float,
    color: np.ndarray,
    glass: np.ndarray,
) -> None:
    """Paint a wall between two places, with ledges, rows of windows and a door."""
    (xa, za), (xb, zb) = a, b

    def panels(
        u: float | np.ndarray, wide: float, low: float | np.ndarray, high: float
    ) -> np.ndarray:
        """Return rectangles on the wall as polygons in pixels, (N, 4, 2).

        Args:
            u: Position of the left edges along the wall, 0..1.
            wide: Width as a share of the wall.
            low: Height of the lower edges above the ground in meters.
            high: Height of the rectangles in meters.
        """
        u = np.reshape(u, (-1, 1)) + np.array([0, wide, wide, 0])
        up = np.reshape(low, (-1, 1)) + np.array([0, 0, high, high])
        return c.project(xa + u * (xb - xa), za + u * (zb - za), up)

    length = np.hypot(xb - xa, zb - za)
    floors, bays = max(1, int(height / 3)), max(1, int(length / 2.6))
    if za > 60:  # too far away for small windows
        floors, bays = -(-floors // 2), -(-bays // 2)
    storey = height / floors
    levels = np.arange(floors) * storey
    u, up = np.tile((np.arange(bays) + 0.25) / bays, floors), np.repeat(levels, bays)
    c.fill(panels(0, 1, 0, height), color, c.fine + 0.4 * c.clumps)
    c.fill(panels(0, 1, levels - 0.15, 0.25), color * 0.8)
    frames = panels(u - 0.05 / bays, 0.6 / bays, up + 0.25 * storey, 0.6 * storey)
    panes = panels(u, 0.5 / bays, up + 0.3 * storey, 0.5 * storey)
    lit = c.rng.random(len(panes)) < 0.2
    lit[0] = True  # at least one window, so that the polygons below are not empty
    c.fill(frames, color * 0.5 + 0.35)
    c.fill(panes, glass)
    c.fill(panes[lit], glass * 0.4 + WHITE * 0.5)
    c.fill(panels(0.5 - 0.7 / length, 1.4 / length, 0, 2.2), color * 0.35)


def skyline(c: Canvas, z: float) -> None:
    """Paint a row of buildings over the whole width of the view at a distance."""
    x, end = -c.view_width(z), c.view_width(z)
    while x < end:
        width = c.between(12, 26)
        building(c, x, x + 0.95 * width, z, z + 10, c.between(10, 34))
        x += width if c.chance(0.8) else 2 * width


def tree(c: Canvas, x: float, z: float) -> None:
    """Paint a tree: a trunk and either a round crown or the tiers of a conifer."""
    color, height = c.color("tree"), c.between(4.5, 9)
    _shadow(c, x, z, 0.22 * height, 1.2)
    c.brush("tree", z)
    c.figure(x, z, parse_parts("bark 1 area -.25,0 .25,0 .13,4 -.13,4"), bark=_BARK)
    crown = _conifer(height) if c.chance(0.3) else _crown(c, height)
    c.figure(x, z, crown, texture=c.leaves, leaf=color)


def _conifer(height: float) -> Parts:
    skirt = area(-0.26, 0.14, -0.13, 0.11, 0.13, 0.11, 0.26, 0.14, 0, 0.47) * height
    tiers = [skirt * (1 - 0.2 * tier, 1) + (0, 0.165 * height * tier) for tier in range(4)]
    return [("leaf", 0.65 + 0.1 * number, [tier]) for number, tier in enumerate(tiers)]


def _crown(c: Canvas, height: float) -> Parts:
    """Return a round crown: three layers of blobs, each lighter, smaller, nearer to the sun."""
    wide, tall, parts = height * c.between(0.2, 0.3), 0.22 * height, []
    for shade, lift, reach in ((0.62, 0.0, 1.0), (0.9, 0.05, 0.8), (1.2, 0.1, 0.6)):
        turn = reach * np.exp(1j * c.rng.uniform(0, 2 * np.pi, 8))
        size = np.array([wide, tall]) * reach
        center = np.array([2 * c.sun * lift * wide, (0.66 + lift) * height])
        blobs = [disc(0.75 * t.real, 0.9 * t.imag, 0.55, 0.6) for t in turn] + [disc(0, 0, 0.9, 1)]
        parts.append(("leaf", shade, [center + size * blob for blob in blobs]))
    return parts


def treeline(c: Canvas, z: float) -> None:
    """Paint a row of trees over the whole width of the view at a distance."""
    c.brush("tree", z)
    color = c.color("tree")
    parts: Parts = []
    for shade, top in ((0.75, 6), (1.0, 4)):
        xs: np.ndarray = np.arange(-c.view_width(z), c.view_width(z), 5.0)
        xs = xs[c.rng.random(len(xs)) < 0.85]
        crowns = [disc(x, 1.5, c.between(3, 5), c.between(0.5, 1) * top, 12) for x in xs]
        parts.append(("leaf", shade, crowns))
    c.figure(0, z, parts, texture=c.leaves, leaf=color)


# ---------------------------------------------------------------------------------- people and cars


def person(c: Canvas, x: float, z: float) -> None:
    """Paint a person with head, hair, torso, arms and legs, an adult or a child."""
    scale = c.between(1.0, 1.15) if c.chance(0.85) else c.between(0.65, 0.85)
    step, hand, hem = c.between(0.08, 0.32), c.between(0.35, 0.55), c.rng.choice([0.2, 0.2, 0.36])
    parts = parse_parts(f"""
        dark     1.0 bars  {step},.05 {step + 0.1},.05 .14
        trousers 0.8 bar   -.1,.85 -{step},.12 .23
        trousers 1.0 bar   .1,.85 {step},.12 .23
        trousers 1.0 area  -.2,1 .2,1 {hem},.5 -{hem},.5
        skin     1.0 discs {hand},.8 .07,.08
        shirt    .75 bars  .26,1.36 {hand},.88 .16
        shirt    1.0 area  -.3,1.4 -.2,1.47 .2,1.47 .3,1.4 .22,.8 -.22,.8
        skin     1.0 disc  0,1.64 .15,.18
        hair     1.0 disc  0,1.74 .17,.11
        hair     1.0 disc  -.1,1.68 .08,.15""")
    cloth = {part: c.color("cloth") for part in ("shirt", "trousers")}
    _shadow(c, x, z, 0.4 * scale, 0.35)
    c.brush("person", z, countable=True)
    size = scale * c.side(), scale
    c.figure(x, z, parts, size, skin=c.color("skin"), hair=c.color("hair"), **cloth)


_CAR_SIDE = parse_parts("""
    dark  1.0 box   -2,.25 2,.6
    body  1.0 area  -2.15,.35 -2.2,.85 -1.95,1 -1.5,1 -1.1,1.5 .5,1.5 1.15,1 1.95,.9 2.2,.7 2.2,.35
    glass 1.0 area  -1.35,1.03 -1,1.4 -.3,1.4 -.3,1.03
    glass 1.0 area  -.18,1.03 -.18,1.4 .42,1.4 .95,1.03
    body  .65 box   -2.17,.35 2.2,.52
    body  1.3 area  -1.95,.93 -1.95,.99 1.7,.96 1.7,.9
    dark  1.0 discs 1.32,.36 .38,.38
    white .75 discs 1.32,.36 .2,.2
    white 1.0 disc  2.1,.72 .12,.1
    red   1.0 disc  -2.12,.78 .1,.12""")
_CAR_END = parse_parts("""
    dark  1.0 boxs  .62,0 .9,.4
    body  1.0 area  -.92,.3 -.95,.85 -.82,1 -.64,1.5 .64,1.5 .82,1 .95,.85 .92,.3
    glass 1.0 area  -.7,1 -.55,1.4 .55,1.4 .7,1
    lamp  1.0 discs .72,.78 .16,.11
    white 1.0 box   -.3,.5 .3,.66
    dark  1.0 box   -.92,.28 .92,.42""")


def car(c: Canvas, x: float, z: float) -> None:
    """Paint a car or a van from the side, driving left or right."""
    size = c.side(), c.between(1, 1.12) if c.chance(0.7) else 1.3
    _shadow(c, x, z, 2.0, 0.8)
    c.brush("car", z, countable=True)
    c.figure(x, z, _CAR_SIDE, size, glass=_glass(c), body=c.color("car"))


def car_end(c: Canvas, x: float, z: float) -> None:
    """Paint a car from the front or the back, with the side that the camera sees."""
    body, glass = c.color("car"), _glass(c)
    (outline,) = next(shapes for name, _, shapes in _CAR_END if name == "body")
    ends = np.concatenate([c.cutout(outline, x, z), c.cutout(outline, x, z + 3.8)])
    flank = x - np.sign(x) * np.array([0.8, 0.68, 0.68, 0.8])  # the side that the camera sees
    window = c.project(flank, z + np.array([0.5, 0.9, 2.8, 3.2]), np.array([1, 1.4, 1.4, 1]))
    _shadow(c, x, z + 1.5, 1.1, 2.2)
    c.brush("car", z, countable=True)
    c.fill([cv2.convexHull(ends.astype(np.float32))[:, 0]], body * 0.75, c.fine)
    c.fill([window], glass * 0.8)
    c.figure(x, z, _CAR_END, body=body, glass=glass, lamp=RED if x > 0 else WHITE)


def _glass(c: Canvas) -> np.ndarray:
    return c.haze * c.between(0, 0.3) + 0.22


# ---------------------------------------------------------------------- things of the class "other"


def _other(name: str, drawing: str) -> Callable[[Canvas, float, float], None]:
    """Return a function that paints a figure in a bright color.

    Args:
        name: Its class, "other" on a canvas that has none of this name.
        drawing: Description of the figure, see :func:`parse_parts`.
    """
    parts = parse_parts(drawing)

    def draw(c: Canvas, x: float, z: float) -> None:
        c.brush(name, z, countable=name in c.index)
        c.figure(x, z, parts, bright=c.color("bright"))

    return draw


lamp = _other(
    "lamp",
    """
    dark   1.0 bar   0,0 0,5 .16
    dark   1.0 bar   0,5 1,5.2 .16
    white  1.0 disc  1.1,5.1 .35,.18""",
)
sign = _other(
    "sign",
    """
    dark   3.0 bar   0,0 0,2.2 .1
    bright 1.0 disc  0,2.4 .45,.45
    white  1.0 disc  0,2.4 .3,.3""",
)
boat = _other(
    "boat",
    """
    bright 1.0 area  -2.2,.8 2.4,.8 1.6,0 -1.8,0
    white  1.0 area  0,1 0,6 2,1.2
    white  .85 area  -.2,1 -.2,5.5 -1.6,1.2""",
)
balloon = _other(
    "balloon",
    """
    bright .60 area  -1.8,18 1.8,18 .6,15 -.6,15
    bright 1.0 disc  0,20 3,3
    bright 1.3 disc  0,20 1.8,3
    bright 0.9 disc  0,20 .75,3""",
)
