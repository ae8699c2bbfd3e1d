"""Any config of the repository, small enough to train in minutes on drawn scenes."""

from pathlib import Path

from mmengine.config import Config, ConfigDict

from ..data_check import find_datasets
from .dataset import write_ade20k
from .scenes import ADE_INDEX

DATA_ROOT = Path("data/demo")
CROP = 128  # of the shorter side
BATCH_SIZE = 4
MAX_ITERS = 720
LEARNING_RATE = 2e-3  # from scratch
DECODER_DIM = 64


def shrink(cfg: Config) -> None:
    """Turn a full-size config into its demo, in place.

    Draws the demo data (once, ``data/demo``), points the datasets to it, and reduces crop, decoder
    width, batch and schedule; the backbone keeps its arch and starts from scratch.

    Args:
        cfg: A config of this repository for semantic segmentation.
    """
    data_root = write_ade20k(DATA_ROOT)
    factor = CROP / min(cfg.model.data_preprocessor.size)
    _shrink_datasets(cfg, data_root, factor)
    _shrink_model(cfg.model, factor)
    _shrink_schedule(cfg)
    cfg.custom_hooks = [
        *cfg.get("custom_hooks", []),
        dict(type="gfnet_dense.ContactSheetHook"),
        dict(type="gfnet_dense.CurvesHook"),
    ]
    cfg.randomness = dict(seed=0)


def _shrink_datasets(cfg: Config, data_root: Path, factor: float) -> None:
    folders = {"train": "training", "val": "validation", "test": "validation"}
    for split, folder in folders.items():
        loader = cfg[f"{split}_dataloader"]
        loader.num_workers = 1
        for dataset in find_datasets(loader.dataset):
            _scale_pipeline(dataset.pipeline, factor)
            pipeline = dataset.pipeline
            dataset.clear()
            dataset.update(
                type="ADE20KDataset",
                metainfo=dict(classes=_demo_classes()),
                data_root=str(data_root),
                data_prefix=dict(img_path=f"images/{folder}", seg_map_path=f"annotations/{folder}"),
                reduce_zero_label=True,
                pipeline=pipeline,
            )
    cfg.train_dataloader.batch_size = BATCH_SIZE
    if "tta_pipeline" in cfg:
        _scale_pipeline(cfg.tta_pipeline, factor)


def _demo_classes() -> list[str]:
    """Return the names of the drawn classes, in ADE20K's order."""
    from mmseg.datasets import ADE20KDataset

    return [ADE20KDataset.METAINFO["classes"][i - 1] for i in sorted(ADE_INDEX.values()) if i]


def _scale_pipeline(node, factor: float) -> None:
    """Scale every ``scale`` and ``crop_size`` in nested lists of transforms."""
    if isinstance(node, (list, tuple)):
        for each in node:
            _scale_pipeline(each, factor)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key in ("scale", "crop_size"):
                node[key] = _scale_size(value, factor)
            else:
                _scale_pipeline(value, factor)


def _scale_size(size: int | tuple, factor: float) -> int | tuple:
    if isinstance(size, int):
        return round(size * factor)
    return tuple(round(n * factor) for n in size)


def _shrink_model(model: ConfigDict, factor: float) -> None:
    model.data_preprocessor.size = _scale_size(model.data_preprocessor.size, factor)
    model.backbone.img_size = _scale_size(model.backbone.img_size, factor)
    model.backbone.pop("init_cfg", None)
    for key in ("decode_head", "auxiliary_head"):
        head = model.get(key)
        if head is not None:
            head.channels = min(head.channels, DECODER_DIM)
            head.num_classes = len(_demo_classes())
    for key in ("crop_size", "stride"):
        if key in model.test_cfg:
            model.test_cfg[key] = _scale_size(model.test_cfg[key], factor)


def _shrink_schedule(cfg: Config) -> None:
    warm_up = MAX_ITERS // 10
    cfg.train_cfg.update(max_iters=MAX_ITERS, val_interval=MAX_ITERS // 3)
    cfg.optim_wrapper.optimizer.lr = LEARNING_RATE
    cfg.param_scheduler = [
        dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=warm_up),
        dict(type="PolyLR", power=0.9, begin=warm_up, end=MAX_ITERS, by_epoch=False),
    ]
    cfg.default_hooks.logger.interval = 20
    cfg.default_hooks.checkpoint.interval = MAX_ITERS // 6
