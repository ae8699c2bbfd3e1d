"""Every config of the repository trains and evaluates under --demo; a new one is covered."""

import re

import pytest
from mmengine.config import Config

from tests.conftest import ROOT
from tests.tools.test_train import SHORT, run, tool

CONFIGS = sorted((ROOT / "configs").glob("*.py"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("configs")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_trains_under_demo(path, folder):
    options = [*SHORT.split(), "train_cfg.max_iters=2", "train_cfg.val_interval=2"]
    result = run(tool("train", path, "--demo", "--cfg-options", *options), folder)
    assert result.returncode == 0, result.stderr[-3000:]
    losses = re.findall(r"Iter\(train\) \[\d/2\].*?loss: ([\d.]+)", result.stdout)
    assert len(losses) == 2 and all(0 < float(loss) < 50 for loss in losses)
    assert re.search(r"Iter\(val\) \[3/3\].*mIoU", result.stdout)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_full_size_config_is_complete(path):
    cfg = Config.fromfile(path)
    assert cfg.auto_scale_lr.base_batch_size == 16
    assert cfg.model.backbone.init_cfg.checkpoint.startswith("gfnet://")
    crop = cfg.model.data_preprocessor.size
    (random_crop,) = (t for t in cfg.train_dataloader.dataset.pipeline if t["type"] == "RandomCrop")
    assert tuple(random_crop["crop_size"]) == tuple(crop)
