"""The demo of a config whose backbone takes four bands: scenes with near infrared."""

from pathlib import Path
from typing import Any

from mmengine.config import Config

from gfnet_dense.datasets.checks.bands import COLOR_TRANSFORMS
from gfnet_dense.datasets.synthetic.writers import DATA_ROOT, ade20k_folder, coco_folder, suffix_of
from gfnet_dense.utils.channels import image_channels
from gfnet_dense.utils.config import datasets_of, type_name
from gfnet_dense.utils.errors import InputError

FOUR_BANDS = DATA_ROOT / "four_bands"
# Of the scenes, 0..255: red, green, blue, near infrared
MEAN, STD = [110.4, 117.6, 111.8, 118.5], [42.1, 41.6, 48.3, 50.8]


def scenes_root(cfg: Config) -> Path:
    """Return the folder for the scenes of a demo, by the bands that its backbone takes.

    Raises:
        InputError: For other than three or four bands.
    """
    count = image_channels(cfg.model)
    if count not in (3, 4):
        raise InputError(
            f"--demo draws scenes of three or four bands, model.backbone.in_channels is {count}"
        )
    return FOUR_BANDS if count == 4 else DATA_ROOT


def match_bands(cfg: Config) -> None:
    """Let a shrunken config load and normalize the bands that its backbone takes, in place.

    Transforms that change colors are left out of a demo with four bands.

    Raises:
        InputError: See :func:`scenes_root`.
    """
    root = scenes_root(cfg)
    if root == DATA_ROOT:
        return
    cfg.model.backbone.setdefault("rgb_channels", (0, 1, 2))
    kind = f"gfnet_dense.{type_name(cfg.model.data_preprocessor)}"
    cfg.model.data_preprocessor.update(type=kind, mean=MEAN, std=STD, bgr_to_rgb=False)
    for dataset in datasets_of(cfg, "train", "val", "test"):
        dataset.pipeline = [_with_bands(each) for each in _kept(dataset.pipeline)]
        if type_name(dataset) == "CocoDataset":
            dataset.data_root = str(coco_folder(root))
        else:
            dataset.data_root = str(ade20k_folder(root))
            dataset.img_suffix = suffix_of(4)
    for split in ("val", "test"):
        if "ann_file" in cfg[f"{split}_evaluator"]:
            cfg[f"{split}_evaluator"].ann_file = str(
                coco_folder(root) / cfg[f"{split}_dataloader"].dataset.ann_file
            )
    if "tta_pipeline" in cfg:
        cfg.tta_pipeline = [_with_bands(each) for each in _kept(cfg.tta_pipeline)]


def _kept(pipeline: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each for each in pipeline if type_name(each) not in COLOR_TRANSFORMS]


def _with_bands(transform: dict[str, Any]) -> dict[str, Any]:
    """Return the transform that loads all bands in place of LoadImageFromFile, or the same one."""
    if type_name(transform) == "LoadImageFromFile":
        return dict(type="gfnet_dense.LoadImageBands")
    return transform
