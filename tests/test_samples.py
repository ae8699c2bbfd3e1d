"""Real images through the real pipelines; needs GFNET_DENSE_SAMPLES."""

import re
import shutil

import pytest
import torch

from tests.commands import run, tool
from tests.conftest import ROOT, needs_operators
from tests.published import official_state_dict


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


def test_full_size_upernet_trains_on_real_images(ade20k):
    """Crops of 512, weights in the official format, two iterations and a validation."""
    options = "train_cfg.max_iters=2 train_cfg.val_interval=2 default_hooks.logger.interval=1"
    options += " train_dataloader.num_workers=1 val_dataloader.num_workers=1"
    options += " model.backbone.init_cfg.checkpoint=gfnet-h-ti.pth model.backbone.img_size=512"
    command = tool("train", ROOT / "configs/upernet_gfnet_ade20k.py", "--cfg-options")
    result = run([*command, *options.split()], ade20k)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "resized 20 (filters and position embedding, to the grid 128x128)" in result.stdout
    losses = re.findall(r"Iter\(train\) \[\d/2\].*?loss: ([\d.]+)", result.stdout)
    assert len(losses) == 2 and all(0 < float(loss) < 20 for loss in losses)
    assert re.search(r"Iter\(val\) \[3/3\].*mIoU", result.stdout)


def test_semantic_fpn_overfits_three_real_images(ade20k):
    """GFNet-H-Ti from scratch, crops of 160: 85% of the pixels are right after 80 iterations."""
    base = ROOT / "configs" / "fpn_gfnet-h-ti_ade20k.py"
    (ade20k / "overfit.py").write_text(f'_base_ = ["{base}"]\n' + OVERFIT)
    result = run(tool("train", "overfit.py"), ade20k)
    assert result.returncode == 0, result.stderr[-3000:]
    accuracy = float(re.search(r"Iter\(val\) \[3/3\].*aAcc: ([\d.]+)", result.stdout)[1])
    assert accuracy >= 85


@needs_operators
def test_mask_rcnn_trains_on_real_images_at_full_size(samples, tmp_path):
    """Images of 800x1333, unchanged heads, two iterations and a validation."""
    config = coco_config(samples, tmp_path, "")
    options = "train_cfg.max_iters=2 train_cfg.val_interval=2 default_hooks.logger.interval=1"
    options += " train_dataloader.batch_size=1"
    options += " model.test_cfg.rcnn.score_thr=0.001"  # scores of an untrained model are low
    result = run(tool("train", config, "--cfg-options", *options.split()), tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    losses = re.findall(r"Iter\(train\) \[\d/2\].*? loss: ([\d.]+)", result.stdout)
    assert len(losses) == 2 and all(0 < float(loss) < 20 for loss in losses)
    assert re.search(r"Iter\(val\) \[2/2\].*bbox_mAP", result.stdout)


@pytest.mark.slow
@needs_operators
def test_mask_rcnn_overfits_two_real_images(samples, tmp_path):
    """From scratch, images of 640x384, neck and heads of 64 channels: 43 objects of 4 classes."""
    config = coco_config(samples, tmp_path, COCO_OVERFIT)
    result = run(tool("train", config), tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    assert float(re.search(r"bbox_mAP_50: ([\d.]+)", result.stdout)[1]) > 0.5


def coco_config(samples, folder, more):
    """Write a config of Mask R-CNN that trains and validates on the real COCO images."""
    base = ROOT / "configs" / "mask-rcnn_gfnet-h-ti_coco.py"
    root = samples / "coco-sample"
    (folder / "coco.py").write_text(f'_base_ = ["{base}"]\nroot = "{root}"\n' + COCO + more)
    return "coco.py"


COCO = """
images = dict(
    data_root=root, ann_file="annotations/instances_val2017.json", data_prefix=dict(img="val2017")
)
model = dict(backbone=dict(init_cfg=None, drop_path_rate=0.0))
train_dataloader = dict(
    num_workers=1, batch_sampler=None, sampler=dict(type="InfiniteSampler"), dataset=images
)
val_dataloader = dict(num_workers=1, dataset=images)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=root + "/annotations/instances_val2017.json", classwise=False)
test_evaluator = val_evaluator
train_cfg = dict(_delete_=True, type="IterBasedTrainLoop", max_iters=100, val_interval=100)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type="PolyLR", power=0.9, begin=30, end=100, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval=1000, by_epoch=False, save_best=None))
log_processor = dict(by_epoch=False)
randomness = dict(seed=0)
"""

COCO_OVERFIT = """
model.update(
    neck=dict(out_channels=64),
    rpn_head=dict(in_channels=64, feat_channels=64, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64),
        bbox_head=dict(in_channels=64, fc_out_channels=256),
        mask_roi_extractor=dict(out_channels=64),
        mask_head=dict(in_channels=64, conv_out_channels=64),
    ),
    train_cfg=dict(rpn_proposal=dict(max_per_img=200), rcnn=dict(sampler=dict(num=128))),
    test_cfg=dict(rpn=dict(max_per_img=200)),
)
load_image, load_annotations, _, _, pack = _base_.train_dataloader.dataset.pipeline
resize = dict(type="Resize", scale=(640, 384), keep_ratio=True)
train_dataloader["dataset"] = dict(images, pipeline=[load_image, load_annotations, resize, pack])
val_dataloader["dataset"] = dict(images, pipeline=[load_image, resize, load_annotations, pack])
optim_wrapper = dict(optimizer=dict(lr=1e-3), clip_grad=dict(max_norm=5.0))
"""

OVERFIT = """
size = (128, 128)
model = dict(
    data_preprocessor=dict(size=size),
    backbone=dict(img_size=128, drop_path_rate=0.0, init_cfg=None),
)
load_image, load_annotations, _, _, flip, _, pack = _base_.train_pipeline
resize = dict(type="Resize", scale=(512, 128), keep_ratio=True)
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
