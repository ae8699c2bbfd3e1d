"""The data preprocessors of mmsegmentation and mmdetection, for any number of bands.

mmengine's ImgDataPreprocessor, whose subclasses they are, takes a mean of one or three values (as
seen in onedl-mmengine 0.10.12), and ``bgr_to_rgb`` keeps three bands of any number.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from gfnet_dense.registry import MODELS
from gfnet_dense.utils.errors import InputError


@MODELS.register_module(name="SegDataPreProcessor")
def seg_data_preprocessor(
    mean: Sequence[float], std: Sequence[float], **settings: Any
) -> nn.Module:
    """Build mmsegmentation's SegDataPreProcessor with a mean and std for each band.

    Args:
        mean: Mean of each band, in the order and unit of the loaded images.
        std: Standard deviation of each band.
        settings: Other arguments of the class.

    Raises:
        InputError: For another number of values of ``std``, one that is not above 0, or a change of
            the order of channels.
    """
    return _with_bands("mmseg.SegDataPreProcessor", mean, std, settings)


@MODELS.register_module(name="DetDataPreprocessor")
def det_data_preprocessor(
    mean: Sequence[float], std: Sequence[float], **settings: Any
) -> nn.Module:
    """Build mmdetection's DetDataPreprocessor, see :func:`seg_data_preprocessor`."""
    return _with_bands("mmdet.DetDataPreprocessor", mean, std, settings)


def _with_bands(
    kind: str, mean: Sequence[float], std: Sequence[float], settings: dict[str, Any]
) -> nn.Module:
    if len(mean) != len(std) or not all(value > 0 for value in std):
        raise InputError(
            "mean and std of the data_preprocessor have a value for each band, and each std is "
            f"above 0, got {list(mean)} and {list(std)}"
        )
    if len(mean) != 3 and (settings.get("bgr_to_rgb") or settings.get("rgb_to_bgr")):
        raise InputError(
            f"bgr_to_rgb and rgb_to_bgr are for three bands, the data_preprocessor has a mean of "
            f"{len(mean)}: set them to False, and rgb_channels of the backbone"
        )
    built = MODELS.build(dict(type=kind, mean=[0.0], std=[1.0], **settings))
    built.mean, built.std = (
        torch.tensor(values, dtype=torch.float32).view(-1, 1, 1) for values in (mean, std)
    )
    return built
