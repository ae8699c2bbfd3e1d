"""Canvas with a pinhole camera and the palettes to paint scenes with."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike

from .shapes import DARK, RED, WHITE, Parts, Polygons, mix, noise, planes

# RGB colors in hexadecimal. Classes that are often side by side have similar colors on purpose.
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


class Canvas:
    """Image with label map and instance map, painted through a pinhole camera.

    The same mask paints color, label and instance, so the labels are exact. Places in the scene are
    (x, z) in meters: x to the right of the camera, z ahead of it.

    Args:
        rng: Generator of all random numbers, also those of the functions that paint on the canvas.
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        index: Class index of each class name; all other names have that of "other".

    Attributes:
        image: (3, H, W) float32 in 0..1, RGB.
        labels: (H, W) uint8 class indices.
        owner: (H, W) int32, number of the instance at each pixel, counted from 1; 0 for none.
        countables: Class index of each instance.
        unit: Size of the image relative to 192 x 256 pixels.
        horizon: Row of the horizon.
        vanish: Column of the vanishing point.
        focal: Focal length of the camera in pixels.
        eye_height: Height of the camera above the ground in meters.
        sun: Side of the sun, -1 (left) or 1 (right).
        visibility: Distance in meters at which 63 % of the haze is reached.
        haze: Color of the haze, (3,) float32.
    """

    def __init__(
        self, rng: np.random.Generator, height: int, width: int, index: Mapping[str, int]
    ) -> None:
        self.rng = rng
        self.size = height, width
        self.index = index
        self.unit = min(height / 192, width / 256)
        # Channels first: blending is faster than with channels last.
        self.image = np.zeros((3, height, width), np.float32)
        self.labels = np.zeros((height, width), np.uint8)
        self.owner = np.zeros((height, width), np.int32)
        self.countables: list[int] = []
        self._queue: list[tuple[float, Callable[[], None]]] = []
        self.horizon = height * self.between(0.36, 0.5)
        self.vanish = width * self.between(0.35, 0.65)
        self.focal = 240 * self.unit
        self.eye_height = 6 * (height - self.horizon) / self.focal  # the bottom row lies 6 m ahead
        self.sun = self.side()
        self.visibility = self.between(100, 500)
        self.haze = self.color("sky") * 0.5 + 0.4
        self._make_textures()

    def _make_textures(self) -> None:
        """Sample the textures: (H, W) relative changes of brightness.

        Some are noise in the image, others (tiles, blades, furrows) follow the ground.
        """
        height, width = self.size
        rows = np.arange(height, dtype=np.float32)[:, None]
        scale = np.maximum((rows - self.horizon) / self.eye_height, 0.2)  # pixels per meter
        near = np.clip(scale / (15 * self.unit), 0.25, 1)
        x = (np.arange(width, dtype=np.float32) - self.vanish) / scale
        z = self.focal / scale
        slab = np.floor(x) + np.floor(z)
        joint = (x % 1 < 1.5 / scale) | (z % 1 < 1.5 * z / scale / self.eye_height)
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
        """Sample a number uniformly."""
        return self.rng.uniform(low, high)

    def chance(self, probability: float) -> bool:
        """Return True with a probability."""
        return self.rng.random() < probability

    def side(self) -> int:
        """Sample -1 (left) or 1 (right)."""
        return self.rng.choice([-1, 1])

    def noise(self, cell_y: float, cell_x: float, octaves: int = 1) -> np.ndarray:
        """Sample noise, (H, W) float32, with cells in pixels of an image of 192 x 256 pixels."""
        return noise(self.rng, self.size, cell_y * self.unit, cell_x * self.unit, octaves)

    def color(self, palette: str) -> np.ndarray:
        """Sample a color of a palette with a small variation: (3,) float32, about 0..1."""
        codes = _PALETTE[palette].split()
        code = codes[self.rng.integers(len(codes))]
        base = np.frombuffer(bytes.fromhex(code), np.uint8) / 255
        color = base * self.between(0.85, 1.12) + self.rng.normal(0, 0.025, 3)
        return color.astype(np.float32)

    def project(
        self, x: float | np.ndarray, z: ArrayLike, up: float | np.ndarray = 0.0
    ) -> np.ndarray:
        """Project places to the image.

        Args:
            x: Meters to the right of the camera.
            z: Meters ahead of the camera; all three broadcast.
            up: Meters above the ground.

        Returns:
            (..., 2) float64: column and row in pixels.
        """
        scale = self.focal / np.asarray(z, float)
        across, down = self.vanish + x * scale, self.horizon + (self.eye_height - up) * scale
        return np.stack(np.broadcast_arrays(across, down), -1)

    def cutout(self, points: np.ndarray, x: float, z: float) -> np.ndarray:
        """Project a flat upright figure at a place: (N, 2) meters right and up, to pixels."""
        return self.project(x + points[:, 0], z, points[:, 1])

    def view_width(self, z: float) -> float:
        """Return the width in meters of the view at a distance; larger ``|x|`` are out of sight."""
        return self.size[1] / self.focal * z

    def draw_later(self, z: float, draw: Callable[..., None], *args: Any) -> None:
        """Defer ``draw(canvas, *args)`` at distance ``z`` until :meth:`draw_deferred`."""
        self._queue.append((z, partial(draw, self, *args)))

    def draw_deferred(self) -> None:
        """Draw all that was deferred, from far to near."""
        for _, draw in sorted(self._queue, key=lambda item: -item[0]):
            draw()
        self._queue.clear()

    def brush(self, name: str, z: float = 0.0, countable: bool = False) -> None:
        """Set class, distance (for the haze) and instance of the polygons that are filled next."""
        self._label = self.index.get(name, self.index["other"])
        self._fog = 0.85 * (1 - np.exp(-z / self.visibility))
        if countable:
            self.countables.append(self._label)
        self._number = len(self.countables) if countable else 0

    def fill(self, shapes: Polygons, color: np.ndarray, texture: np.ndarray | None = None) -> None:
        """Paint the union of polygons with the class and instance of the brush.

        Args:
            shapes: Polygons in pixels.
            color: Color, (3,), or image, (3, H, W).
            texture: (H, W) relative change of brightness.
        """
        window, mask = self._blend(shapes, mix(color, self.haze, self._fog), texture)
        inside = mask > 127
        self.labels[window][inside] = self._label
        self.owner[window][inside] = self._number

    def tint(self, shapes: Polygons, color: np.ndarray, opacity: float, blur: float = 0) -> None:
        """Blend a color over polygons in pixels, and leave the labels as they are.

        Args:
            shapes: Polygons in pixels.
            color: (3,).
            opacity: Share of the color, 0..1.
            blur: Standard deviation in pixels by which the edges are blurred.
        """
        self._blend(shapes, color, None, opacity, blur)

    def figure(
        self,
        x: float,
        z: float,
        parts: Parts,
        size: tuple[float, float] = (1.0, 1.0),
        texture: np.ndarray | None = None,
        **colors: np.ndarray,
    ) -> None:
        """Paint a flat upright figure with the class and instance of the brush.

        Args:
            x: Meters to the right of the camera.
            z: Meters ahead of the camera.
            parts: Parts from :func:`parse_parts`; each one covers those before it.
            size: Factors of the width (negative to mirror the figure) and of the height.
            texture: (H, W) relative change of brightness, by default fine grain.
            colors: (3,) by color name of the parts; dark, white and red have defaults.
        """
        colors = {"dark": DARK, "white": WHITE, "red": RED} | colors
        texture = self.fine if texture is None else texture
        for name, shade, shapes in parts:
            polygons = [self.cutout(shape * size, x, z) for shape in shapes]
            self.fill(polygons, colors[name] * shade, texture)

    def develop(self) -> np.ndarray:
        """Return the image with random saturation, white balance, exposure and sensor noise.

        Returns:
            (H, W, 3) uint8, RGB.
        """
        rng, gray = self.rng, self.image.mean(0)
        image = mix(gray, self.image, np.float32(rng.uniform(0.65, 1.2)))
        warm, green = rng.normal(0, 0.07), rng.normal(0, 0.02)
        cast = np.array([1 + warm, 1 + green, 1 - warm], np.float32)
        cast = cast * np.float32(rng.uniform(0.72, 1.15))
        image = np.clip(image * planes(cast), 0, 1) ** np.float32(rng.uniform(0.8, 1.25))
        grain = rng.standard_normal(image.shape, np.float32)
        image += grain * np.float32(rng.uniform(0.006, 0.016))
        pixels = np.rint(image.clip(0, 1) * 255).astype(np.uint8)
        return np.ascontiguousarray(pixels.transpose(1, 2, 0))

    def _blend(
        self,
        shapes: Polygons,
        color: np.ndarray,
        texture: np.ndarray | None,
        opacity: float = 1.0,
        blur: float = 0,
    ) -> tuple[Any, np.ndarray]:
        """Blend a color into the image.

        Returns:
            Index of the window around the polygons, and their mask inside it: uint8, 255 inside.
        """
        points, pad = np.concatenate(shapes), 2 + 2 * blur
        limit = self.size[::-1]
        x0, y0 = np.clip(points.min(0) - pad, 0, limit).astype(int)
        x1, y1 = np.clip(points.max(0) + pad + 1, 0, limit).astype(int)
        window, mask = np.s_[..., y0:y1, x0:x1], np.zeros((y1 - y0, x1 - x0), np.uint8)
        if mask.size:
            for shape in shapes:
                corners = np.rint((shape - (x0, y0)) * 16).astype(np.int32)
                cv2.fillPoly(mask, [corners], 255, cv2.LINE_AA, 4)
            mask = cv2.GaussianBlur(mask, (0, 0), blur) if blur else mask
            color = planes(color) if color.size == 3 else color[window]
            if texture is not None:
                color = color * (1 + texture[window])
            below = self.image[window]
            below += (mask * np.float32(opacity / 255)) * (color - below)
        return window, mask
