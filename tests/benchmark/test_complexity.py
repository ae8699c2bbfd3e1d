from math import log2

import pytest
import torch
from mmengine.config import Config
from torch import nn

from gfnet_dense.benchmark.complexity import Complexity, count_flops
from gfnet_dense.benchmark.whole_model import build_model
from gfnet_dense.models import GFNet, IsotropicGFNet
from gfnet_dense.models.layers.global_filter import GlobalFilter
from gfnet_dense.models.layers.spectral import next_fast_length
from tests.conftest import ROOT, TINY

TWO_STAGES = dict(dims=(2, 4), depths=(1, 1))


def two_stages(**kwargs) -> GFNet:
    return GFNet(TWO_STAGES, img_size=32, out_indices=(0, 1), **kwargs)


def test_flops_of_a_small_backbone_match_a_calculation_by_hand():
    # Image 32x32, maps 8x8 and 4x4. One r2c and one c2r of N points: 5/4 N log2 N each.
    conv = 64 * (4 * 4 * 3 * 2) + 16 * (2 * 2 * 2 * 4)
    mlp = 64 * (2 * 8 + 8 * 2) + 16 * (4 * 16 + 16 * 4)
    fft = 2 * (2 * 1.25 * 64 * 6) + 4 * (2 * 1.25 * 16 * 4)
    product = 2 * (3 * 8 * 5) + 4 * (3 * 4 * 3)
    assert (conv, mlp, fft, product) == (6656, 4096, 2560, 384)
    assert count_flops(two_stages(), (32, 32)) == Complexity(total=13696, filters=2944)


@pytest.mark.parametrize("mode", ["trigonometric", "bilinear", "spectral_pad"])
def test_flops_of_an_odd_image_size_exclude_the_resizing_of_filters(mode):
    maps, dims = [(10, 13), (5, 7), (3, 4), (2, 2)], (3, 8, 16, 24, 32)
    conv = sum(
        h * w * kernel * dims[i] * dims[i + 1]
        for i, ((h, w), kernel) in enumerate(zip(maps, (16, 4, 4, 4), strict=True))
    )
    mlp = filters = 0
    for (h, w), dim, depth in zip(maps, TINY["dims"], TINY["depths"], strict=True):
        mlp += depth * h * w * 2 * 4 * dim**2
        filters += depth * dim * (2.5 * h * w * log2(h * w) + 3 * h * (w // 2 + 1))
    flops = count_flops(GFNet(TINY, img_size=224, filter_resize=mode), (37, 50))
    assert flops == Complexity(total=round(conv + mlp + filters), filters=round(filters))


def test_flops_with_zero_borders_count_transforms_of_each_axis_separately():
    # The kernel of an 8x8 map reaches 4 pixels: 12x12 points, of which only 8 rows are nonzero.
    assert next_fast_length(12) == 12
    rows, columns = 2 * 1.25 * 8 * 12 * log2(12), 2 * 2.5 * 12 * 7 * log2(12)
    first = 2 * (rows + columns + 3 * 12 * 7)
    rows, columns = 2 * 1.25 * 4 * 6 * log2(6), 2 * 2.5 * 6 * 4 * log2(6)
    second = 4 * (rows + columns + 3 * 6 * 4)
    flops = count_flops(two_stages(border="zeros"), (32, 32))
    assert flops.filters == round(first + second)
    assert flops.total - flops.filters == 6656 + 4096


def test_flops_on_the_meta_device_are_the_same():
    with torch.device("meta"):
        model = two_stages()
    assert count_flops(model, (45, 70)) == count_flops(two_stages(), (45, 70))


def test_flops_are_the_same_if_resized_filters_are_too_large_to_cache(monkeypatch):
    expected = count_flops(two_stages(), (64, 96))
    monkeypatch.setattr(GlobalFilter, "CACHE_BYTES", 0)
    assert count_flops(two_stages(), (64, 96)) == expected


def test_counting_leaves_modes_and_filter_caches_of_the_model_unchanged():
    model = two_stages(frozen_stages=1).train()
    modes = [module.training for module in model.modules()]
    count_flops(model, (64, 64))
    assert [module.training for module in model.modules()] == modes
    filter_ = model.blocks[1][0].filter
    assert not filter_._cache and filter_.CACHE_BYTES == GlobalFilter.CACHE_BYTES


def test_real_elementwise_products_count_as_zero_flops():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.gamma = nn.Parameter(torch.ones(3, 1, 1))

        def forward(self, x):
            return (x * self.gamma).mul_(2)

    assert count_flops(Scale(), (8, 8)) == Complexity(0, 0)


# Published figures (arXiv 2107.00645 and T-PAMI 2023); their FLOPs exclude the Fourier transforms.
# Their parameters include a classifier of 1000 classes that segmentation does not use.
@pytest.mark.parametrize(
    "arch, dim, gigaflops, parameters",
    [("ti", 512, 128, 26.6), ("s", 768, 182, 47.5), ("b", 768, 265, 74.7)],
)
def test_semantic_fpn_has_the_published_flops_and_parameters(arch, dim, gigaflops, parameters):
    cfg = Config.fromfile(ROOT / "configs" / f"fpn_gfnet-h-{arch}_ade20k.py")
    cfg.model.backbone.img_size = 512  # as in the authors' models
    model = build_model(cfg, "meta")
    flops = count_flops(model, (1024, 1024))
    assert (flops.total - flops.filters) / 1e9 == pytest.approx(gigaflops, rel=0.005)
    assert 0.005 < flops.filters / flops.total < 0.015
    count = sum(p.numel() for p in model.parameters()) + dim * 1000 + 1000
    assert count / 1e6 == pytest.approx(parameters, abs=0.05)


@pytest.mark.parametrize(
    "model_type, arch, dim, gigaflops",
    [
        (GFNet, "h-tiny", 512, 2.0),
        (GFNet, "h-small", 768, 4.5),
        (GFNet, "h-base", 768, 8.4),
        (IsotropicGFNet, "tiny", 256, 1.3),
        (IsotropicGFNet, "xsmall", 384, 2.8),
        (IsotropicGFNet, "small", 384, 4.5),
        (IsotropicGFNet, "base", 512, 7.9),
    ],
)
def test_classifiers_have_the_published_flops(model_type, arch, dim, gigaflops):
    with torch.device("meta"):
        model = model_type(arch)
    total = count_flops(model, (224, 224)).total + dim * 1000
    assert total / 1e9 == pytest.approx(gigaflops, rel=0.04)  # published with two digits
