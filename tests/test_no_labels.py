"""Batches in which nothing is labeled: losses and gradients stay finite."""

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData, PixelData

from gfnet_dense.demo import shrink
from gfnet_dense.utils.config import read_config
from tests.conftest import ROOT, needs_operators

SEGMENTORS = ["upernet_gfnet_ade20k", "fpn_gfnet-h-ti_ade20k", "segformer_gfnet-h-ti_ade20k"]
DETECTORS = [
    "retinanet_gfnet-h-ti_coco", "atss_gfnet-h-ti_coco", "faster-rcnn_gfnet-h-ti_coco",
    "mask-rcnn_gfnet-h-ti_coco", "cascade-mask-rcnn_gfnet-h-ti_coco", "dino-4scale_gfnet-h-ti_coco",
]  # fmt: skip


def build(name):
    cfg = read_config(ROOT / "configs" / f"{name}.py")
    shrink(cfg)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    model.init_weights()  # DINO's constructor leaves some weights uninitialized
    return model.train()


def segmentation_samples(num_labeled):
    """Return two samples, of which the last ``num_labeled`` have labels."""
    from mmseg.structures import SegDataSample

    samples = []
    for i in range(2):
        labels = torch.full((1, 128, 128), 255)
        if i >= 2 - num_labeled:
            labels[:, :64] = 1
        sample = SegDataSample(metainfo=dict(img_shape=(128, 128), ori_shape=(128, 128)))
        sample.gt_sem_seg = PixelData(data=labels)
        samples.append(sample)
    return samples


def detection_samples(num_labeled):
    """Return two samples, of which the last ``num_labeled`` have a box."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    samples = []
    for i in range(2):
        shape = dict(img_shape=(128, 128), ori_shape=(128, 128), scale_factor=(1, 1))
        sample = DetDataSample(
            metainfo=dict(shape, batch_input_shape=(128, 128), pad_shape=(128, 128))
        )
        count = int(i >= 2 - num_labeled)
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor([[20.0, 30.0, 80.0, 90.0]])[:count],
            labels=torch.zeros(count, dtype=torch.long),
            masks=BitmapMasks(np.ones((count, 128, 128), np.uint8), 128, 128),
        )
        samples.append(sample)
    return samples


def check_loss_and_gradients(model, samples):
    inputs = [torch.randint(0, 256, (3, 128, 128), dtype=torch.uint8) for _ in samples]
    data = model.data_preprocessor({"inputs": inputs, "data_samples": samples}, True)
    loss, _ = model.parse_losses(model(**data, mode="loss"))
    assert loss.isfinite()
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


@pytest.mark.parametrize(
    "name", [*SEGMENTORS, pytest.param("mask2former_gfnet-h-ti_ade20k", marks=needs_operators)]
)
@pytest.mark.parametrize("ignored", [1, 2])
def test_loss_and_gradients_of_segmentors_are_finite_without_labels(name, ignored):
    """Nothing is labeled in one of two images, or in both."""
    check_loss_and_gradients(build(name), segmentation_samples(num_labeled=2 - ignored))


@needs_operators
@pytest.mark.parametrize("name", DETECTORS)
def test_loss_and_gradients_of_detectors_are_finite_without_boxes(name):
    check_loss_and_gradients(build(name), detection_samples(num_labeled=0))
