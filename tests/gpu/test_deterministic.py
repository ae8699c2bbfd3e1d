"""Training under ``torch.use_deterministic_algorithms``, which mmengine's settings can demand."""

import copy

import pytest
import torch

from gfnet_dense.models import GFNet
from gfnet_dense.models.utils.filter_resize import FILTER_RESIZE_MODES
from tests.conftest import TINY


@pytest.fixture(autouse=True)
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def backbone_and_images(device, **kwargs):
    model = GFNet(TINY, img_size=64, drop_path_rate=0.0, **kwargs).to(device)
    return model, torch.randn(2, 3, 75, 109, device=device)


def gradients(model, images):
    sum(out.pow(2).sum() for out in model(images)).backward()
    return [parameter.grad for parameter in model.parameters()]


@pytest.mark.parametrize(
    "kwargs",
    [*(dict(filter_resize=mode) for mode in FILTER_RESIZE_MODES), dict(border="reflect")],
    ids=str,
)
def test_the_backbone_trains_and_repeats_its_gradients_bit_for_bit(device, kwargs):
    model, images = backbone_and_images(device, **kwargs)
    first, second = (gradients(copy.deepcopy(model), images) for _ in range(2))
    for found, expected in zip(second, first, strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_the_filters_are_those_of_other_trainings_up_to_rounding(device, mode):
    model, images = backbone_and_images(device, filter_resize=mode)
    with_matrices = model(images)
    torch.use_deterministic_algorithms(False)
    for found, expected in zip(with_matrices, model(images), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
