"""Any config of the repository, small enough to train in minutes on drawn scenes."""

from mmengine.config import Config

from gfnet_dense.datasets.synthetic import write_ade20k, write_coco
from gfnet_dense.utils.errors import InputError

from . import shrink_detection, shrink_segmentation


def shrink(cfg: Config) -> None:
    """Turn a full-size config into its demo, in place.

    Points the datasets to the drawn ones, and reduces images, heads, batch and schedule; the
    backbone keeps its arch and starts from scratch. Nothing is drawn here.

    Args:
        cfg: A config of this repository for segmentation or detection.

    Raises:
        InputError: If the config is built in another way.
    """
    try:
        _shrink(cfg)
    except (AttributeError, KeyError, StopIteration) as e:
        raise InputError(
            f"--demo is for configs built like those in configs/: {cfg.filename} lacks what they "
            f"have ({type(e).__name__}: {e})"
        ) from e


def write_data(cfg: Config) -> None:
    """Write the synthetic scenes that the demo of a config takes, unless they are there already."""
    write_coco() if cfg.default_scope == "mmdet" else write_ade20k()


def _shrink(cfg: Config) -> None:
    kind = shrink_detection if cfg.default_scope == "mmdet" else shrink_segmentation
    kind.adapt(cfg)
    cfg.model.backbone.pop("init_cfg", None)
    cfg.optim_wrapper.optimizer.lr = kind.LEARNING_RATE
    # What is milder for a pretrained backbone does not suit one from scratch.
    cfg.optim_wrapper.get("paramwise_cfg", {}).get("custom_keys", {}).pop("backbone", None)
    cfg.train_dataloader.batch_size = kind.BATCH_SIZE
    for split in ("train", "val", "test"):
        cfg[f"{split}_dataloader"].num_workers = 1
    _shrink_schedule(cfg, kind.MAX_ITERS)
    cfg.custom_hooks = [
        *cfg.get("custom_hooks", []),
        dict(type="gfnet_dense.ContactSheetHook"),
        dict(type="gfnet_dense.CurvesHook"),
    ]
    cfg.randomness = dict(seed=0)


def _shrink_schedule(cfg: Config, max_iters: int) -> None:
    """Count in iterations, whatever the full-size config counts in."""
    warm_up = max_iters // 10
    cfg.train_cfg = dict(
        type="IterBasedTrainLoop", max_iters=max_iters, val_interval=max_iters // 3
    )
    cfg.train_dataloader.sampler = dict(type="InfiniteSampler", shuffle=True)
    cfg.param_scheduler = [
        dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=warm_up),
        dict(type="PolyLR", power=0.9, begin=warm_up, end=max_iters, by_epoch=False),
    ]
    cfg.default_hooks.logger.update(interval=20, log_metric_by_epoch=False)
    cfg.default_hooks.checkpoint.update(interval=max_iters // 6, by_epoch=False)
    cfg.log_processor.by_epoch = False
