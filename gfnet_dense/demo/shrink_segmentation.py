"""Shrinking segmentors and their datasets, see :func:`.shrink.shrink`."""

from mmengine.config import Config, ConfigDict

from gfnet_dense.datasets.synthetic.scenes import ADE_INDEX
from gfnet_dense.datasets.synthetic.writers import ade20k_folder
from gfnet_dense.utils.config import find_datasets

from .scaling import scale_pipeline, scale_size

CROP = 128  # shorter side of the training crop, in pixels
BATCH_SIZE = 4
MAX_ITERS = 720
LEARNING_RATE = 2e-3  # for training from scratch
DECODER_DIM = 64  # maximum number of channels of the heads


def adapt(cfg: Config) -> None:
    """Adapt a segmentor and its datasets to the synthetic scenes, in place."""
    _shrink_datasets(cfg)
    _shrink_model(cfg.model)


def _shrink_datasets(cfg: Config) -> None:
    """Point the datasets to the synthetic scenes and scale their pipelines, in place."""
    factor = _scale_factor(cfg.model)
    folders = {"train": "training", "val": "validation", "test": "validation"}
    for split, folder in folders.items():
        loader = cfg[f"{split}_dataloader"]
        pipeline = find_datasets(loader.dataset)[0].pipeline
        scale_pipeline(pipeline, factor)
        loader.dataset = ConfigDict(
            type="ADE20KDataset",
            metainfo=dict(classes=demo_classes()),
            data_root=str(ade20k_folder()),
            data_prefix=dict(img_path=f"images/{folder}", seg_map_path=f"annotations/{folder}"),
            reduce_zero_label=True,
            pipeline=pipeline,
        )
    if "tta_pipeline" in cfg:
        scale_pipeline(cfg.tta_pipeline, factor)


def _shrink_model(model: ConfigDict) -> None:
    """Reduce crop and channels of the heads, and set their number of classes, in place."""
    factor, num_classes = _scale_factor(model), len(demo_classes())
    model.data_preprocessor.size = scale_size(model.data_preprocessor.size, factor)
    model.backbone.img_size = scale_size(model.backbone.get("img_size", 224), factor)
    for key in ("decode_head", "auxiliary_head"):
        heads = model.get(key, [])
        for head in heads if isinstance(heads, list) else [heads]:
            if "channels" in head:
                head.channels = min(head.channels, DECODER_DIM)
            head.num_classes = num_classes
            if "loss_cls" in head:  # heads with queries have "no object" as an additional class
                head.loss_cls.class_weight = [1.0] * num_classes + [0.1]
    for key in ("crop_size", "stride"):
        if key in model.test_cfg:
            model.test_cfg[key] = scale_size(model.test_cfg[key], factor)


def _scale_factor(model: ConfigDict) -> float:
    """Return the factor from the full-size training crop to that of the demo."""
    return CROP / min(model.data_preprocessor.size)


def demo_classes() -> list[str]:
    """Return the names of the classes in synthetic scenes, in ADE20K's order."""
    from mmseg.datasets import ADE20KDataset

    return [ADE20KDataset.METAINFO["classes"][i - 1] for i in sorted(ADE_INDEX.values()) if i]
