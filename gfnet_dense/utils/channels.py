"""The bands of the images that a model takes, and pictures of such images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .bands import read_bands
from .config import type_name
from .errors import InputError
from .images import read_image

BACKBONES = ("GFNet", "HorNet", "IsotropicGFNet")  # of this project
SHOWN = (2, 98)  # percentiles that are shown as black and white, of bands that are not of 8 bits


@dataclass(frozen=True)
class Channels:
    """The bands of the images that a model takes.

    Attributes:
        count: How many there are.
        rgb: Which of them are red, green and blue; None if that is not known.
    """

    count: int = 3
    rgb: tuple[int, int, int] | None = None

    def shown(self, bands: np.ndarray) -> np.ndarray:
        """Return a picture of an image, (H, W, 3), uint8, RGB.

        It shows red, green and blue, else the first three bands, or the first one as gray. Values
        other than of 8 bits are stretched, so that one pixel in fifty is black, and one white.

        Args:
            bands: (H, W, bands), as :func:`decode_bands` returns it.
        """
        places = (0, 1, 2) if bands.shape[2] >= 3 else (0, 0, 0)
        picture = bands[..., list(self.rgb or places)]
        if picture.dtype != np.uint8:
            low, high = np.percentile(picture, SHOWN)
            picture = np.rint(255 * np.clip((picture - low) / max(high - low, 1e-12), 0, 1))
        return np.ascontiguousarray(picture.astype(np.uint8))


def channels_of(model: Any) -> Channels | None:
    """Return the bands that a model takes; None if its backbone is none of this project.

    Args:
        model: A backbone of this project, or a segmentor or detector with one as ``backbone``,
            perhaps in wrappers; or the config of a segmentor or detector.
    """
    if isinstance(model, dict):
        backbone = model.get("module", model).get("backbone") or {}
        if type_name(backbone) not in BACKBONES:
            return None
        rgb = backbone.get("rgb_channels")
        return Channels(backbone.get("in_channels", 3), None if rgb is None else tuple(rgb))
    while hasattr(model, "module"):  # DistributedDataParallel, augmented tests, or both
        model = model.module
    backbone = getattr(model, "backbone", model)
    if not hasattr(backbone, "rgb_channels"):
        return None
    return Channels(backbone.in_channels, backbone.rgb_channels)


def image_channels(model: Any) -> int:
    """Return how many bands a model takes: three if :func:`channels_of` does not know it."""
    return (channels_of(model) or Channels()).count


def shown_input(image: np.ndarray, channels: Channels | None) -> np.ndarray:
    """Return a picture, (H, W, 3), uint8, RGB, of an image as a model gets it.

    Args:
        image: (H, W, bands); if there are three, they are blue, green and red, 0..255.
        channels: The bands that the model takes; None if that is not known.
    """
    if image.shape[2] == 3:
        return np.ascontiguousarray(image[..., ::-1]).astype(np.uint8)
    return (channels or Channels()).shown(image)


def read_shown(path: str | Path, metainfo: dict[str, Any], channels: Channels | None) -> np.ndarray:
    """Read an image file as a picture, (H, W, 3), uint8, RGB.

    Args:
        path: The file.
        metainfo: Metainfo of the dataset, with ``image_range`` if it needs one.
        channels: The bands that the model takes. With three, or None, the picture is that of
            :func:`.read_image`.

    Raises:
        InputError: If the file cannot be read.
    """
    if channels is not None and channels.count != 3:
        try:
            return channels.shown(read_bands(path))
        except InputError:  # the config may load it in another way, such as in gray
            pass
    return read_image(path, metainfo.get("image_range"))
