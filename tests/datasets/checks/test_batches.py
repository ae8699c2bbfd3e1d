"""Images of several sizes in a batch, in training and evaluation, and training without labels."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.models import SegDataPreProcessor
from mmseg.structures import SegDataSample

from gfnet_dense.datasets.checks.batches import check_evaluated_sizes, explained
from gfnet_dense.utils.errors import InputError


def loader(sizes, batch_size):
    dataset = [dict(inputs=torch.zeros(3, *size, dtype=torch.uint8)) for size in sizes]
    return SimpleNamespace(dataset=dataset, batch_size=batch_size)


def test_images_to_evaluate_have_one_size_or_come_one_by_one():
    preprocessor = SegDataPreProcessor()
    check_evaluated_sizes(loader([(4, 5), (6, 5)], 1), preprocessor)
    check_evaluated_sizes(loader([(4, 5)] * 100, 4), preprocessor)
    check_evaluated_sizes(loader([(4, 5), (6, 5)], 4), None)  # a detector's pads
    with pytest.raises(InputError, match=r"5x4 and 5x6 pixels are evaluated in batches of 4"):
        check_evaluated_sizes(loader([(4, 5)] * 99 + [(6, 5)], 4), preprocessor)


@pytest.mark.parametrize("training", [True, False])
def test_what_mmsegmentation_says_of_several_sizes_is_explained(training):
    size = (4, 4) if training else None
    preprocessor = SegDataPreProcessor(size=size)
    inputs = [torch.zeros(3, 4, 5), torch.zeros(3, 6, 5)]
    batch = dict(inputs=inputs, data_samples=[SegDataSample(), SegDataSample()])
    for sample, size_of_labels in zip(batch["data_samples"], [(4, 5), (6, 5)], strict=True):
        sample.gt_sem_seg = PixelData(data=torch.zeros(1, *size_of_labels))
    with pytest.raises(InputError, match="have different sizes: (let the pipeline|set batch_size)"):
        with explained():
            preprocessor(batch, training)


def test_training_without_label_maps_is_explained():
    with pytest.raises(InputError, match="needs LoadAnnotations"), explained():
        SegDataSample().gt_sem_seg  # noqa: B018
    with pytest.raises(AttributeError, match="shapes"), explained():
        np.zeros(3).shapes  # noqa: B018
