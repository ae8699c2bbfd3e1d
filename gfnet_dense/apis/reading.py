"""Images for a model: files and arrays as the config of the model loads them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.model import BaseModel

from gfnet_dense.utils.bands import read_bands
from gfnet_dense.utils.channels import Channels, channels_of
from gfnet_dense.utils.config import find_datasets, type_name
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.images import read_image


@dataclass(frozen=True)
class ImageReader:
    """How the images of a model are read.

    Pixels are an image as users have it: (H, W, 3), uint8, RGB, or with ``loads_bands`` (H, W,
    bands), uint8 or float32, with the values and in the order of the files.

    Attributes:
        channels: The bands that the model takes; None if that is not known.
        loads_bands: Whether the config loads all bands, by ``gfnet_dense.LoadImageBands``.
        image_range: See :func:`gfnet_dense.utils.decoding.decode_image`; not for ``loads_bands``.
    """

    channels: Channels | None
    loads_bands: bool
    image_range: Any = None

    def read(self, image: np.ndarray | str | Path) -> np.ndarray:
        """Return the pixels of a file, or of an array, which is checked.

        Raises:
            InputError: If a file is not an image, or an array is of another shape or dtype.
        """
        if isinstance(image, (str, Path)):
            if not self.loads_bands:
                return read_image(image, self.image_range)
            bands = read_bands(image)
            self._check_count(bands, str(image))
            return bands
        shape = "(H, W, bands) of numbers" if self.loads_bands else "(H, W, 3) of uint8, RGB"
        if not isinstance(image, np.ndarray):
            raise InputError(
                f"an image is a file or an array {shape}, got an object of the type "
                f"{type(image).__module__}.{type(image).__name__}"
            )
        is_color = image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
        is_bands = image.dtype.kind in "uif" and image.ndim == 3
        if image.size == 0 or not (is_bands if self.loads_bands else is_color):
            raise InputError(
                f"an image is an array {shape}, got an array {image.shape} of {image.dtype}"
            )
        if not self.loads_bands:
            return image
        self._check_count(image, "an array")
        return image if image.dtype == np.uint8 else image.astype(np.float32)

    def _check_count(self, bands: np.ndarray, name: str) -> None:
        if self.channels is not None and bands.shape[2] != self.channels.count:
            raise InputError(
                f"{name} has {bands.shape[2]} bands, the model takes {self.channels.count}"
            )

    def loaded(self, pixels: np.ndarray) -> np.ndarray:
        """Return pixels as the loading transform of the config gives them: BGR, or the bands."""
        return np.ascontiguousarray(pixels if self.loads_bands else pixels[..., ::-1])

    def shown(self, pixels: np.ndarray) -> np.ndarray:
        """Return a picture of pixels, (H, W, 3), uint8, RGB."""
        return (self.channels or Channels()).shown(pixels) if self.loads_bands else pixels


def loads_bands(cfg: Config) -> bool:
    """Return whether the test data of a config are loaded by ``gfnet_dense.LoadImageBands``."""
    pipeline = find_datasets(cfg.test_dataloader.dataset)[0]["pipeline"]
    return any(type_name(transform) == "LoadImageBands" for transform in pipeline)


def reader_of(model: BaseModel) -> ImageReader:
    """Return how the config of a model loads images.

    Args:
        model: A model returned by :func:`gfnet_dense.load_model`.

    Raises:
        InputError: If the config loads images in another way than the two of :class:`ImageReader`.
    """
    for transform in find_datasets(model.cfg.test_dataloader.dataset)[0]["pipeline"]:
        kind = transform.get("color_type", "color")
        if type_name(transform).startswith("LoadImage") and kind != "color":
            raise InputError(
                f"the config loads images with color_type={kind!r}, and files are predicted in "
                "color: use tools/test.py, or train with color_type='color', or on all bands with "
                "type='gfnet_dense.LoadImageBands'"
            )
    metainfo = getattr(model, "dataset_meta", {})
    image_range = metainfo.get("image_range")
    return ImageReader(channels_of(model), loads_bands(model.cfg), image_range)
