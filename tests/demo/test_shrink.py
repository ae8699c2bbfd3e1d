from copy import deepcopy

import pytest
from mmengine.config import Config

from gfnet_dense.demo import dataset, shrink
from gfnet_dense.demo.shrink import BATCH_SIZE, CROP, DECODER_DIM
from tests.conftest import ROOT


@pytest.fixture
def cfg(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dataset, "NUM_IMAGES", {"training": 1, "validation": 1})
    return Config.fromfile(ROOT / "configs" / "upernet_gfnet_ade20k.py")


def transform(pipeline, name):
    (found,) = (t for t in pipeline if t["type"] == name)
    return found


def test_shrink(cfg, tmp_path):
    full = deepcopy(cfg)
    shrink(cfg)
    train = cfg.train_dataloader
    assert (tmp_path / train.dataset.data_root / train.dataset.data_prefix.img_path).is_dir()
    assert train.batch_size == BATCH_SIZE
    assert transform(train.dataset.pipeline, "RandomCrop")["crop_size"] == (CROP, CROP)
    assert transform(train.dataset.pipeline, "RandomResize")["scale"] == (4 * CROP, CROP)
    assert transform(cfg.test_dataloader.dataset.pipeline, "Resize")["scale"] == (4 * CROP, CROP)
    assert cfg.tta_pipeline[1]["transforms"][0][2]["scale"] == (4 * CROP, CROP)
    assert cfg.model.data_preprocessor.size == (CROP, CROP)
    assert cfg.model.backbone.img_size == CROP and "init_cfg" not in cfg.model.backbone
    assert cfg.model.backbone.arch == full.model.backbone.arch
    for head in (cfg.model.decode_head, cfg.model.auxiliary_head):
        assert head.channels == DECODER_DIM
        assert head.num_classes == len(train.dataset.metainfo.classes) == 11
    assert cfg.train_cfg.max_iters < 1000
    assert cfg.param_scheduler[-1]["end"] == cfg.train_cfg.max_iters
    # what is not named above is the full-size config's
    assert cfg.model.decode_head.type == full.model.decode_head.type
    assert cfg.optim_wrapper.paramwise_cfg == full.optim_wrapper.paramwise_cfg
