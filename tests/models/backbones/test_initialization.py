"""Initial weights of the backbones, as in the official release."""

import pytest
import torch
from torch import nn

from gfnet_dense.models import GFNet, GlobalFilter, IsotropicGFNet
from gfnet_dense.models.backbones import isotropic

BACKBONES = {
    "hierarchical": lambda: GFNet(dict(dims=(64, 128), depths=(2, 1)), 128, out_indices=(0, 1)),
    "isotropic": lambda: IsotropicGFNet(dict(dim=64, depth=2), 128),
}


def assert_normal(tensor, std):
    """Within five standard errors of mean and standard deviation, which the seed decides."""
    n = tensor.numel()
    assert n > 1000
    assert abs(tensor.mean()) < 5 * std / n**0.5
    assert abs(tensor.std() - std) < 5 * std / (2 * n) ** 0.5


@pytest.fixture(params=BACKBONES)
def backbone(request):
    return BACKBONES[request.param]()


def all_of(backbone, kind):
    found = [module for module in backbone.modules() if isinstance(module, kind)]
    assert found
    return found


def test_filters_begin_with_a_standard_deviation_of_two_hundredths(backbone):
    for layer in all_of(backbone, GlobalFilter):
        for part in layer.complex_weight.unbind(-1):  # real and imaginary
            assert_normal(part, 0.02)
        assert layer.complex_weight.abs().max() > 0.06  # not cut off


def test_linear_layers_begin_with_a_standard_deviation_of_two_hundredths(backbone):
    for layer in all_of(backbone, nn.Linear):
        assert_normal(layer.weight, 0.02)
        assert not layer.bias.any()


def test_the_position_embedding_begins_with_a_standard_deviation_of_two_hundredths(backbone):
    assert_normal(backbone.pos_embed, 0.02)


def test_patch_embeddings_begin_as_pytorch_begins_convolutions(backbone):
    for layer in all_of(backbone, nn.Conv2d):
        bound = layer.weight[0].numel() ** -0.5
        assert 0.98 * bound < layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)


def test_norms_begin_as_the_identity(backbone):
    for layer in all_of(backbone, nn.LayerNorm):
        assert torch.all(layer.weight == 1) and not layer.bias.any()


@pytest.mark.parametrize("arch, gamma", [("h-tiny", 1e-3), ("h-small", 1e-5), ("h-base", 1e-6)])
def test_gammas_of_the_archs_begin_with_the_published_value(arch, gamma):
    for block in GFNet(arch, img_size=32, out_indices=(0,)).blocks[0]:
        assert torch.all(block.gamma == gamma)


def test_gammas_begin_with_the_value_that_is_given():
    shape = dict(dims=(8,), depths=(2,))
    for given, gamma in (({}, 1e-3), (dict(layer_scale_init_value=0.3), 0.3)):
        for block in GFNet(shape | given, img_size=32, out_indices=(0,)).blocks[0]:
            assert torch.all(block.gamma == gamma)
    arch = dict(dim=8, depth=2, layer_scale_init_value=0.3)
    assert all(torch.all(b.gamma == 0.3) for b in IsotropicGFNet(arch, img_size=32).blocks)


@pytest.mark.parametrize("arch", isotropic.ARCHS)
def test_isotropic_archs_have_no_gammas(arch):
    backbone = IsotropicGFNet(arch, img_size=32, out_indices=(0,))
    assert not [name for name, _ in backbone.named_parameters() if "gamma" in name]
