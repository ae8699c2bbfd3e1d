"""Synthetic outdoor scenes with exact labels, so that every config trains without data.

A scene is a small world in metres seen through a pinhole camera: a sky and a backdrop, strips of
ground running to the horizon, and upright things on them, painted from far to near. Palettes
overlap between the classes and the light changes from scene to scene, so colour alone does not
tell the classes apart; shape, texture and place do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

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

_MIN_VISIBLE = 12  # an instance with fewer visible pixels is not worth an annotation

# Neighbouring classes share colours on purpose.
_PALETTE: dict[str, str] = {
    "sky": "6fa8dc 9fc5e8 b0b8c0 d0d4d8 8a94a6 e0b890 4f86c6 a8a4b8",
    "building": "a9a6a0 8c4f3f c8b08a 7a6250 d8d4cc 6f8296 8a9870 b98a5e",
    "roof": "7a3b2e 5a5a60 6b4a38 8a8f96 4f5d48 3f4c5e",
    "tree": "3f6b35 56803c 2f5138 6a7a38 8a6234 5f7a5a 4a6a48",
    "grass": "5f8a45 7a9a4a 4a7040 9a9a58 7c8a4c 6f9468",
    "road": "6a6c70 8a8882 55585f 7c756c 98999c",
    "sidewalk": "a8a49c b8a088 8c8c90 c4bca8 a08070 94a0a4",
    "earth": "8a6a4a a88a5c 74583f 96826a 9c6a4c 98643c c0a880",
    "mountain": "7c8490 6a7a94 6f7f5e 86786a 94989c 56684f",
    "water": "4a7898 5f8f9c 6f8494 4f7a74 3f6488 6a8a94 84a4b8",
    "car": "b03a34 34589a d8d8d6 74787c 2f3236 4a7048 c8a040 7a98b4",
    "cloth": "b0433c 3a5a94 d0ccc0 3a3a40 c8a848 5a8050 8a6a4c 8a8e94",
    "skin": "e4bc9c c89470 96643f 6a4630",
    "hair": "2c2420 5a4030 a07c48 80807e",
    "bright": "d04838 e0b840 3c6cb8 e8e4dc a05098",
}
_DARK = np.float32([0.13, 0.14, 0.16])
_WHITE = np.float32([0.93, 0.92, 0.88])
_BARK = np.float32([0.32, 0.25, 0.19])
_RED = np.float32([0.8, 0.12, 0.1])


@dataclass(frozen=True)
class Instance:
    """A countable object.

    Attributes:
        label: ADE20K index, as in Scene.labels.
        mask: (H, W) bool, its visible pixels only.
    """

    label: int
    mask: np.ndarray


@dataclass(frozen=True)
class Scene:
    """A picture with its annotation.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        labels: (H, W) uint8, ADE20K indices with 0 for "other".
        instances: people and cars from far to near; their masks are disjoint.
    """

    image: np.ndarray
    labels: np.ndarray
    instances: list[Instance]


def draw_scene(seed: int, height: int = 192, width: int = 256) -> Scene:
    """Draws the scene that belongs to a seed and a size.

    Args:
        seed: any non-negative integer.
        height: rows, at least 64.
        width: columns, at least 64.

    Returns:
        A Scene; the same arguments always give the same one.
    """
    if height < 64 or width < 64:
        raise ValueError(f"a scene needs at least 64 x 64 pixels, got {height} x {width}")
    rng = np.random.default_rng(seed)
    canvas = Canvas(rng, height, width)
    kinds = (_street, _avenue, _country, _lake, _park)
    kinds[rng.integers(len(kinds))](canvas)
    canvas.finish()
    image = _develop(canvas.image, rng)
    instances = []
    for number, label in enumerate(canvas.things[1:], start=1):
        mask = canvas.owner == number
        if np.count_nonzero(mask) >= _MIN_VISIBLE:
            instances.append(Instance(label, mask))
    return Scene(image, canvas.labels, instances)


class Canvas:
    """A camera and its picture: colour, label and instance go through one mask, so they agree.

    Places are (x, z) in metres: x to the right of the camera, z ahead of it.
    """

    def __init__(self, rng: np.random.Generator, height: int, width: int) -> None:
        self.rng = rng
        self.size = height, width
        self.unit = min(height / 192, width / 256)
        self.image = np.zeros((3, height, width), np.float32)  # planes blend faster than pixels
        self.labels = np.zeros((height, width), np.uint8)
        self.owner = np.zeros((height, width), np.int32)
        self.things = [0]  # labels of the countable things; number 0 means "none"
        self.queue: list[tuple[float, Callable[[], None]]] = []
        self.horizon = height * rng.uniform(0.36, 0.5)
        self.vanish = width * rng.uniform(0.35, 0.65)
        self.focal = 240 * self.unit
        self.eye = 6 * (height - self.horizon) / self.focal  # the bottom row lies 6 m ahead
        self.sun = rng.choice([-1, 1])
        self.visibility = rng.uniform(100, 500)
        self.haze = self.colour("sky") * 0.5 + 0.4

        # Textures are relative changes of brightness, some of them laid out on the ground.
        rows = np.arange(height, dtype=np.float32)[:, None]
        scale = np.maximum((rows - self.horizon) / self.eye, 0.2)  # pixels per metre
        near = np.clip(scale / (15 * self.unit), 0.25, 1)
        x = (np.arange(width, dtype=np.float32) - self.vanish) / scale
        z = self.focal / scale
        slab = np.floor(x) + np.floor(z)
        joint = (x % 1 < 1.5 / scale) | (z % 1 < 1.5 * z / scale / self.eye)
        self.fine = 0.035 * self.noise(1.6, 1.6)
        self.clumps = 0.1 * self.noise(14, 14, 3)
        self.leaves = 0.17 * self.noise(3.5, 3.5, 2)
        self.tiles = self.fine + near * (0.08 * np.sin(7 * slab) - np.float32(0.3) * joint)
        self.blades = 0.11 * near * self.noise(7, 1.5, 2) + self.clumps
        self.furrows = 0.2 * near * np.sin(5 * x) + self.clumps + self.fine
        self.pebbles = 0.7 * self.clumps - 0.3 * near * (self.noise(2, 3) > 1.2) + self.fine
        waves = self.noise(2.5, 18, 2)
        self.ripples = 0.12 * waves + 0.35 * (waves > 1.5)

    def between(self, low: float, high: float) -> float:
        return self.rng.uniform(low, high)

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def side(self) -> int:
        return self.rng.choice([-1, 1])

    def noise(self, cell_y: float, cell_x: float, octaves: int = 1) -> np.ndarray:
        """Noise over the picture; cells are given in pixels of a 192 x 256 picture."""
        return _noise(self.rng, self.size, cell_y * self.unit, cell_x * self.unit, octaves)

    def colour(self, palette: str) -> np.ndarray:
        """Picks a colour of a palette and varies it a little: (3,) float32 in 0..1."""
        codes = _PALETTE[palette].split()
        code = codes[self.rng.integers(len(codes))]
        base = np.frombuffer(bytes.fromhex(code), np.uint8) / 255
        return np.float32(base * self.between(0.85, 1.12) + self.rng.normal(0, 0.025, 3))

    def project(self, x, z, up=0.0) -> np.ndarray:
        """Maps places in metres to pixels: broadcastable arrays to (..., 2) float."""
        scale = self.focal / np.asarray(z, float)
        across, down = self.vanish + x * scale, self.horizon + (self.eye - up) * scale
        return np.stack(np.broadcast_arrays(across, down), -1)

    def cutout(self, points: np.ndarray, x: float, z: float) -> np.ndarray:
        """Stands a flat figure at a place: (N, 2) metres right and up to pixels."""
        return self.project(x + points[:, 0], z, points[:, 1])

    def later(self, z: float, draw: Callable, *args) -> None:
        """Keeps draw(canvas, *args) until finish, which paints from far to near."""
        self.queue.append((z, partial(draw, self, *args)))

    def finish(self) -> None:
        for _, draw in sorted(self.queue, key=lambda item: -item[0]):
            draw()
        self.queue.clear()

    def brush(self, name: str, z: float = 0.0, countable: bool = False) -> None:
        """Sets the class, the distance (for the haze) and the instance of what comes next."""
        self.label = ADE_INDEX[name]
        self.fog = 0.85 * (1 - np.exp(-z / self.visibility))
        self.thing = len(self.things) if countable else 0
        if countable:
            self.things.append(self.label)

    def fill(self, shapes: Sequence[np.ndarray], colour: np.ndarray, texture=None) -> None:
        """Paints the union of pixel polygons with a colour, (3,) or (3, H, W), and the brush."""
        haze = self.haze if colour.ndim == 1 else self.haze[:, None, None]
        mask = self._blend(shapes, colour + self.fog * (haze - colour), texture)
        inside = mask > 127
        self.labels[self.area][inside] = self.label
        self.owner[self.area][inside] = self.thing

    def tint(self, shapes: Sequence[np.ndarray], colour, opacity: float, blur: float = 0) -> None:
        """Washes a colour over pixel polygons and leaves the labels as they are."""
        self._blend(shapes, colour, None, opacity, blur)

    def _blend(self, shapes, colour, texture, opacity: float = 1.0, blur: float = 0):
        points, pad = np.concatenate(shapes), 2 + 2 * blur
        limit = self.size[::-1]
        x0, y0 = np.clip(points.min(0) - pad, 0, limit).astype(int)
        x1, y1 = np.clip(points.max(0) + pad + 1, 0, limit).astype(int)
        self.area = area = np.s_[y0:y1, x0:x1]
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        if mask.size:
            for shape in shapes:
                corners = np.rint((shape - (x0, y0)) * 16).astype(np.int32)
                cv2.fillPoly(mask, [corners], 255, cv2.LINE_AA, 4)
            mask = cv2.GaussianBlur(mask, (0, 0), blur) if blur else mask
            colour = colour[:, None, None] if colour.ndim == 1 else colour[:, y0:y1, x0:x1]
            if texture is not None:
                colour = colour * (1 + texture[area])
            below = self.image[:, y0:y1, x0:x1]
            below += (mask * np.float32(opacity / 255)) * (colour - below)
        return mask


def _noise(rng, size, cell_y: float, cell_x: float, octaves: int = 1) -> np.ndarray:
    """Smooth noise of about unit variance with cells of cell_y x cell_x samples."""
    (height, width), total = size, np.zeros(size, np.float32)
    for fine in 2.0 ** np.arange(octaves):
        cells = [
            max(1, round(n / max(c / fine, 1))) for n, c in zip(size, (cell_y, cell_x), strict=True)
        ]
        grid = rng.standard_normal(cells, np.float32) / np.float32(fine)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC).reshape(size)
    return total


def _box(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])


def _disc(x: float, y: float, rx: float, ry: float, steps: int = 16) -> np.ndarray:
    turn = np.exp(2j * np.pi / steps * np.arange(steps))
    return np.stack([x + rx * turn.real, y + ry * turn.imag], -1)


def _bar(x0: float, y0: float, x1: float, y1: float, width: float) -> np.ndarray:
    """A bar between two points with bevelled ends."""
    a, b = np.array([x0, y0]), np.array([x1, y1])
    along = (b - a) / np.hypot(*(b - a)) * width / 2
    side = along[::-1] * (-1, 1)
    return np.stack([a + side, a - along, a - side, b - side, b + along, b + side])


def _area(*numbers: float) -> np.ndarray:
    return np.reshape(numbers, (-1, 2))


def _art(drawing: str) -> list[tuple[str, float, list[np.ndarray]]]:
    """Parses lines of "colour shade shape numbers", in metres; an "s" mirrors a shape: discs."""
    shapes, parts = {"box": _box, "disc": _disc, "bar": _bar, "area": _area}, []
    for line in drawing.strip().splitlines():
        colour, shade, kind, *numbers = line.replace(",", " ").split()
        shape = shapes[kind.rstrip("s")](*map(float, numbers))
        pair = [shape, shape * (-1, 1)] if kind.endswith("s") else [shape]
        parts.append((colour, float(shade), pair))
    return parts


def _develop(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Time of day, exposure and sensor: (3, H, W) float32 in 0..1 to (H, W, 3) uint8."""
    grey = image.mean(0)
    image = grey + np.float32(rng.uniform(0.65, 1.2)) * (image - grey)
    warm, green = rng.normal(0, 0.07), rng.normal(0, 0.02)
    cast = np.float32([1 + warm, 1 + green, 1 - warm]) * np.float32(rng.uniform(0.72, 1.15))
    image = np.clip(image * cast[:, None, None], 0, 1) ** np.float32(rng.uniform(0.8, 1.25))
    image += rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(0.006, 0.016))
    return np.ascontiguousarray(np.rint(image.clip(0, 1) * 255).astype(np.uint8).transpose(1, 2, 0))


# ---------------------------------------------------------------------------- backdrop and ground


def _sky(c: Canvas) -> None:
    """Sky over the whole picture, lighter at the horizon, with clouds and perhaps the sun."""
    (height, width), top = c.size, c.colour("sky")[:, None, None]
    fall = np.float32(np.clip(np.arange(height) / c.horizon, 0, 1) ** 1.5)[:, None]
    colour = top + fall * (c.haze[:, None, None] - top)
    cover = np.clip((c.noise(22, 60, 4) - c.between(-0.6, 1)) * 0.9, 0, 1) * c.between(0.3, 0.95)
    colour = colour + cover * (_WHITE[:, None, None] * c.between(0.75, 1.05) - colour)
    c.brush("sky")
    c.fill([_box(-1, -1, width, height)], colour)
    if c.chance(0.3):
        x, y = c.between(0, width), c.between(0.1, 0.7) * c.horizon
        c.tint([_disc(x, y, 9 * c.unit, 9 * c.unit)], _WHITE, 0.9, c.unit)


def _mountains(c: Canvas) -> None:
    """One to three ranges, perhaps with snow; their relief is the slope of a noise field."""
    field, step = c.noise(36, 22, 3), max(1, round(3 * c.unit))
    relief = np.clip((field - np.roll(field, (step, step * c.sun), (0, 1))) * 0.5, -0.4, 0.4)
    base, x = c.colour("mountain")[:, None, None], np.linspace(-5, c.size[1] + 5, 60)
    for layer in range(c.rng.integers(1, 4)):
        rise = np.abs(_noise(c.rng, (1, 60), 1, 15 - 3 * layer, 4)[0])
        rise = np.clip(1.05 - 0.6 * rise, 0.3, 1)
        top = c.horizon * (1 - (0.8 - 0.22 * layer) * c.between(0.75, 1.05) * rise)
        line = np.quantile(top, 0.5) if layer == 0 and c.chance(0.5) else -c.size[0]
        snow = np.arange(c.size[0])[:, None] + 5 * c.unit * field < line
        c.brush("mountain", c.visibility * (0.7 - 0.25 * layer))
        foot = [(x[-1], c.horizon + 3), (x[0], c.horizon + 3)]
        outline = np.concatenate([np.stack([x, top], -1), foot])
        c.fill([outline], np.where(snow, _WHITE[:, None, None], base * (1 - 0.1 * layer)), relief)


def _ground(c: Canvas, name: str, x0=-400.0, x1=400.0, z0=4.0, z1=900.0, bend=0.0, wobble=0.0):
    """Covers x0..x1, z0..z1; bend curves it to a side, wobble roughens its far and near ends."""
    z, across = np.geomspace(z0, z1, 24), np.linspace(x0, x1, 40)
    shift = bend * (z / 30) ** 2
    rough = 1 + 0.35 * wobble * _noise(c.rng, (2, 40), 1, 10, 3).clip(-1.2)
    far, near = c.project(across + shift[-1], z1 * rough[0]), c.project(across, z0 * rough[1])
    left, right = c.project(x0 + shift, z), c.project(x1 + shift, z)
    sides = [far, near[::-1]] if wobble else [left, far, right[::-1], near[::-1]]
    _cover(c, name, np.concatenate(sides), (z0 * z1) ** 0.5)


def _pond(c: Canvas, name: str, x: float, z: float, rx: float, rz: float) -> None:
    rim = _disc(0, 0, 1, 1, 32) * (1 + 0.1 * _noise(c.rng, (32, 1), 6, 1))
    _cover(c, name, c.project(x + rx * rim[:, 0], z + rz * rim[:, 1]), z)


def _cover(c: Canvas, name: str, outline: np.ndarray, z: float) -> None:
    """Fills an outline on the ground with a class and the texture that belongs to it."""
    colour = c.colour(name)
    soil = c.furrows if c.chance(0.5) else c.pebbles
    road = c.fine + 0.3 * c.clumps
    texture = dict(grass=c.blades, earth=soil, sidewalk=c.tiles, water=c.ripples, road=road)[name]
    if name == "water":  # a dark bank, and the mirror image of what stands behind
        c.tint([outline], _DARK, 0.5, 1.5 * c.unit)
        shore = int(np.clip(outline[:, 1].min(), 1, c.size[0] - 1))
        mirror = c.image[:, np.abs(2 * shore - np.arange(c.size[0])).clip(0, shore)]
        wave = np.clip(0.4 + c.ripples, 0.15, 0.7)
        colour = colour[:, None, None] + wave * (mirror - colour[:, None, None])
    c.brush(name, min(z, 40))
    c.fill([outline], colour, texture)


def _lines(c: Canvas, x0: float, x1: float, bend: float = 0.0) -> None:
    """Lane markings of a road that runs to the horizon."""
    c.brush("road", 15)
    dash = np.arange(5, 60, 5.0)[:, None] + (0, 0, 2.4, 2.4)
    middle = (x0 + x1) / 2 + np.array([-0.12, 0.12, 0.12, -0.12])
    marks = list(c.project(middle + bend * (dash / 30) ** 2, dash))
    there = np.geomspace(4, 200, 24)
    z = np.append(there, there[::-1])
    wide = np.repeat([0, 0.15], 24) + bend * (z / 30) ** 2
    c.fill(marks + [c.project(edge + wide, z) for edge in (x0 + 0.3, x1 - 0.45)], _WHITE * 0.9)


# ------------------------------------------------------------------------------- upright things


def _figure(c: Canvas, x: float, z: float, art: list, size=(1.0, 1.0), **colours) -> None:
    """Paints the parts of a drawing one over the other."""
    colours = {"dark": _DARK, "white": _WHITE, "red": _RED, "bark": _BARK} | colours
    for name, shade, shapes in art:
        c.fill([c.cutout(shape * size, x, z) for shape in shapes], colours[name] * shade, c.fine)


def _shadow(c: Canvas, x: float, z: float, rx: float, rz: float = 0.5) -> None:
    ring = _disc(x - 0.5 * c.sun * rx, z, 1.3 * rx, rz)
    c.tint([c.project(ring[:, 0], ring[:, 1])], _DARK * 0.5, 0.5, 0.06 * c.focal / z)


def _wall(c: Canvas, a: tuple, b: tuple, height: float, colour, glass) -> None:
    """A wall between two places, with ledges, rows of windows and a door."""
    (xa, za), (xb, zb) = a, b

    def panels(u, wide, low, high):  # along in 0..1, up in metres -> N polygons of pixels
        u = np.reshape(u, (-1, 1)) + np.array([0, wide, wide, 0])
        up = np.reshape(low, (-1, 1)) + np.array([0, 0, high, high])
        return c.project(xa + u * (xb - xa), za + u * (zb - za), up)

    length = np.hypot(xb - xa, zb - za)
    floors, bays = max(1, int(height / 3)), max(1, int(length / 2.6))
    if za > 60:  # too far away for small windows
        floors, bays = -(-floors // 2), -(-bays // 2)
    storey = height / floors
    u = np.tile((np.arange(bays) + 0.25) / bays, floors)
    up = np.repeat(np.arange(floors), bays) * storey
    c.fill(panels(0, 1, 0, height), colour, c.fine + 0.4 * c.clumps)
    c.fill(panels(np.zeros(floors), 1, np.arange(floors) * storey - 0.15, 0.25), colour * 0.8)
    frames = panels(u - 0.05 / bays, 0.6 / bays, up + 0.25 * storey, 0.6 * storey)
    panes = panels(u, 0.5 / bays, up + 0.3 * storey, 0.5 * storey)
    lit = c.rng.random(len(panes)) < 0.2
    lit[0] = True  # there is always someone at home
    c.fill(frames, colour * 0.5 + 0.35)
    c.fill(panes, glass)
    c.fill(panes[lit], glass * 0.4 + _WHITE * 0.5)
    c.fill(panels(0.5 - 0.7 / length, 1.4 / length, 0, 2.2), colour * 0.35)


def _building(c: Canvas, x0: float, x1: float, z0: float, z1: float, height: float) -> None:
    """A box seen from the front and from the side that faces the camera, with a roof."""
    x0, x1 = sorted((x0, x1))
    colour, roof = c.colour("building"), c.colour("roof")
    glass = c.colour("sky") * c.between(0.25, 0.7)
    side, middle, ridge = x0 if x0 > 0 else x1, (x0 + x1) / 2, height + c.between(1.5, 3.5)
    gable = height < 9 and c.chance(0.45)
    sunny, shady = (1.05, 0.75) if (side == x0) == (c.sun < 0) else (0.8, 1.05)
    c.brush("building", z0)
    if x0 > 0 or x1 < 0:
        _wall(c, (side, z0), (side, z1), height, colour * sunny, glass)
        if gable:
            slope = _area(side, height, middle, ridge, middle, ridge, side, height)
            c.fill([c.project(slope[:, 0], [z0, z0, z1, z1], slope[:, 1])], roof, c.fine)
    _wall(c, (x0, z0), (x1, z0), height, colour * shady, glass)
    if gable:
        eaves = [_bar(x, height, middle, ridge, 0.4) for x in (x0, x1)]
        art = [("wall", shady, [_area(x0, height, middle, ridge, x1, height)]), ("roof", 1, eaves)]
    elif height < 9:
        slope = _area(x0 - 0.4, height, x1 + 0.4, height, x1 - 1, ridge, x0 + 1, ridge)
        chimney = _box(middle + 1, ridge - 0.8, middle + 1.9, ridge + 0.9)
        art = [("roof", 0.7, [chimney]), ("roof", 1, [slope])]
    else:
        art = [("roof", 1, [_box(x0 - 0.3, height, x1 + 0.3, height + 0.6)])]
    _figure(c, 0, z0, art, wall=colour, roof=roof)


def _tree(c: Canvas, x: float, z: float) -> None:
    """A trunk under a crown of leafy blobs, or a conifer in tiers."""
    colour, height = c.colour("tree"), c.between(4.5, 9)
    _shadow(c, x, z, 0.22 * height, 1.2)
    c.brush("tree", z)
    _figure(c, x, z, _art("bark 1 area -.25,0 .25,0 .13,4 -.13,4"))
    layers = []
    if c.chance(0.3):
        skirt = _area(-0.26, 0.14, -0.13, 0.11, 0.13, 0.11, 0.26, 0.14, 0, 0.47) * height
        for tier in range(4):
            place = skirt * (1 - 0.2 * tier, 1) + (0, 0.165 * height * tier)
            layers.append((0.65 + 0.1 * tier, [place]))
    else:
        wide, tall = height * c.between(0.2, 0.3), 0.22 * height
        for shade, lift, reach in ((0.62, 0.0, 1.0), (0.9, 0.05, 0.8), (1.2, 0.1, 0.6)):
            turn = reach * np.exp(1j * c.rng.uniform(0, 2 * np.pi, 8))
            size = np.array([wide, tall]) * reach
            centre = np.array([2 * c.sun * lift * wide, (0.66 + lift) * height])
            blobs = [centre + size * _disc(0.75 * t.real, 0.9 * t.imag, 0.55, 0.6) for t in turn]
            layers.append((shade, blobs + [centre + size * _disc(0, 0, 0.9, 1)]))
    for shade, blobs in layers:
        c.fill([c.cutout(blob, x, z) for blob in blobs], colour * shade, c.leaves)


def _treeline(c: Canvas, z: float) -> None:
    """A wood at the horizon."""
    c.brush("tree", z)
    colour, half = c.colour("tree"), c.size[1] / c.focal * z
    for shade, top in ((0.75, 6), (1.0, 4)):
        xs = np.arange(-half, half, 5.0)
        xs = xs[c.rng.random(len(xs)) < 0.85]
        crowns = [_disc(x, 1.5, c.between(3, 5), c.between(0.5, 1) * top, 12) for x in xs]
        c.fill([c.cutout(crown, 0, z) for crown in crowns], colour * shade, c.leaves)


def _skyline(c: Canvas, z: float) -> None:
    """A town at the horizon."""
    half = c.size[1] / c.focal * z
    x = -half
    while x < half:
        width = c.between(12, 26)
        _building(c, x, x + 0.95 * width, z, z + 10, c.between(10, 34))
        x += width if c.chance(0.8) else 2 * width


def _person(c: Canvas, x: float, z: float) -> None:
    """Head, hair, torso, arms and legs, in clothes of any colour."""
    size = c.between(1.0, 1.15) if c.chance(0.85) else c.between(0.65, 0.85)
    step, hand, hem = c.between(0.08, 0.32), c.between(0.35, 0.55), c.rng.choice([0.2, 0.2, 0.36])
    art = _art(f"""
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
    cloth = {part: c.colour("cloth") for part in ("shirt", "trousers")}
    _shadow(c, x, z, 0.4 * size, 0.35)
    c.brush("person", z, countable=True)
    size = size * c.side(), size
    _figure(c, x, z, art, size, skin=c.colour("skin"), hair=c.colour("hair"), **cloth)


_CAR_SIDE = _art("""
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
_CAR_END = _art("""
    dark  1.0 boxs  .62,0 .9,.4
    body  1.0 area  -.92,.3 -.95,.85 -.82,1 -.64,1.5 .64,1.5 .82,1 .95,.85 .92,.3
    glass 1.0 area  -.7,1 -.55,1.4 .55,1.4 .7,1
    lamp  1.0 discs .72,.78 .16,.11
    white 1.0 box   -.3,.5 .3,.66
    dark  1.0 box   -.92,.28 .92,.42""")


def _car(c: Canvas, x: float, z: float) -> None:
    """A car or a van from the side, driving left or right."""
    size = c.side(), c.between(1, 1.12) if c.chance(0.7) else 1.3
    _shadow(c, x, z, 2.0, 0.8)
    c.brush("car", z, countable=True)
    glass = c.haze * c.between(0, 0.3) + 0.22
    _figure(c, x, z, _CAR_SIDE, size, body=c.colour("car"), glass=glass)


def _car_end(c: Canvas, x: float, z: float) -> None:
    """A car from the front or the back, its side running on towards the horizon."""
    body, glass = c.colour("car"), c.haze * c.between(0, 0.3) + 0.22
    outline = _CAR_END[1][2][0]
    ends = np.concatenate([c.cutout(outline, x, z), c.cutout(outline, x, z + 3.8)])
    flank = x - np.sign(x) * np.array([0.8, 0.68, 0.68, 0.8])  # the side that can be seen
    window = c.project(flank, z + np.array([0.5, 0.9, 2.8, 3.2]), np.array([1, 1.4, 1.4, 1]))
    _shadow(c, x, z + 1.5, 1.1, 2.2)
    c.brush("car", z, countable=True)
    c.fill([cv2.convexHull(np.float32(ends))[:, 0]], body * 0.75, c.fine)
    c.fill([window], glass * 0.8)
    _figure(c, x, z, _CAR_END, body=body, glass=glass, lamp=_RED if x > 0 else _WHITE)


# Things of the class "other".
_LAMP = _art("""
    dark   1.0 bar   0,0 0,5 .16
    dark   1.0 bar   0,5 1,5.2 .16
    white  1.0 disc  1.1,5.1 .35,.18""")
_SIGN = _art("""
    dark   3.0 bar   0,0 0,2.2 .1
    bright 1.0 disc  0,2.4 .45,.45
    white  1.0 disc  0,2.4 .3,.3""")
_BOAT = _art("""
    bright 1.0 area  -2.2,.8 2.4,.8 1.6,0 -1.8,0
    white  1.0 area  0,1 0,6 2,1.2
    white  .85 area  -.2,1 -.2,5.5 -1.6,1.2""")
_BALLOON = _art("""
    bright .60 area  -1.8,18 1.8,18 .6,15 -.6,15
    bright 1.0 disc  0,20 3,3
    bright 1.3 disc  0,20 1.8,3
    bright 0.9 disc  0,20 .75,3""")


def _other(art: list, c: Canvas, x: float, z: float) -> None:
    c.brush("other", z)
    _figure(c, x, z, art, bright=c.colour("bright"))


_lamp, _sign, _boat, _balloon = (partial(_other, a) for a in (_LAMP, _SIGN, _BOAT, _BALLOON))


# ------------------------------------------------------------------------------------ the scenes

_ANYWHERE = (-400, 400)


def _stand(c: Canvas, draw: Callable, low: int, high: int, xs: tuple, zs: tuple) -> None:
    """Puts low..high things into view between xs and zs: boats on the water, others ashore."""
    limit = np.array(c.size[::-1]) - 1
    for _ in range(c.rng.integers(low, high + 1)):
        for _ in range(6):  # attempts
            z = np.exp(c.between(*np.log(zs)))  # even in the picture, not on the ground
            view = (np.array([0.03, 0.97]) * c.size[1] - c.vanish) * z / c.focal
            x = c.between(*np.clip(sorted(xs), *view))
            column, row = np.clip(c.project(x, z), 0, limit).astype(int)
            if (c.labels[row, column] == ADE_INDEX["water"]) == (draw is _boat):
                c.later(z, draw, x, z)
                break


def _backdrop(c: Canvas, mountains: float, trees: float, city: float) -> None:
    """Everything behind the ground, each with its probability."""
    _sky(c)
    if c.chance(mountains):
        _mountains(c)
    _stand(c, _balloon, 0, 1, _ANYWHERE, (60, 110))
    c.finish()
    if c.chance(city):
        _skyline(c, c.between(90, 140))
    if c.chance(trees):
        _treeline(c, c.between(70, 130))


def _street(c: Canvas) -> None:
    """A street that runs to the horizon between sidewalks and buildings."""
    _backdrop(c, mountains=0.6, trees=0.6, city=0.4)
    half, walk, shift = c.between(3.2, 4.5), c.between(2.2, 3.5), c.between(-2, 2)
    canal = c.side() if c.chance(0.45) else 0
    _ground(c, "grass" if c.chance(0.5) else "earth")
    for side in (-1, 1):
        kerb, wall = shift + side * half, shift + side * (half + walk)
        _ground(c, "sidewalk", kerb, wall)
        if side == canal:
            _ground(c, "water", wall + side, wall + side * 40)
        z = c.between(11, 16)
        while z < 110 and side != canal:
            end, inner = z + c.between(8, 15), wall + side * c.between(0, 2)
            if c.chance(0.75):
                height = c.between(5, 9) if c.chance(0.4) else c.between(9, 17)
                c.later(z, _building, inner, inner + side * c.between(8, 13), z, end, height)
            else:
                c.later(z, _tree, inner + side * 2, z)
            z = end + c.between(0, 5)
        avenue = c.chance(0.6)
        for z in (13.0, 24.0, 38.0):
            c.later(z, *((_tree, wall, z) if avenue else (_lamp, kerb + side * 0.3, z)))
        _stand(c, _person, 2, 3, (kerb + side * 0.4, wall - side * 0.4), (7.5, 20))
    _ground(c, "road", shift - half, shift + half)
    _lines(c, shift - half, shift + half)
    z = c.between(10, 14)
    while z < 42:
        c.later(z, _car_end, shift + c.side() * half / 2, z)
        z += c.between(5, 14)


def _avenue(c: Canvas) -> None:
    """A street across the picture in front of a row of facades."""
    _backdrop(c, mountains=0.7, trees=0.7, city=0.3)
    front, kerb, near = c.between(24, 30), c.between(19, 22), c.between(10, 12)
    half = c.size[1] / c.focal * front
    _ground(c, "grass")
    _ground(c, "sidewalk", z0=kerb, z1=front + 1)
    x = -half
    while x < half:
        width = c.between(7, 13)
        if c.chance(0.6):
            height = c.between(4, 8) if c.chance(0.5) else c.between(8, 16)
            c.later(front, _building, x, x + width, front, front + 10, height)
        else:
            c.later(front, _tree, x + width / 2, front)
        x += width + c.between(0, 2)
    _ground(c, "road", z0=near, z1=kerb)
    dash = np.arange(-60, 60, 4.0)[:, None] + (0, 2, 2, 0)
    c.fill(c.project(dash, (near * kerb) ** 0.5 + np.array([-0.15, -0.15, 0.2, 0.2])), _WHITE * 0.9)
    _ground(c, "sidewalk", z0=near - 1.6, z1=near)
    _ground(c, c.rng.choice(["grass", "earth", "earth", "water", "water"]), z0=3, z1=near - 1.6)
    _stand(c, _car, 1, 2, _ANYWHERE, (kerb - 2, kerb - 1))
    _stand(c, _car, 1, 2, _ANYWHERE, (near + 1, near + 3))
    _stand(c, _person, 2, 4, _ANYWHERE, (kerb + 0.5, front - 1))
    _stand(c, _person, 2, 3, _ANYWHERE, (near - 1.5, near - 0.3))
    _stand(c, _tree, 0, 2, _ANYWHERE, (kerb + 0.3, kerb + 1))
    _stand(c, _sign if c.chance(0.5) else _lamp, 1, 3, _ANYWHERE, (kerb + 0.2, kerb + 0.5))


def _country(c: Canvas) -> None:
    """A winding road between fields, farmhouses and trees."""
    _backdrop(c, mountains=0.85, trees=0.7, city=0)
    half, bend, side = c.between(2.8, 3.6), c.between(-5, 5), c.side()
    _ground(c, "grass")
    for flank in (side, -side):
        edge, start = flank * c.between(4, 6), c.between(4, 8)
        _ground(c, "earth", edge, edge + flank * 60, start, start * c.between(2.5, 5))
    if c.chance(0.55):
        start = c.between(15, 25)
        _ground(c, "water", z0=start, z1=start * c.between(1.8, 2.6), wobble=0.6)
    _ground(c, "road", -half, half, z1=150, bend=bend)
    _lines(c, -half, half, bend)
    for side in (-1, 1):
        _stand(c, _tree, 2, 5, (5 * side, 60 * side), (13, 60))
        _stand(c, _person, 1, 3, (side * (half + 0.6), side * (half + 5)), (7.5, 18))
    for _ in range(c.rng.integers(1, 4)):
        z, side = c.between(18, 45), c.side()
        x, deep = side * c.between(7, 12) + bend * (z / 30) ** 2, c.between(6, 12)
        c.later(z, _building, x, x + side * deep, z, z + deep, c.between(3.5, 7))
    for z in (c.between(9, 13), c.between(16, 22), c.between(25, 32))[: c.rng.integers(2, 4)]:
        c.later(z, _car_end, c.side() * half / 2 + bend * (z / 30) ** 2, z)
    _stand(c, _sign, 0, 2, (half, half + 1), (10, 25))


def _lake(c: Canvas) -> None:
    """A lake under mountains, with a shore in front."""
    _backdrop(c, mountains=0.95, trees=0.6, city=0)
    far, near, shore = c.between(45, 90), c.between(10, 17), c.rng.integers(3)
    _ground(c, "grass", z0=40)
    _stand(c, _tree, 2, 5, _ANYWHERE, (far, far + 30))
    for x in c.rng.uniform(-60, 60, c.rng.integers(2, 6)):
        c.later(far + 5, _building, x, x + 10, far + 5, far + 12, c.between(4, 12))
    c.finish()  # the water mirrors what is there already
    _ground(c, "water", z0=near - 2, z1=far, wobble=0.25)
    _stand(c, _boat, 0, 2, _ANYWHERE, (near + 8, far - 5))
    c.finish()
    _ground(c, "earth" if c.chance(0.8) else "grass", z0=4, z1=near, wobble=0.3)
    if shore == 0:
        _ground(c, "sidewalk", z0=3, z1=near * 0.75)
    elif shore == 1:
        _ground(c, "road", z0=near * 0.68, z1=near * 0.95)
        _ground(c, c.rng.choice(["grass", "sidewalk"]), z0=3, z1=near * 0.64)
        _stand(c, _car, 2, 3, _ANYWHERE, (near * 0.78, near * 0.9))
    else:
        _ground(c, "grass", z0=3, z1=near * 0.6, wobble=0.4)
    _stand(c, _person, 3, 6, _ANYWHERE, (7.5, near))
    _stand(c, _tree, 0, 2, _ANYWHERE, (near * 0.85, near * 1.05))


def _park(c: Canvas) -> None:
    """Lawns, a path, a pond and people, with a town behind."""
    _backdrop(c, mountains=0.5, trees=0.7, city=0.7)
    side, half, road = c.side(), c.between(1.2, 2.2), c.between(19, 24)
    _ground(c, "grass")
    if c.chance(0.65):
        _ground(c, "sidewalk", z0=road - 2, z1=road + 12)
        _ground(c, "road", z0=road, z1=road + 10)
        _stand(c, _car, 2, 4, _ANYWHERE, (road + 1, road + 5))
    for name, where in (("water", -side), ("earth", side)):
        if c.chance(0.8):
            x, z = where * c.between(4, 8), c.between(10, 14)
            _pond(c, name, x, z, c.between(4, 7), c.between(3, 5))
    x = side * c.between(0, 3)
    _ground(c, "sidewalk", x - half, x + half, z1=60, bend=side * c.between(2, 9))
    _stand(c, _person, 4, 7, _ANYWHERE, (7.5, 20))
    _stand(c, _tree, 3, 7, _ANYWHERE, (14, 45))
    _stand(c, _lamp, 0, 2, _ANYWHERE, (9, 20))
