"""Real images through the real pipelines; needs GFNET_DENSE_SAMPLES."""

import re
import shutil

import pytest
import torch

from tests.conftest import ROOT
from tests.published import official_state_dict
from tests.tools.test_train import run, tool


@pytest.fixture
def ade20k(samples, tmp_path):
    """The ADE20K layout with three real images for training and validation, and weights."""
    root = tmp_path / "data" / "ade" / "ADEChallengeData2016"
    for kind in ("images", "annotations"):
        for split in ("training", "validation"):
            source = samples / "ade20k-sample" / kind / "validation"
            shutil.copytree(source, root / kind / split)
    state = official_state_dict((64, 128, 256, 512), (3, 3, 10, 3))
    torch.save({"model": state}, tmp_path / "gfnet-h-ti.pth")
    return tmp_path


def test_full_size_main_job_starts(ade20k):
    """The whole 512-crop model, official weights in, two iterations and a validation."""
    options = "train_cfg.max_iters=2 train_cfg.val_interval=2 default_hooks.logger.interval=1"
    options += " train_dataloader.num_workers=1 val_dataloader.num_workers=1"
    options += " model.backbone.init_cfg.checkpoint=gfnet-h-ti.pth"
    command = tool("train", ROOT / "configs/upernet_gfnet_ade20k.py", "--cfg-options")
    result = run([*command, *options.split()], ade20k)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "resized 20 (filters and position embedding, to the grid 128x128)" in result.stdout
    losses = re.findall(r"Iter\(train\) \[\d/2\].*?loss: ([\d.]+)", result.stdout)
    assert len(losses) == 2 and all(0 < float(loss) < 20 for loss in losses)
    assert re.search(r"Iter\(val\) \[3/3\].*mIoU", result.stdout)


def test_three_real_images_are_learnt_by_heart(ade20k):
    """Semantic FPN on H-Ti from scratch, crop 256: 85 % of the pixels in well under 300 steps."""
    base = ROOT / "configs" / "fpn_gfnet-h-ti_ade20k.py"
    (ade20k / "by_heart.py").write_text(f'_base_ = ["{base}"]\n' + BY_HEART)
    result = run(tool("train", "by_heart.py"), ade20k)
    assert result.returncode == 0, result.stderr[-3000:]
    accuracy = float(re.search(r"Iter\(val\) \[3/3\].*aAcc: ([\d.]+)", result.stdout)[1])
    assert accuracy >= 85


BY_HEART = """
size = (256, 256)
model = dict(
    data_preprocessor=dict(size=size),
    backbone=dict(img_size=256, drop_path_rate=0.0, init_cfg=None),
)
load_image, load_annotations, _, _, flip, _, pack = _base_.train_pipeline
resize = dict(type="Resize", scale=(1024, 256), keep_ratio=True)
crop = dict(type="RandomCrop", crop_size=size)
train_pipeline = [load_image, load_annotations, resize, crop, flip, pack]
train_dataloader = dict(batch_size=3, num_workers=1, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(
    num_workers=1, dataset=dict(pipeline=[load_image, resize, load_annotations, pack])
)
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(max_iters=80, val_interval=80)
param_scheduler = [dict(type="PolyLR", power=0.9, begin=0, end=80, by_epoch=False)]
randomness = dict(seed=0)
"""
