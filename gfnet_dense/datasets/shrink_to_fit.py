"""Resizing of large images alone, for data sets whose images have any size."""

from copy import copy

from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS as ALL_TRANSFORMS

from gfnet_dense.registry import TRANSFORMS
from gfnet_dense.utils.errors import InputError


@TRANSFORMS.register_module()
class ShrinkToFit(BaseTransform):
    """Transform ``gfnet_dense.ShrinkToFit``: Resize that keeps the size of images that fit.

    The aspect ratio stays. Resize enlarges small images to ``scale`` as well, which takes time and
    adds no detail.

    Args:
        scale: Largest longer and largest shorter side in pixels, in any order, as those of Resize.

    Raises:
        InputError: If ``scale`` is not two positive numbers.
    """

    def __init__(self, scale: tuple[int, int]) -> None:
        if not isinstance(scale, (list, tuple)) or len(scale) != 2 or min(scale) <= 0:
            raise InputError(
                f"scale of ShrinkToFit is the largest longer and shorter side, (1333, 800), got "
                f"{scale!r}"
            )
        self.scale = tuple(scale)
        # That of the library in whose scope this transform is built; others know no boxes.
        self.resize = ALL_TRANSFORMS.build(dict(type="Resize", scale=self.scale, keep_ratio=True))

    def transform(self, results: dict) -> dict:
        """Resize the image and its annotation."""
        resize, size = copy(self.resize), results["img"].shape[1::-1]
        if max(size) <= max(self.scale) and min(size) <= min(self.scale):
            resize.scale = size
        return resize(results)

    def __repr__(self) -> str:
        return f"ShrinkToFit(scale={self.scale})"
