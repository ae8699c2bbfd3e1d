"""What :func:`.shrink.shrink` does to detectors and their data."""

from mmengine.config import Config, ConfigDict

from gfnet_dense.datasets.synthetic.writers import COCO_CATEGORIES, coco_folder
from gfnet_dense.utils.config import find_datasets

from .scaling import change_values, scale_pipeline

SHORT_SIDE = 192  # of the images, as they are drawn
BATCH_SIZE = 4
MAX_ITERS = 480
LEARNING_RATE = 1e-3  # from scratch
WIDTH = 64  # of the feature pyramid and the heads on it
NUM_PROPOSALS = 200
NUM_LAYERS = 2  # of a transformer's encoder and decoder
CLASSES = tuple(category["name"] for category in COCO_CATEGORIES)
PALETTE = [(220, 20, 60), (0, 110, 230)]  # further apart than COCO's


def adapt(cfg: Config) -> None:
    """Fit a detector and its datasets to the drawn scenes, in place."""
    _shrink_datasets(cfg)
    _shrink_model(cfg.model)
    optim_wrapper = cfg.optim_wrapper
    custom_keys = optim_wrapper.setdefault("paramwise_cfg", {}).setdefault("custom_keys", {})
    custom_keys["gamma"] = dict(lr_mult=10.0)  # few steps for layer scales that start at 1e-3


def _shrink_datasets(cfg: Config) -> None:
    """Point the datasets to drawn scenes and scale their pipelines, in place."""
    test_pipeline = find_datasets(cfg.test_dataloader.dataset)[0].pipeline
    factor = SHORT_SIDE / min(next(t.scale for t in test_pipeline if t.type == "Resize"))
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
    """Reduce widths, anchors and numbers of proposals, and set the classes, in place."""
    model.backbone.drop_path_rate = 0.0  # there is no time to overfit
    changes = dict.fromkeys(("max_per_img", "nms_pre", "num_queries"), _at_most_num_proposals)
    changes["num_classes"] = lambda _: len(CLASSES)
    changes["num_layers"] = lambda number: min(number, NUM_LAYERS)
    changes["feedforward_channels"] = lambda width: width // 4
    # Anchors of half the size: the images are a quarter of the full ones, and what is drawn on
    # them is somewhat large.
    changes["scales"] = lambda scales: [scale / 2 for scale in scales]
    changes["octave_base_scale"] = lambda scale: scale / 2
    change_values(model, changes)
    sampler = dict(num=lambda number: number // 4)  # of the proposals that the heads learn from
    change_values(model.train_cfg.get("rcnn"), sampler)
    if model.neck.type == "FPN":
        full = model.neck.out_channels
        keys = ("in_channels", "out_channels", "feat_channels", "conv_out_channels")
        changes = dict.fromkeys(keys, lambda width: WIDTH if width == full else width)
        changes["fc_out_channels"] = lambda width: width * WIDTH // full
        change_values(model, changes)


def _at_most_num_proposals(number: int) -> int:
    return min(number, NUM_PROPOSALS)
