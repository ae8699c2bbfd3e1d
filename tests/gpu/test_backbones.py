"""Backbones on a GPU: the numbers of the CPU, in each precision and memory format."""

import copy

import pytest
import torch

from gfnet_dense.models import GFNet, GlobalFilter, HorNet, IsotropicGFNet
from gfnet_dense.models.layers.base_filter import BORDERS, BaseFilter
from gfnet_dense.models.utils.filter_resize import FILTER_RESIZE_MODES
from tests.conftest import TINY

SIZES = [(64, 64), (70, 101), (129, 33)]  # stored maps, and odd ones


def backbone(**settings):
    torch.manual_seed(0)
    return with_large_filters(GFNet(TINY, img_size=64, **settings))


def hornet(**settings):
    torch.manual_seed(0)
    arch = dict(dims=(8, 16, 32, 64), depths=(1, 1, 2, 1), layer_scale_init_value=0.5)
    return with_large_filters(HorNet(arch, img_size=64, **settings))


def with_large_filters(net):
    """Give filters values as large as those of a trained network."""
    for layer in net.modules():
        if isinstance(layer, BaseFilter):
            torch.nn.init.normal_(layer.complex_weight, std=0.3)
    return net


def isotropic():
    torch.manual_seed(0)
    arch = dict(dim=16, depth=4, layer_scale_init_value=0.5)
    return IsotropicGFNet(arch, img_size=(64, 64), out_indices=(1, 3))


def step(net, x):
    """Return the outputs of a training step and the gradients by name, on the CPU.

    The loss is the product with a fixed random direction: behind a LayerNorm, that of squares
    would have a gradient of almost zero.
    """
    net.train().zero_grad()
    outputs = net(x)
    generator = torch.Generator().manual_seed(1)
    loss = sum((y * torch.randn(y.shape, generator=generator).to(y)).sum() for y in outputs)
    loss.backward()
    gradients = {name: p.grad.cpu() for name, p in net.named_parameters() if p.grad is not None}
    return [y.detach().cpu() for y in outputs], gradients


def check_close(found, expected, tolerance):
    """Compare to a share of the largest value: sums of a transform have that accuracy."""
    scale = expected.abs().max()
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=float(tolerance * scale))


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("map_size", [(14, 14), (15, 22)])
def test_a_filter_equals_that_of_the_cpu(device, border, map_size):
    """The stored filter is not Hermitian; for such input cuFFT's inverse is undefined."""
    layer = GlobalFilter(8, (14, 14), border=border)
    x = torch.randn(2, *map_size, 8)
    y = layer(x)
    gradient = torch.autograd.grad(y.square().sum(), layer.complex_weight)[0]
    layer.to(device)
    found = layer(x.to(device))
    (found_gradient,) = torch.autograd.grad(found.square().sum(), layer.complex_weight)
    torch.testing.assert_close(found.cpu(), y, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found_gradient.cpu(), gradient, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_computes_filters_in_float32(device, dtype):
    layer = GlobalFilter(8, (14, 14)).to(device)
    x = torch.randn(2, 15, 22, 8, device=device, dtype=dtype)
    with torch.autocast(device, dtype=dtype):
        y = layer(x)
    assert y.dtype == dtype
    torch.testing.assert_close(y, layer(x.float()).to(dtype), rtol=0, atol=0)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("make", [backbone, hornet])
def test_outputs_and_gradients_equal_those_of_the_cpu(device, make, border, size):
    x, net = torch.randn(2, 3, *size), make(border=border)
    outputs, gradients = step(net, x)
    found, found_gradients = step(copy.deepcopy(net).to(device), x.to(device))
    for a, b in zip(found, outputs, strict=True):
        check_close(a, b, 1e-4)
    assert found_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        check_close(found_gradients[name], gradient, 1e-4)


@pytest.mark.parametrize("mode", FILTER_RESIZE_MODES)
@pytest.mark.parametrize("make", [backbone, isotropic, hornet])
def test_inference_equals_that_of_the_cpu(device, make, mode):
    net = make() if make is isotropic else make(filter_resize=mode)
    net.eval()
    own = copy.deepcopy(net).to(device)
    for size in SIZES:
        x = torch.randn(1, 3, *size)
        with torch.no_grad():
            expected, found = net(x), own(x.to(device))
            again = own(x.to(device))  # with filters from the cache
        watched = [y.detach() for y in own(x.to(device))]  # block by block
        for y, *others in zip(expected, found, again, watched, strict=True):
            for other in others:
                assert other.device.type == device
                check_close(other.cpu(), y, 1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("make", [backbone, hornet])
def test_mixed_precision_is_near_float32(device, make, dtype, train):
    if device == "cpu" and dtype == torch.float16:
        pytest.skip("float16 is for GPUs")
    net, x = make().to(device), torch.randn(2, 3, 70, 101, device=device)
    net.train(train)
    with torch.set_grad_enabled(train):
        expected = net(x)
        with torch.autocast(device, dtype):
            found = net(x)
    for y, other in zip(expected, found, strict=True):
        check_close(other.detach(), y.detach(), 0.05)
    if train:
        sum(y.float().square().mean() for y in found).backward()
        assert all(p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("make", [backbone, hornet])
def test_channels_last_models_stay_channels_last(device, make, train):
    net, x = make().to(device).train(train), torch.randn(2, 3, 70, 101, device=device)
    with torch.set_grad_enabled(train):
        expected = net(x)
        net.to(memory_format=torch.channels_last)
        found = net(x.to(memory_format=torch.channels_last))
    for y, other in zip(expected, found, strict=True):
        assert other.is_contiguous(memory_format=torch.channels_last)
        check_close(other.detach(), y.detach(), 1e-4)
