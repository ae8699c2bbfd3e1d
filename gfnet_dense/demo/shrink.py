"""Shrinking any config of this project until it trains within minutes on synthetic scenes."""

from mmengine.config import Config, ConfigDict

from gfnet_dense.datasets.synthetic import write_ade20k, write_coco
from gfnet_dense.datasets.synthetic.near_infrared import draw_four_bands
from gfnet_dense.models.backbones.hornet import ARCHS as HORNETS
from gfnet_dense.utils.errors import InputError

from . import shrink_detection, shrink_segmentation
from .bands import FOUR_BANDS, match_bands, scenes_root

MAX_HORNET_DEPTH = 3  # blocks of a stage; the published HorNets have 18 in the third


def shrink(cfg: Config) -> None:
    """Turn a full-size config into its demo, in place.

    The demo uses synthetic datasets, and smaller images, heads and batches, and a shorter schedule.
    The backbone keeps its arch but is not pretrained; a HorNet keeps its widths and gets fewer
    blocks. :func:`write_data` writes the datasets.

    Args:
        cfg: A config of this project for segmentation or detection.

    Raises:
        InputError: If the config lacks settings that the configs of this project have.
    """
    try:
        _shrink(cfg)
    except (AttributeError, KeyError, StopIteration) as e:
        raise InputError(
            f"--demo is for configs built like those in configs/: {cfg.filename} lacks what they "
            f"have ({type(e).__name__}: {e})"
        ) from e


def write_data(cfg: Config) -> None:
    """Write the synthetic dataset for the demo of a config, unless it exists already."""
    root = scenes_root(cfg)
    write = write_coco if cfg.default_scope == "mmdet" else write_ade20k
    write(root, draw=draw_four_bands if root == FOUR_BANDS else None)


def _shrink(cfg: Config) -> None:
    kind = shrink_detection if cfg.default_scope == "mmdet" else shrink_segmentation
    kind.adapt(cfg)
    cfg.model.backbone.pop("init_cfg", None)
    if cfg.model.backbone.type == "gfnet_dense.HorNet":
        _shorten(cfg.model.backbone)
    cfg.optim_wrapper.optimizer.lr = kind.LEARNING_RATE
    # Lower learning rates for the backbone are only meant for pretrained weights.
    paramwise_cfg = cfg.optim_wrapper.get("paramwise_cfg", {})
    paramwise_cfg.pop("decay_rate", None)
    paramwise_cfg.get("custom_keys", {}).pop("backbone", None)
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
    match_bands(cfg)


def _shorten(backbone: ConfigDict) -> None:
    """Reduce the blocks of a HorNet's stages, and fit it for a short training, in place."""
    backbone.drop_path_rate = 0.0  # the training is too short to overfit
    arch = backbone.get("arch", "tiny-gf")
    arch = HORNETS.get(arch) if isinstance(arch, str) else arch
    if arch:  # HorNet itself refuses an unknown name
        depths = tuple(min(depth, MAX_HORNET_DEPTH) for depth in arch["depths"])
        # Layer scales start at 1e-6 otherwise, and the gated convolutions would hardly learn.
        backbone.arch = dict(arch, depths=depths, layer_scale_init_value=0.1)


def _shrink_schedule(cfg: Config, max_iters: int) -> None:
    """Set a schedule in iterations, even if the full-size config counts in epochs, in place."""
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
