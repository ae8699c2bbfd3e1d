from copy import deepcopy

import pytest
from mmengine.config import Config

from gfnet_dense.datasets.synthetic import writers
from gfnet_dense.demo import shrink, shrink_detection, write_ade20k, write_coco
from gfnet_dense.demo.scaling import scale_pipeline
from gfnet_dense.demo.shrink_segmentation import BATCH_SIZE, CROP, DECODER_DIM
from gfnet_dense.models.backbones.hornet import ARCHS
from tests.conftest import ROOT

HORNETS = sorted((ROOT / "configs").glob("*_hornet*.py"))
DETECTORS = sorted((ROOT / "configs").glob("*_coco*.py"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Work in an empty folder, and let the writers write one scene for each split."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(writers, "NUM_IMAGES", {"training": 1, "validation": 1})
    monkeypatch.setattr(writers, "NUM_COCO_IMAGES", {"train2017": 1, "val2017": 1})
    return tmp_path


def config(name):
    return Config.fromfile(ROOT / "configs" / f"{name}.py")


def transform(pipeline, name):
    (found,) = (t for t in pipeline if t["type"] == name)
    return found


def values_of(node, key):
    """Yield all values of a key in nested dicts and lists."""
    if isinstance(node, (list, tuple)):
        for each in node:
            yield from values_of(each, key)
    elif isinstance(node, dict):
        for name, value in node.items():
            if name == key:
                yield value
            else:
                yield from values_of(value, key)


def test_shrink_reduces_a_segmentor_and_keeps_other_settings(folder):
    cfg = config("upernet_gfnet_ade20k")
    full = deepcopy(cfg)
    shrink(cfg)
    assert not any(folder.iterdir())  # no data are written
    write_ade20k()
    train = cfg.train_dataloader
    assert (folder / train.dataset.data_root / train.dataset.data_prefix.img_path).is_dir()
    assert train.batch_size == BATCH_SIZE
    assert transform(train.dataset.pipeline, "RandomCrop")["crop_size"] == (CROP, CROP)
    assert transform(train.dataset.pipeline, "RandomResize")["scale"] == (4 * CROP, CROP)
    assert transform(cfg.test_dataloader.dataset.pipeline, "Resize")["scale"] == (4 * CROP, CROP)
    assert cfg.tta_pipeline[1]["transforms"][0][2]["scale"] == (4 * CROP, CROP)
    assert cfg.model.data_preprocessor.size == (CROP, CROP)
    assert cfg.model.backbone.img_size == 224 * CROP // 512 and "init_cfg" not in cfg.model.backbone
    assert cfg.model.backbone.arch == full.model.backbone.arch
    for head in (cfg.model.decode_head, cfg.model.auxiliary_head):
        assert head.channels == DECODER_DIM
        assert head.num_classes == len(train.dataset.metainfo.classes) == 11
    assert cfg.train_cfg.max_iters < 1000
    assert cfg.param_scheduler[-1]["end"] == cfg.train_cfg.max_iters
    # Other settings are those of the full-size config
    assert cfg.model.decode_head.type == full.model.decode_head.type
    assert cfg.optim_wrapper.optimizer == full.optim_wrapper.optimizer | dict(
        lr=cfg.optim_wrapper.optimizer.lr
    )


def test_shrink_reduces_mask_rcnn_and_keeps_other_settings(folder):
    cfg = config("mask-rcnn_gfnet-h-ti_coco")
    full = deepcopy(cfg)
    shrink(cfg)
    assert not any(folder.iterdir())
    write_coco()
    for split, name in (("train", "train2017"), ("val", "val2017"), ("test", "val2017")):
        data = cfg[f"{split}_dataloader"].dataset
        assert (folder / data.data_root / data.data_prefix.img / "000000000001.jpg").is_file()
        assert (folder / data.data_root / data.ann_file).is_file() and name in data.ann_file
        assert transform(data.pipeline, "Resize")["scale"] == (320, 192)  # 1333 x 800 times 0.24
        assert data.metainfo.classes == ("person", "car")
    assert (folder / cfg.val_evaluator.ann_file).samefile(folder / data.data_root / data.ann_file)
    model, whole = cfg.model, full.model
    del whole.backbone["init_cfg"]
    assert model.backbone == whole.backbone | dict(drop_path_rate=0.0)
    assert model.neck == whole.neck | dict(out_channels=64)
    assert list(values_of(model, "num_classes")) == [2, 2]
    assert model.rpn_head.anchor_generator.scales == [4]
    assert model.rpn_head.anchor_generator.strides == whole.rpn_head.anchor_generator.strides
    assert model.roi_head.bbox_head.fc_out_channels == 256
    widths = ("in_channels", "feat_channels", "out_channels", "conv_out_channels")
    for head in (model.rpn_head, model.roi_head):
        assert {width for key in widths for width in values_of(head, key)} == {64}
    for part, number in (("rpn", 256), ("rcnn", 128)):
        assert model.train_cfg[part].sampler == whole.train_cfg[part].sampler | dict(num=number)
    assert cfg.train_cfg == dict(
        type="IterBasedTrainLoop",
        max_iters=shrink_detection.MAX_ITERS,
        val_interval=shrink_detection.MAX_ITERS // 3,
    )
    assert cfg.param_scheduler[-1]["end"] == cfg.train_cfg.max_iters
    assert not any(s.get("by_epoch", True) for s in cfg.param_scheduler)


@pytest.mark.parametrize("path", DETECTORS, ids=lambda path: path.stem)
def test_every_shrunken_detector_fits_the_synthetic_data(path):
    cfg = Config.fromfile(path)
    full = deepcopy(cfg)
    shrink(cfg)
    assert set(values_of(cfg.model, "num_classes")) == {2}
    if cfg.model.neck.type == "FPN":
        for key in ("rpn_head", "roi_head", "bbox_head"):
            assert set(values_of(cfg.model.get(key), "in_channels")) <= {
                cfg.model.neck.out_channels
            }
    assert cfg.train_dataloader.dataset.pipeline != full.train_dataloader.dataset.pipeline
    sides = [side for scales in values_of(cfg.train_dataloader, "scales") for side in scales]
    for scale in [*values_of(cfg.train_dataloader, "scale"), *sides]:
        assert 60 <= min(scale) <= 192
    assert cfg.model.type == full.model.type
    if "_hornet" not in path.stem:
        assert cfg.model.backbone.arch == full.model.backbone.arch
    assert "init_cfg" not in cfg.model.backbone


@pytest.mark.parametrize("path", HORNETS, ids=lambda path: path.stem)
def test_shrunken_hornets_keep_their_widths_and_have_fewer_blocks(path):
    cfg = Config.fromfile(path)
    backbone, optim_wrapper = deepcopy(cfg.model.backbone), deepcopy(cfg.optim_wrapper)
    shrink(cfg)
    shrunken = cfg.model.backbone
    expected = dict(depths=(2, 3, 3, 2), layer_scale_init_value=0.1)
    assert shrunken.arch == ARCHS[backbone.arch] | expected
    assert (shrunken.filter_resize, shrunken.drop_path_rate) == ("bilinear", 0.0)
    assert ARCHS[backbone.arch]["depths"] == (2, 3, 18, 2)
    # Training from scratch, the backbone has the learning rate of the heads.
    assert "decay_rate" in optim_wrapper.paramwise_cfg
    assert "decay_rate" not in cfg.optim_wrapper.paramwise_cfg
    assert "backbone" not in cfg.optim_wrapper.paramwise_cfg.get("custom_keys", {})


@pytest.mark.parametrize(
    ("arch", "expected"),
    [
        (
            dict(dims=(8, 16), depths=(1, 9)),
            dict(dims=(8, 16), depths=(1, 3), layer_scale_init_value=0.1),
        ),
        ("tny-gf", "tny-gf"),  # for the error of the backbone itself
    ],
)
def test_arch_of_a_hornet_may_be_given_as_a_dict(arch, expected):
    cfg = config("upernet_hornet-tiny-gf_ade20k")
    cfg.model.backbone.arch = arch
    shrink(cfg)
    assert cfg.model.backbone.arch == expected


def test_sizes_in_nested_transforms_are_scaled():
    pipeline = [
        dict(type="Resize", scale=(1333, 800), keep_ratio=True),
        dict(
            type="RandomChoice",
            transforms=[[dict(scales=[(100, 50), (200, 60)])], [dict(crop_size=10, prob=0.5)]],
        ),
    ]
    scale_pipeline(pipeline, 0.1)
    assert pipeline == [
        dict(type="Resize", scale=(133, 80), keep_ratio=True),
        dict(
            type="RandomChoice",
            transforms=[[dict(scales=[(10, 5), (20, 6)])], [dict(crop_size=1, prob=0.5)]],
        ),
    ]
