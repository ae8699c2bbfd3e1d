"""Convolutions of upsampled maps against concatenating and convolving, in float64."""

import copy
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gfnet_dense.models.layers import tiled_conv, upsampled_conv
from gfnet_dense.models.layers.tiled_conv import infer_conv_upsampled
from gfnet_dense.models.layers.upsampled_conv import axis_matrices, conv_upsampled

SIZES = [
    [(40, 48), (20, 24), (10, 12)],
    [(41, 77), (21, 38), (7, 3), (1, 1)],  # not halves, one pixel
    [(33, 130), (17, 65), (9, 200)],  # wider than the output
    [(5, 7), (3, 4)],  # so small that the maps are concatenated
    [(36, 31)],
]


def make(sizes, k, dtype=torch.float64, dims=(5, 6, 7, 8)):
    generator = torch.Generator().manual_seed(0)
    maps = [
        torch.randn(2, dim, *size, generator=generator, dtype=dtype)
        for dim, size in zip(dims, sizes, strict=False)
    ]
    weight = torch.randn(9, sum(x.shape[1] for x in maps), k, k, generator=generator, dtype=dtype)
    return maps, weight


def expected(maps, weight, align_corners):
    size = maps[0].shape[2:]
    others = [
        F.interpolate(x, size=size, mode="bilinear", align_corners=align_corners) for x in maps[1:]
    ]
    return F.conv2d(torch.cat([maps[0], *others], 1), weight, padding=weight.shape[-1] // 2)


def assert_equal(found, value, tolerance=1e-12):
    assert found.shape == value.shape
    torch.testing.assert_close(found, value, rtol=0, atol=tolerance * float(value.abs().max()))


@pytest.fixture(params=[1, 2**24], ids=["groups", "whole"])
def groups(request, monkeypatch):
    monkeypatch.setitem(upsampled_conv.GROUP_BYTES, "cpu", request.param)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("sizes", SIZES)
def test_values_and_gradients_equal_those_of_the_concatenation(sizes, k, align_corners, groups):
    maps, weight = make(sizes, k)
    leaves = [x.requires_grad_() for x in (*maps, weight)]
    value = expected(maps, weight, align_corners)
    direction = torch.randn_like(value)
    gradients = torch.autograd.grad((value * direction).sum(), leaves)
    found = conv_upsampled(maps, weight, align_corners)
    found_gradients = torch.autograd.grad((found * direction).sum(), leaves)
    assert_equal(found, value)
    for a, b in zip(found_gradients, gradients, strict=True):
        assert_equal(a, b)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_inference_by_tiles_equals_the_concatenation(sizes, k, align_corners, memory_format):
    maps, weight = make(sizes, k)
    scale, bias = torch.randn(2, 9, dtype=torch.float64)
    value = expected(maps, weight, align_corners)
    maps = [x.contiguous(memory_format=memory_format) for x in maps]
    found = infer_conv_upsampled(maps, weight, align_corners)
    assert_equal(found, value)
    found = infer_conv_upsampled(maps, weight, align_corners, scale, bias, relu=True)
    assert_equal(found, (value * scale[:, None, None] + bias[:, None, None]).relu())


SIDES = st.tuples(st.integers(1, 40), st.integers(1, 40))


@settings(max_examples=30, deadline=None)
@given(size=SIDES, low=SIDES, k=st.sampled_from([1, 3]), align_corners=st.booleans())
def test_any_sizes_equal_the_concatenation(size, low, k, align_corners):
    maps, weight = make([size, low], k)
    value = expected(maps, weight, align_corners)
    with (
        patch.object(upsampled_conv, "MIN_SAVED", 1),
        patch.object(tiled_conv, "TILE", (8, 12)),
    ):
        assert_equal(conv_upsampled(maps, weight, align_corners), value)
        assert_equal(infer_conv_upsampled(maps, weight, align_corners), value)
        bias = torch.randn(len(weight), dtype=torch.float64)
        assert_equal(conv_upsampled(maps, weight, align_corners, bias), value + bias[:, None, None])


def test_gradients_equal_finite_differences(monkeypatch, groups):
    monkeypatch.setattr(upsampled_conv, "MIN_SAVED", 1)
    maps, weight = make([(6, 5), (3, 3), (1, 2)], 3, dims=(2, 2, 1))
    leaves = [x.requires_grad_() for x in (*maps, weight)]
    torch.autograd.gradcheck(lambda *x: conv_upsampled(x[:-1], x[-1], False), leaves)


def test_float32_is_as_exact_as_the_concatenation():
    maps, weight = make(SIZES[0], 3, torch.float32, dims=(256, 256, 256))
    value = expected([x.double() for x in maps], weight.double(), False)
    assert_equal(conv_upsampled(maps, weight, False).double(), value, 2e-6)
    assert_equal(infer_conv_upsampled(maps, weight, False).double(), value, 5e-6)


def test_rows_beyond_the_map_are_the_zeros_of_the_padding():
    matrices = axis_matrices(4, 8, 3, False, torch.empty(0))
    identity = F.interpolate(torch.eye(4)[None], size=8, mode="linear")[0].t()
    assert matrices.shape == (3, 8, 4)
    torch.testing.assert_close(matrices[1], identity, rtol=0, atol=0)
    assert not matrices[0, 0].any() and not matrices[2, -1].any()
    torch.testing.assert_close(matrices[0, 1:], identity[:-1], rtol=0, atol=0)


def test_autocast_gives_the_dtype_of_a_convolution():
    maps, weight = make(SIZES[0], 3, torch.float32)
    leaves = [x.requires_grad_() for x in (*maps, weight)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, value = conv_upsampled(maps, weight, False), expected(maps, weight, False)
    assert found.dtype == value.dtype == torch.bfloat16
    assert_equal(found.float(), value.float(), 2e-2)
    gradients = torch.autograd.grad(found.float().sum(), leaves)
    assert all(g.dtype == torch.float32 for g in gradients)


class Fusion(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, *maps):
        return conv_upsampled(maps, self.weight, False)


def test_the_compiled_graph_has_the_same_values_and_gradients():
    maps, weight = make(SIZES[0], 3)
    module = Fusion(weight)
    compiled = torch.compile(copy.deepcopy(module), backend="aot_eager", fullgraph=True)
    value, found = module(*maps), compiled(*maps)
    assert_equal(found, value)
    value.sum().backward()
    found.sum().backward()
    assert_equal(compiled.weight.grad, module.weight.grad)


def test_an_exported_graph_upsamples_by_products_alone():
    maps, weight = make(SIZES[0], 3)
    program = torch.export.export(Fusion(weight), tuple(maps))
    assert_equal(program.module()(*maps), expected(maps, weight, False))
    operators = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert not any("bilinear2d" in name for name in operators)
    convolution = torch.ops.aten.conv2d.default
    (node,) = program.graph.find_nodes(op="call_function", target=convolution)
    assert node.args[0].meta["val"].shape == maps[0].shape  # not that of the concatenation
