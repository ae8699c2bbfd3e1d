"""Check that images, pipeline, data preprocessor and backbone agree in their number of bands."""

from typing import Any

import numpy as np
from mmengine.config import ConfigDict

from gfnet_dense.datasets.loading_guards import GuardedImage, inner_datasets
from gfnet_dense.utils.channels import Channels, channels_of
from gfnet_dense.utils.config import type_name, typed_configs
from gfnet_dense.utils.errors import InputError

# Transforms of mmcv, mmsegmentation and mmdetection that need red, green and blue
COLOR_TRANSFORMS = {
    "AutoAugment", "BioMedicalGaussianNoise", "Brightness", "CLAHE", "Color", "ColorTransform",
    "Contrast", "Equalize", "Invert", "PhotoMetricDistortion", "Posterize", "RGB2Gray",
    "RandAugment", "Sharpness", "Solarize", "SolarizeAdd", "YOLOXHSVRandomAug",
}  # fmt: skip
PREPROCESSORS = {"SegDataPreProcessor", "DetDataPreprocessor"}  # the libraries' own
SAMPLES = 8  # images of a dataset whose bands are counted, spread evenly


def check_channels(cfg: ConfigDict, splits: tuple[str, ...]) -> None:
    """Check that the settings of a config are for the bands that its backbone takes.

    Args:
        cfg: A whole config; others than for a backbone of this project are not checked.
        splits: Dataloaders to check, any of 'train', 'val', 'test'.

    Raises:
        InputError: For a mean or std of another number of values, an exchange of red and blue in
            other than three bands, or a transform of the pipelines that gives or needs three.
    """
    channels = channels_of(cfg.model)
    if channels is None:
        return
    _check_preprocessor(cfg.model.get("data_preprocessor") or {}, channels.count)
    for split in splits:
        # Wrappers of datasets have pipelines, too.
        for each in typed_configs((cfg.get(f"{split}_dataloader") or {}).get("dataset")):
            _check_transform(each, channels.count)


def _check_preprocessor(settings: dict, count: int) -> None:
    """Raise InputError if the config of a data preprocessor is for another number of bands."""
    for key in ("mean", "std"):
        values = settings.get(key)
        if values is not None and len(values) not in (1, count):
            raise InputError(
                f"model.backbone.in_channels is {count}, but {key} of model.data_preprocessor has "
                f"{len(values)} values: give one for each band"
            )
    if count == 3:
        return
    kind = settings.get("type", "")  # lazy configs hold the class itself
    is_own = not isinstance(kind, str) or kind.startswith("gfnet_dense.")
    if len(settings.get("mean") or ()) > 1 and type_name(settings) in PREPROCESSORS and not is_own:
        raise InputError(
            f"{type_name(settings)} takes a mean of one or three values, got {count}: set "
            f"type='gfnet_dense.{type_name(settings)}' in model.data_preprocessor"
        )
    for key in ("bgr_to_rgb", "rgb_to_bgr"):
        if settings.get(key):
            raise InputError(
                f"{key} of model.data_preprocessor is for three bands, model.backbone.in_channels "
                f"is {count}: set it to False"
            )


def _check_transform(transform: dict, count: int) -> None:
    """Raise InputError if a transform gives or needs another number of bands."""
    name = type_name(transform)
    if count == 3:
        if name == "LoadImageBands":  # in another order than all else that is for three bands
            raise InputError(
                "LoadImageBands of the pipeline is for other than three bands: set "
                "type='LoadImageFromFile', and for values of more than 8 bits image_range in the "
                "metainfo of the dataset"
            )
        return
    if name in COLOR_TRANSFORMS:
        raise InputError(
            f"{name} of the pipeline changes colors, and model.backbone.in_channels is {count}: "
            "leave it out"
        )
    if name == "LoadImageFromFile" and transform.get("color_type", "color") == "color":
        raise InputError(
            "LoadImageFromFile of the pipeline gives red, green and blue, and model.backbone."
            f"in_channels is {count}: set type='gfnet_dense.LoadImageBands' in its place"
        )


def check_bands(dataset: Any, channels: Channels | None) -> None:
    """Check that a sample of the images of a dataset has as many bands as the model takes.

    Args:
        dataset: A dataset guarded by :func:`.loading_guards.guard_pipeline`.
        channels: The bands that the model takes; None if that is not known.

    Raises:
        InputError: For the first image of another number of bands, or one that cannot be read.
    """
    if channels is None:
        return
    for inner in inner_datasets(dataset):
        transforms = getattr(getattr(inner, "pipeline", None), "transforms", [])
        readers = [each for each in transforms if isinstance(each, GuardedImage) and each.is_own]
        places = np.linspace(0, len(inner) - 1, min(len(inner), SAMPLES)).astype(int)
        for i in places if readers else ():
            results = readers[0](inner.get_data_info(int(i)))
            if results is not None:
                check_count(results["img"], results["img_path"], channels)


def check_count(image: np.ndarray, path: str, channels: Channels) -> None:
    """Raise InputError if a loaded image, (H, W) or (H, W, bands), has another number of bands.

    Gray is accepted in place of three equal bands.
    """
    found = 1 if image.ndim == 2 else image.shape[2]
    if found != channels.count and (found, channels.count) != (1, 3):
        raise InputError(
            f"{path} is loaded with {found} bands, model.backbone.in_channels is "
            f"{channels.count}: set in_channels={found}, or give images of {channels.count} bands"
        )
