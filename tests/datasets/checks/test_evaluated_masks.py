"""Masks that are measured, and a detector that predicts boxes alone."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.structures import InstanceData

from gfnet_dense.datasets.checks.evaluated_masks import check_evaluated_masks
from gfnet_dense.utils.errors import InputError


def metric(*names):
    return SimpleNamespace(metrics=list(names))


def sample(**instances):
    return SimpleNamespace(pred_instances=InstanceData(**instances))


BOXES = dict(bboxes=torch.zeros(2, 4), scores=torch.ones(2))
NONE = dict(bboxes=torch.zeros(0, 4))


@pytest.mark.parametrize("metrics", [[metric("segm")], [metric("bbox"), metric("bbox", "segm")]])
@pytest.mark.parametrize("first", [BOXES, NONE])
def test_boxes_alone_are_refused_where_masks_are_measured(metrics, first):
    with pytest.raises(InputError, match="measures masks .*set metric='bbox'"):
        check_evaluated_masks(metrics, [sample(**first), sample(**first)])


@pytest.mark.parametrize(
    ("metrics", "predicted"),
    [
        ([metric("segm")], [sample(**BOXES, masks=torch.zeros(2, 4, 4))]),
        ([metric("segm")], [sample(**NONE, masks=torch.zeros(0, 4, 4))]),
        ([metric("bbox")], [sample(**BOXES)]),
        ([SimpleNamespace()], [sample(**BOXES)]),  # other metrics
        ([SimpleNamespace(metrics="segm")], [sample(**BOXES)]),
        ([metric("segm")], [SimpleNamespace(pred_sem_seg=0)]),  # other samples
        ([metric("segm")], []),
        ([metric("segm")], torch.zeros(4)),
        ([metric("segm")], None),
    ],
)
def test_all_else_passes(metrics, predicted):
    check_evaluated_masks(metrics, predicted)
