"""Pictures of boxes."""

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from gfnet_dense.visualization.overlays import overlay_instances

pytest.importorskip("mmdet")


@pytest.mark.parametrize("kind", [tuple, list])
def test_boxes_have_the_color_of_their_class(kind):
    """Colors are lists where they were read from JSON."""
    metainfo = dict(classes=("a", "b"), palette=[kind((255, 0, 0)), kind((0, 0, 255))])
    instances = InstanceData(
        bboxes=torch.tensor([[200.0, 200.0, 600.0, 700.0]]),
        labels=torch.tensor([1]),
        scores=torch.tensor([0.9]),
    )
    picture = overlay_instances(np.zeros((900, 900, 3), np.uint8), instances, metainfo)
    edge = picture[450, 195:206].astype(int)
    assert edge[:, 2].max() > 60 and edge[:, :2].max() == 0
    assert picture[450, 300].max() == 0
