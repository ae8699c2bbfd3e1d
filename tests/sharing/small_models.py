"""Small models that were never trained, with the configs of the project."""

import torch

from gfnet_dense import load_model
from gfnet_dense.utils.config import read_config
from tests.conftest import TINY

SEGMENTOR, DETECTOR = "fpn_gfnet-h-ti_ade20k", "retinanet_gfnet-h-ti_coco"


def small_config(name=SEGMENTOR, classes=None):
    """Return a config with a tiny backbone, perhaps of a data set of one's own."""
    cfg = read_config(name)
    cfg.model.backbone.arch = TINY
    first = 0 if name == SEGMENTOR else 1
    cfg.model.neck.in_channels = list(TINY["dims"])[first:]
    shrink_images(cfg)
    if classes:
        cfg.model.decode_head.num_classes = len(classes)
        dataset = cfg.test_dataloader.dataset
        dataset.type = "BaseSegDataset"
        dataset.metainfo = dict(
            classes=classes, palette=[(9 * i, 0, 255) for i in range(len(classes))]
        )
    return cfg


def shrink_images(cfg):
    """Let the test pipeline of a config resize images to 64 pixels on the shorter side."""
    for transform in cfg.test_dataloader.dataset.pipeline:
        if transform["type"] == "Resize":
            transform["scale"] = (256, 64)


def small_model(name=SEGMENTOR, classes=None):
    """Return a model of a :func:`small_config` with random weights, norms of features included."""
    torch.manual_seed(0)
    model = load_model(small_config(name, classes), None)
    for module in model.modules():
        if hasattr(module, "running_mean"):
            module.running_mean.normal_()
    return model
