"""Shrinking detectors and their datasets, see :func:`.shrink.shrink`."""

from collections.abc import Callable
from typing import Any

from mmengine.config import Config, ConfigDict

from gfnet_dense.datasets.synthetic.writers import COCO_CATEGORIES, coco_folder
from gfnet_dense.utils.config import find_datasets

from .scaling import change_values, scale_pipeline

SHORT_SIDE = 192  # shorter side of the synthetic scenes, in pixels
BATCH_SIZE = 4
MAX_ITERS = 480
LEARNING_RATE = 1e-3  # for training from scratch
WIDTH = 64  # channels of the feature pyramid and of the heads on it
NUM_PROPOSALS = 200  # maximum number of proposals, queries and detections of an image
NUM_LAYERS = 2  # maximum number of layers of a transformer's encoder and decoder
CLASSES = tuple(category["name"] for category in COCO_CATEGORIES)
PALETTE = [(220, 20, 60), (0, 110, 230)]  # easier to tell apart than COCO's colors


def adapt(cfg: Config) -> None:
    """Adapt a detector and its datasets to the synthetic scenes, in place."""
    _shrink_datasets(cfg)
    _shrink_model(cfg.model)
    optim_wrapper = cfg.optim_wrapper
    custom_keys = optim_wrapper.setdefault("paramwise_cfg", {}).setdefault("custom_keys", {})
    # Layer scales start at 1e-3 and would not grow enough in so few steps.
    custom_keys["gamma"] = dict(lr_mult=10.0)


def _shrink_datasets(cfg: Config) -> None:
    """Point the datasets to the synthetic scenes and scale their pipelines, in place."""
    test_pipeline = find_datasets(cfg.test_dataloader.dataset)[0].pipeline
    factor = SHORT_SIDE / min(next(t.scale for t in test_pipeline if "scale" in t))
    for split, folder in (("train", "train2017"), ("val", "val2017"), ("test", "val2017")):
        loader = cfg[f"{split}_dataloader"]
        loader.dataset = find_datasets(loader.dataset)[0]
        loader.dataset.update(
            type="CocoDataset",
            metainfo=dict(classes=CLASSES, palette=PALETTE),
            data_root=str(coco_folder()),
            ann_file=f"annotations/instances_{folder}.json",
            data_prefix=dict(img=folder),
        )
        scale_pipeline(loader.dataset.pipeline, factor)
        if split != "train":
            cfg[f"{split}_evaluator"].ann_file = str(coco_folder() / loader.dataset.ann_file)


def _shrink_model(model: ConfigDict) -> None:
    """Reduce channels, anchors and proposals, and set the number of classes, in place."""
    model.backbone.drop_path_rate = 0.0  # the training is too short to overfit
    changes: dict[str, Callable[[Any], Any]] = {
        "max_per_img": _at_most_num_proposals,
        "nms_pre": _at_most_num_proposals,
        "num_queries": _at_most_num_proposals,
        "num_classes": lambda _: len(CLASSES),
        "num_layers": lambda number: min(number, NUM_LAYERS),
        "feedforward_channels": lambda channels: channels // 4,
        # Anchors get half their size. Images get a quarter of theirs, but the objects in synthetic
        # scenes are relatively large.
        "scales": lambda scales: [scale / 2 for scale in scales],
        "octave_base_scale": lambda scale: scale / 2,
    }
    change_values(model, changes)
    # Number of proposals for which the heads are trained
    change_values(model.train_cfg.get("rcnn"), {"num": lambda number: number // 4})
    if model.neck.type == "FPN":
        full = model.neck.out_channels
        keys = ("in_channels", "out_channels", "feat_channels", "conv_out_channels")
        changes = dict.fromkeys(keys, lambda channels: WIDTH if channels == full else channels)
        changes["fc_out_channels"] = lambda channels: channels * WIDTH // full
        change_values(model, changes)


def _at_most_num_proposals(number: int) -> int:
    return min(number, NUM_PROPOSALS)
