"""Label maps and drawings of predictions."""

import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement, InstanceData, PixelData

from gfnet_dense.visualization.predictions import draw, label_map, write_key
from tests.conftest import needs_operators

METAINFO = dict(classes=("a", "b"), palette=[(255, 0, 0), (0, 0, 255)])


def segmented(labels):
    sample = BaseDataElement()
    sample.pred_sem_seg = PixelData(data=torch.tensor(labels)[None])
    return sample


@pytest.mark.parametrize(
    "labels, first, dtype",
    [([[0, 254]], 0, np.uint8), ([[0, 254]], 1, np.uint8), ([[0, 255]], 1, np.uint16),
     ([[3, 70_000 // 2]], 0, np.uint16)],
)  # fmt: skip
def test_label_maps_hold_all_numbers(labels, first, dtype):
    """mmsegmentation's IoUMetric writes 256 as 0."""
    found = label_map(segmented(labels), first)
    assert found.dtype == dtype and np.array_equal(found, np.array(labels) + first)


def test_the_key_has_a_line_for_each_class(tmp_path):
    write_key(["dirt track", "\u9053"], tmp_path / "deep" / "classes.txt", first=1)
    text = (tmp_path / "deep" / "classes.txt").read_text(encoding="utf-8")
    assert text == "1 dirt track\n2 \u9053\n"


@needs_operators
@pytest.mark.parametrize(
    "shown, colors", [(None, {0, 2}), ([0, 1], {0, 2}), ([1], {2}), ([], set())]
)
def test_detections_of_the_chosen_classes_are_drawn(shown, colors):
    sample = BaseDataElement()
    sample.pred_instances = InstanceData(
        bboxes=torch.tensor([[5.0, 5, 50, 50], [60, 60, 110, 90]]),
        labels=torch.tensor([0, 1]),
        scores=torch.tensor([0.9, 0.8]),
        masks=torch.zeros(2, 96, 128, dtype=torch.bool),
    )
    sample.pred_instances.masks[0, 5:50, 5:50] = True
    sample.pred_instances.masks[1, 60:90, 60:110] = True
    image = np.full((96, 128, 3), 120, np.uint8)
    drawn = draw(image, sample, METAINFO, 0.5, shown).astype(int)
    # Channels that stand out where masks are
    assert {i for i in (0, 2) if (drawn[..., i] - drawn.min(-1) > 60).mean() > 0.02} == colors


@pytest.mark.parametrize("shown, changed", [(None, 2), ([1], 1), ([], 0)])
def test_segments_of_the_chosen_classes_are_drawn(shown, changed):
    image = np.full((1, 2, 3), 120, np.uint8)
    drawn = draw(image, segmented([[0, 1]]), METAINFO, 1.0, shown)[:1]
    assert (drawn != image).any(-1).sum() == changed
