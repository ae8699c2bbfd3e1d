"""Loading of images with all their bands, for mmsegmentation and mmdetection."""

import numpy as np
from mmcv.transforms import LoadImageFromFile

from gfnet_dense.registry import TRANSFORMS
from gfnet_dense.utils.bands import read_bands
from gfnet_dense.utils.errors import InputError


@TRANSFORMS.register_module()
class LoadImageBands(LoadImageFromFile):
    """Transform ``gfnet_dense.LoadImageBands``: LoadImageFromFile for any number of bands.

    The values of a file stay as they are stored, and so does the order of its bands, see
    :func:`gfnet_dense.utils.bands.decode_bands`. mmcv's own transform gives the first three in the
    order blue, green, red, and OpenCV, which it uses, changes the colors of a TIFF of four bands.

    Args:
        to_float32: Whether files of 8 bits become float32, too.
        ignore_empty: Whether a file that cannot be read is left out, instead of raising InputError.
        backend_args: Arguments of mmengine's file backend.
    """

    def __init__(
        self,
        to_float32: bool = False,
        ignore_empty: bool = False,
        backend_args: dict | None = None,
    ) -> None:
        super().__init__(
            to_float32, color_type="unchanged", ignore_empty=ignore_empty, backend_args=backend_args
        )

    def transform(self, results: dict) -> dict | None:
        """Set ``img``, (H, W, bands), ``img_shape`` and ``ori_shape`` from ``img_path``."""
        try:
            bands = read_bands(results["img_path"], self.backend_args)
        except InputError:
            if self.ignore_empty:
                return None
            raise
        results["img"] = bands.astype(np.float32) if self.to_float32 else bands
        results["img_shape"] = results["ori_shape"] = bands.shape[:2]
        return results
