"""Maps have the memory format of the images: channels last stays channels last."""

import pytest
import torch

from gfnet_dense.models import GFNet, HorNet, IsotropicGFNet
from tests.conftest import TINY


def backbone(name):
    if name == "isotropic":
        arch = dict(dim=16, depth=2, layer_scale_init_value=0.5)
        return IsotropicGFNet(arch, img_size=64, out_indices=(0, 1))
    if name == "hornet":
        arch = dict(dims=(4, 8, 16, 32), depths=(1, 1, 1, 1), layer_scale_init_value=0.5)
        return HorNet(arch, img_size=64)
    return GFNet(TINY, img_size=64)


@pytest.mark.parametrize("name", ["hierarchical", "isotropic", "hornet"])
@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("grad", [False, True])
def test_maps_have_the_memory_format_and_numbers_of_the_images(name, train, grad):
    net, x = backbone(name).train(train), torch.randn(2, 3, 70, 101)
    with torch.set_grad_enabled(grad):
        torch.manual_seed(1)  # of drop path
        plain = net(x)
        net.to(memory_format=torch.channels_last)
        torch.manual_seed(1)
        last = net(x.to(memory_format=torch.channels_last))
    for y, other in zip(plain, last, strict=True):
        assert y.is_contiguous()
        assert other.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(other, y, rtol=1e-4, atol=1e-5)


def test_a_convolution_behind_a_channels_last_backbone_copies_nothing():
    net = backbone("hierarchical").to(memory_format=torch.channels_last)
    y = net(torch.randn(1, 3, 64, 64).to(memory_format=torch.channels_last))[0]
    assert y.to(memory_format=torch.channels_last).data_ptr() == y.data_ptr()
