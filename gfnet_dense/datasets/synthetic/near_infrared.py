"""A fourth band of the synthetic scenes: near infrared, as a camera for vegetation measures it.

Leaves reflect about half of the near infrared and little red; water absorbs nearly all of it, and
a clear sky is dark. Soil and buildings look as in red light (reflectance spectra:
https://doi.org/10.3133/ds1035, USGS Spectral Library Version 7).
"""

from dataclasses import replace

import numpy as np

from .scenes import ADE_INDEX, Scene, draw_scene

# By class: offset and slope from the gray value of a pixel, 0..255, to its near infrared
RESPONSE = {
    "tree": (95, 0.95),
    "grass": (105, 0.8),
    "water": (4, 0.1),
    "sky": (8, 0.5),
    "mountain": (25, 0.85),
    "earth": (20, 1.0),
}
OTHERS = (6, 0.95)
GRAY = (0.299, 0.587, 0.114)  # weights of red, green and blue (ITU-R BT.601)


def draw_four_bands(seed: int) -> Scene:
    """Return :func:`.draw_scene` of a seed with an image (H, W, 4), uint8: RGB, near infrared."""
    scene = draw_scene(seed)
    return replace(scene, image=np.dstack([scene.image, near_infrared(scene)]))


def near_infrared(scene: Scene) -> np.ndarray:
    """Return the near infrared of a scene, (H, W), uint8."""
    offsets, slopes = (np.full(256, value, np.float32) for value in OTHERS)
    for name, (offset, slope) in RESPONSE.items():
        offsets[ADE_INDEX[name]], slopes[ADE_INDEX[name]] = offset, slope
    gray = scene.image.astype(np.float32) @ np.array(GRAY, np.float32)
    infrared = offsets[scene.labels] + slopes[scene.labels] * gray
    return np.rint(infrared).clip(0, 255).astype(np.uint8)
