"""The gnConv with its factors in the weights: the same numbers, and when it may run."""

import copy

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from gfnet_dense.models.layers.global_local_filter import GlobalLocalFilter
from gfnet_dense.models.layers.gnconv import (
    DepthwiseConv,
    GnConv,
    PointwiseConv,
    can_fold,
    folded,
    spatial_dim,
)
from gfnet_dense.models.layers.hornet_block import HorNetBlock


def make_block(order=3, dim=32, filtered=False):
    width = spatial_dim(dim, order)
    spatial = GlobalLocalFilter(width, (7, 7)) if filtered else DepthwiseConv(width)
    block = HorNetBlock(dim, order, spatial, drop_path=0.0, layer_scale_init_value=0.5)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)
    return block


def gradients(function, block, x):
    """Return the output of a function of ``x``, and the gradients of ``x`` and of all weights."""
    x = x.clone().requires_grad_()
    block.zero_grad()
    y = function(x)
    (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)).sum().backward()
    used = {n: p.grad for n, p in block.named_parameters() if p.grad is not None}
    return {"output": y.detach(), "x": x.grad} | used


@pytest.mark.parametrize("filtered", [False, True])
@pytest.mark.parametrize("order, size", [(2, (7, 5)), (3, (1, 9)), (5, (8, 8))])
def test_factors_in_the_weights_change_neither_outputs_nor_gradients(order, size, filtered):
    block = make_block(order, filtered=filtered).double()
    x = torch.randn(2, *size, 32, dtype=torch.float64)
    plain = gradients(lambda x: block.gamma1 * block.gnconv(x), block, x)
    fast = gradients(lambda x: folded(x, block.gnconv, block.gamma1), block, x)
    assert plain.keys() == fast.keys() and len(plain) > 2 * order + 4
    for name, expected in plain.items():
        torch.testing.assert_close(fast[name], expected, rtol=1e-10, atol=1e-12, msg=name)


def test_a_small_gamma_loses_no_digits():
    """The layer scale of the published models starts at 1e-6."""
    block = make_block()
    x = torch.randn(1, 6, 6, 32)
    nn.init.constant_(block.gamma1, 1e-6)
    plain = gradients(lambda x: block.gamma1 * block.gnconv(x), block, x)
    fast = gradients(lambda x: folded(x, block.gnconv, block.gamma1), block, x)
    for name, expected in plain.items():
        error = (fast[name] - expected).abs().max() / expected.abs().max()
        assert error < 1e-5, name


def test_it_may_run_in_training_on_a_cpu_alone():
    block, x = make_block(), torch.randn(1, 4, 8, 32)
    assert not can_fold(block.gnconv, x[:, :, 1:])  # fewer positions than channels
    assert can_fold(block.gnconv, x) and can_fold(block.gnconv, x.double())
    assert not can_fold(block.gnconv, x.half()) and not can_fold(block.gnconv, x.bfloat16())
    assert not can_fold(block.gnconv, x.to("meta"))
    with torch.no_grad():
        assert not can_fold(block.gnconv, x)
    with torch.autocast("cpu", torch.bfloat16):
        assert not can_fold(block.gnconv, x)


@pytest.mark.parametrize("name", ["gnconv", "gnconv.proj_in", "gnconv.pws.1", "gnconv.proj_out"])
def test_hooks_see_the_maps_of_the_plain_layer(name):
    block, x = make_block().double(), torch.randn(1, 5, 7, 32, dtype=torch.float64)
    expected, seen = block(x), []
    layer = block.get_submodule(name)
    hook = layer.register_forward_hook(lambda layer, args, output: seen.append((args[0], output)))
    torch.testing.assert_close(block(x), expected)
    ((given, output),) = seen
    hook.remove()
    torch.testing.assert_close(output, type(layer).forward(layer, given))


def test_a_projection_of_ones_own_is_called():
    class Doubled(PointwiseConv):
        def forward(self, x):
            return 2 * super().forward(x)

    block, x = make_block(order=2).double(), torch.randn(1, 6, 6, 32, dtype=torch.float64)
    expected = copy.deepcopy(block)
    with torch.no_grad():
        expected.gnconv.pws[0].weight *= 2
        expected.gnconv.pws[0].bias *= 2
    own = Doubled(16, 32).double()
    own.load_state_dict(block.gnconv.pws[0].state_dict())
    block.gnconv.pws[0] = own
    torch.testing.assert_close(block(x), expected(x))


def test_a_gnconv_of_ones_own_is_called():
    class Doubled(GnConv):
        def forward(self, x):
            return 2 * super().forward(x)

    block, x = make_block(order=2), torch.randn(1, 6, 6, 32)
    own = Doubled(32, 2, block.gnconv.dwconv)
    own.load_state_dict(block.gnconv.state_dict())
    normed = block.norm1(x)
    for gnconv in (own, nn.Identity(), checkpoint_wrapper(own)):
        block.gnconv = gnconv
        mixed = x + block.gamma1 * gnconv(normed)
        expected = mixed + block.gamma2 * block.pwconv2(
            block.act(block.pwconv1(block.norm2(mixed)))
        )
        torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-4)
        with torch.no_grad():
            torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-4)


def test_a_projection_without_a_bias_is_run_as_it_is():
    block, x = make_block().double(), torch.randn(1, 6, 6, 32, dtype=torch.float64)
    nn.init.zeros_(block.gnconv.proj_in.bias)
    expected = block(x)
    block.gnconv.proj_in.bias = None
    torch.testing.assert_close(block(x), expected)


def test_the_hidden_maps_of_the_plain_layer_are_those_of_the_paper():
    """Equations 3 to 5 for one position, order 2 and a spatial layer that changes nothing."""
    gnconv = GnConv(4, 2, nn.Identity()).double()
    x = torch.randn(1, 1, 1, 4, dtype=torch.float64)
    parts = nn.functional.linear(x.flatten(), gnconv.proj_in.weight[..., 0, 0], gnconv.proj_in.bias)
    gate, first, second = parts.split([2, 2, 4])
    project = gnconv.pws[0]
    y = (project.weight[..., 0, 0] @ (gate * first / 3) + project.bias) * second / 3
    y = gnconv.proj_out.weight[..., 0, 0] @ y + gnconv.proj_out.bias
    torch.testing.assert_close(gnconv(x).flatten(), y)
    ones = torch.ones(4, dtype=torch.float64)
    torch.testing.assert_close(folded(x, gnconv, ones).flatten(), y)
