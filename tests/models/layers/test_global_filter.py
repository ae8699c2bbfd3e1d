import copy
import pickle

import numpy as np
import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from torch import nn
from torch._subclasses import FakeTensorMode

from gfnet_dense.models import GlobalFilter
from gfnet_dense.models.layers import base_filter
from gfnet_dense.models.layers.base_filter import BORDERS
from gfnet_dense.models.layers.operators import spectral_filter
from gfnet_dense.models.utils.filter_resize import FILTER_RESIZE_MODES, filter_resizer
from tests.models.layers.gpu_stand_in import GpuStandIn

SIZES = [(4, 4), (5, 7), (6, 5), (1, 4), (4, 1), (1, 1), (2, 3)]


def direct_sum(x, weight):
    """Compute the layer as y[p] = sum_q k[q] x[p - q], where k is the inverse DFT of K.

    As in irfft2, only the Hermitian part of the columns 0 and w / 2 of K counts.
    """
    B, h, w, C = x.shape
    K = torch.view_as_complex(weight)
    full = torch.zeros(h, w, C, dtype=K.dtype)
    for r in range(h):
        for c in range(w):
            left = K[r, c] if c <= w // 2 else K[-r % h, w - c].conj()
            if 2 * c % w == 0:
                left = (left + K[-r % h, c].conj()) / 2
            full[r, c] = left
    rows = torch.outer(torch.arange(h), torch.arange(h)).double() / h
    columns = torch.outer(torch.arange(w), torch.arange(w)).double() / w
    phase = 2j * torch.pi * (rows[:, None, :, None] + columns[None, :, None, :])
    kernel = torch.einsum("yxrc,rcd->yxd", torch.exp(phase.to(K.dtype)), full) / (h * w)
    y = torch.zeros_like(x)
    for dy in range(h):
        for dx in range(w):
            y += kernel[dy, dx].real * x.roll((dy, dx), dims=(1, 2))
    return y


@pytest.mark.parametrize("size", SIZES)
def test_layer_equals_the_direct_sum(size):
    layer = GlobalFilter(3, size).double()
    x = torch.randn(2, *size, 3, dtype=torch.float64)
    expected = direct_sum(x, layer.complex_weight.detach())
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-14)


def test_each_pixel_of_a_larger_map_sees_the_window_of_the_stored_size():
    """For a stored size that is odd, the window is centered on the pixel."""
    layer = GlobalFilter(2, (5, 5)).double()
    x = torch.randn(1, 9, 12, 2, dtype=torch.float64)
    y = layer(x)
    for row, column in [(2, 2), (4, 7), (6, 9)]:
        window = x[:, row - 2 : row + 3, column - 2 : column + 3]
        torch.testing.assert_close(y[:, row, column], layer(window)[:, 2, 2], rtol=0, atol=1e-14)


def kernel_taps(layer):
    """Return {(dy, dx): tap (dim,)}; the last tap of an even size is split between both ends."""
    h, w = layer.size
    kernel = torch.fft.irfft2(layer.response(layer.size, torch.float64), s=layer.size).detach()

    def offsets(n):
        if n % 2 == 0:
            return [*((i, i, 1.0) for i in range(1 - n // 2, n // 2))] + [
                (n // 2, n // 2, 0.5),
                (-n // 2, n // 2, 0.5),
            ]
        return [(i, i, 1.0) for i in range(-(n // 2), n // 2 + 1)]

    return {
        (dy, dx): a * b * kernel[:, y % h, x % w]
        for dy, y, a in offsets(h)
        for dx, x, b in offsets(w)
    }


def convolve(x, taps, border):
    """Compute y[p] = sum_n k[n] x[p - n] on a map that NumPy has padded."""
    B, H, W, C = x.shape
    mode = {"zeros": "constant", "reflect": "reflect", "circular": "wrap"}[border]
    r = max(max(abs(dy), abs(dx)) for dy, dx in taps)
    padded = torch.from_numpy(np.pad(x.numpy(), ((0, 0), (r, r), (r, r), (0, 0)), mode=mode))
    y = torch.zeros_like(x)
    for (dy, dx), k in taps.items():
        y += k * padded[:, r - dy : r - dy + H, r - dx : r - dx + W]
    return y


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("size", [(5, 5), (6, 4), (3, 8)])
@pytest.mark.parametrize("map_size", [(5, 5), (9, 12), (11, 3), (2, 7), (1, 6), (16, 16)])
def test_borders_equal_the_convolution_of_a_padded_map(border, size, map_size):
    layer = GlobalFilter(2, size, border=border).double()
    x = torch.randn(1, *map_size, 2, dtype=torch.float64)
    expected = convolve(x, kernel_taps(layer), border)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-14)


def test_zeros_border_gives_a_crop_the_values_of_the_whole_map():
    """The published circular border gives other values if the kernel is as large as the crop."""
    whole = torch.randn(1, 30, 40, 2, dtype=torch.float64)
    crop = whole[:, 8:24, 10:30]
    errors = {}
    for border in ("zeros", "circular"):
        layer = GlobalFilter(2, (7, 7), border=border).double()
        errors[border] = (layer(crop) - layer(whole)[:, 8:24, 10:30])[:, 3:-3, 3:-3].abs().max()
    assert errors["zeros"] < 1e-14 and errors["circular"] < 1e-14
    # With a kernel as large as the crop, each pixel of the circular layer sees the opposite side.
    black = torch.zeros_like(whole)
    black[:, 8:24, 10:30] = crop
    for border, same in (("zeros", True), ("circular", False)):
        layer = GlobalFilter(2, (16, 20), border=border).double()
        error = (layer(crop) - layer(black)[:, 8:24, 10:30]).abs().max()
        assert (error < 1e-14) == same and (error > 1e-2) != same


@pytest.mark.parametrize(
    "border, size", [("circular", (17, 23)), ("zeros", (20, 27)), ("reflect", (24, 32))]
)
def test_maps_are_padded_as_far_as_the_kernel_reaches(border, size, resizes):
    """Pad by (3, 4) (zeros) or by (6, 8) (reflect), then to products of 2, 3 and 5 (24, 32)."""
    GlobalFilter(2, (6, 8), border=border)(torch.randn(1, 17, 23, 2))
    assert resizes == [size]


def as_function(layer):
    def forward(x, weight):
        return torch.func.functional_call(layer, {"complex_weight": weight}, (x,))

    return forward


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("map_size", [(4, 5), (6, 3)])
def test_gradients_pass_gradcheck(border, map_size):
    layer = GlobalFilter(2, (4, 5), border=border).double()
    x = torch.randn(2, *map_size, 2, dtype=torch.float64, requires_grad=True)
    weight = layer.complex_weight.detach().requires_grad_()
    assert torch.autograd.gradcheck(as_function(layer), (x, weight))


@pytest.mark.parametrize("map_size", [(8, 8), (7, 9), (8, 6)])
def test_gradients_equal_autograd_through_the_plain_transforms(map_size):
    """The filter is not Hermitian."""
    layer = GlobalFilter(3, map_size).double()
    x = torch.randn(2, *map_size, 3, dtype=torch.float64, requires_grad=True)
    weight = layer.complex_weight
    expected = torch.fft.rfft2(x, dim=(1, 2)) * torch.view_as_complex(weight)
    expected = torch.fft.irfft2(expected, s=map_size, dim=(1, 2))
    gradient = torch.randn_like(expected)
    theirs = torch.autograd.grad(expected, (x, weight), gradient)
    ours = torch.autograd.grad(layer(x), (x, weight), gradient)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_second_derivatives_are_refused():
    layer = GlobalFilter(2, (4, 4))
    x = torch.randn(1, 4, 4, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        gradient.sum().backward()


def test_compiled_layer_gives_the_same_gradients():
    layer = GlobalFilter(2, (6, 6))
    compiled = torch.compile(layer, backend="aot_eager")
    x = torch.randn(1, 6, 7, 2, requires_grad=True)
    ours = torch.autograd.grad(layer(x).square().sum(), (x, layer.complex_weight))
    theirs = torch.autograd.grad(compiled(x).square().sum(), (x, layer.complex_weight))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.fixture
def resizes(monkeypatch):
    """Record the new size of each filter that is resized."""
    calls = []

    def counting(weight, size, new_size, mode):
        calls.append(new_size)
        return filter_resizer(weight, size, new_size, mode)

    monkeypatch.setattr(base_filter, "filter_resizer", counting)
    return calls


@pytest.fixture
def cached(resizes):
    """Return a layer in eval mode that has cached the filter for one map, and the map."""
    layer, x = GlobalFilter(2, (4, 4)).eval(), torch.randn(1, 6, 7, 2)
    with torch.no_grad():
        layer(x)
    assert len(resizes) == 1
    return layer, x


def test_a_second_map_of_the_same_size_uses_the_cached_filter(cached, resizes):
    layer, x = cached
    with torch.inference_mode():
        layer(x)
        layer(torch.randn(5, 6, 7, 2))
        assert len(resizes) == 1
        layer(x.double())  # another dtype
        layer(x[:, :5])  # another size
    assert len(resizes) == 3
    assert not [name for name in layer.state_dict() if "weight" not in name]
    assert not list(layer.buffers())


def test_cache_drops_the_least_recently_used_filter(cached, resizes):
    layer, x = cached
    with torch.no_grad():
        for width in (1, 2, 3):
            layer(x[:, :, :width])
        layer(x)  # used again: width 1 is now the least recently used
        layer(x[:, :, :4])
        assert len(resizes) == 5 and len(layer._cache) == layer.CACHE_SIZE
        layer(x)
        assert len(resizes) == 5
        layer(x[:, :, :1])
    assert len(resizes) == 6


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.train().eval(),
        lambda layer: layer.eval(),
        lambda layer: layer.double().float(),
        lambda layer: layer.to("cpu"),
        lambda layer: layer.complex_weight.requires_grad_(False).mul_(2),
        lambda layer: setattr(layer, "complex_weight", nn.Parameter(torch.randn(4, 3, 2, 2))),
        lambda layer: layer.load_state_dict(GlobalFilter(2, (4, 4)).state_dict()),
        lambda layer: nn.Sequential(layer).load_state_dict(
            {"0.complex_weight": torch.randn(4, 3, 2, 2)}
        ),
        # as mmengine's EMA around a validation
        lambda layer: (layer.complex_weight.data.copy_(torch.randn(4, 3, 2, 2)), layer.eval()),
        # a training step in evaluation mode, as with frozen stages
        lambda layer: (
            layer(torch.randn(1, 6, 7, 2)).sum().backward(),
            torch.optim.SGD(layer.parameters(), lr=1).step(),
        ),
    ],
    ids=[
        "train",
        "eval",
        "dtype",
        "to",
        "in place",
        "new",
        "load",
        "load in parent",
        "ema",
        "step",
    ],
)
def test_cache_is_never_stale(cached, change, request):
    layer, x = cached
    change_empties_the_cache = request.node.callspec.id not in ("in place", "new")
    change(layer)
    if change_empties_the_cache:
        assert not layer._cache
    with torch.no_grad():
        expected = copy.deepcopy(layer).train()(x)
        torch.testing.assert_close(layer(x), expected, rtol=0, atol=0)


def test_a_cuda_graph_neither_reads_the_cache_nor_fills_it(cached, resizes, monkeypatch):
    """Clearing the cache frees memory that replays would read; no kernel runs while recording."""
    layer, x = cached
    monkeypatch.setattr(base_filter, "records_cuda_graph", lambda: True)
    with torch.no_grad():
        layer(x)
        layer(x[:, :5])
    assert len(resizes) == 3 and len(layer._cache) == 1


def test_weights_given_for_one_call_are_used_and_not_kept(cached):
    layer, x = cached
    other = torch.randn(4, 3, 2, 2)
    with torch.no_grad():
        before = layer(x)
        y = torch.func.functional_call(layer, {"complex_weight": other}, (x,))
        assert (y - before).abs().max() > 0.1
        torch.testing.assert_close(layer(x), before, rtol=0, atol=0)


def test_weights_loaded_during_a_resize_are_used_by_the_next_call(cached, monkeypatch):
    layer, x = cached
    new = {"complex_weight": torch.randn(4, 3, 2, 2)}

    def slow(*args):
        result = filter_resizer(*args)
        layer.load_state_dict(new)
        return result

    with torch.no_grad():
        monkeypatch.setattr(base_filter, "filter_resizer", slow)
        layer(x[:, :5])
        monkeypatch.setattr(base_filter, "filter_resizer", filter_resizer)
        expected = copy.deepcopy(layer)(x[:, :5])
        torch.testing.assert_close(layer(x[:, :5]), expected, rtol=0, atol=0)


def test_cache_is_bounded_in_bytes(cached, monkeypatch):
    layer, x = cached
    size = next(iter(layer._cache.values())).nbytes
    monkeypatch.setattr(layer, "CACHE_BYTES", 2 * size)
    with torch.no_grad():
        layer(x[:, :5])
        layer(x[:, :4])
        assert sum(r.nbytes for r in layer._cache.values()) <= 2 * size and len(layer._cache) == 2
        layer(torch.randn(1, 20, 20, 2))  # too large for the cache: the other filters stay
    assert len(layer._cache) == 2


def test_copies_and_pickles_have_an_empty_cache_of_their_own(cached, resizes):
    layer, x = cached
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert not other._cache and other._cache is not layer._cache
        before = len(resizes)
        with torch.no_grad():
            torch.testing.assert_close(other(x), layer(x), rtol=0, atol=0)
        assert len(resizes) == before + 1


def test_ema_works_with_a_layer_that_has_cached_filters(cached):
    """mmengine's EMA copies the model and swaps parameters around a validation."""
    layer, x = cached
    ema = ExponentialMovingAverage(layer, momentum=0.5)
    with torch.no_grad():
        layer.complex_weight.add_(1)
    ema.update_parameters(layer)  # the first update copies
    with torch.no_grad():
        layer.complex_weight.add_(1)
    ema.update_parameters(layer)
    with torch.no_grad():
        expected = copy.deepcopy(layer)
        expected.complex_weight.sub_(0.5)
        torch.testing.assert_close(ema.module(x), expected(x))


def test_training_does_not_cache(cached, resizes):
    layer, x = cached
    layer.train()
    with torch.no_grad():
        layer(x)
        layer(x)
    layer.eval()
    layer(x)
    assert len(resizes) == 4 and not layer._cache


@pytest.mark.parametrize("mode", FILTER_RESIZE_MODES)
@pytest.mark.parametrize("size", [(8, 8), (11, 6), (5, 9)])
def test_the_resized_filter_is_the_spectrum_of_a_real_kernel(mode, size):
    layer = GlobalFilter(2, (8, 8), resize=mode).double()
    response = layer.response(list(size), torch.float64)
    spectrum = torch.fft.rfft2(torch.fft.irfft2(response, s=size))
    torch.testing.assert_close(spectrum, response, rtol=0, atol=1e-14)


def test_a_frozen_filter_saves_no_spectrum_for_the_backward():
    """An input that needs no gradient does not save the filter either."""
    for weight_needs, x_needs in ((True, True), (False, True), (True, False)):
        layer = GlobalFilter(2, (6, 6))
        layer.complex_weight.requires_grad_(weight_needs)
        x, shapes = torch.randn(3, 6, 6, 2, requires_grad=x_needs), []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, shapes=shapes: shapes.append(tuple(t.shape)) or t, lambda t: t
        ):
            y = layer(x)
        assert ((3, 2, 6, 4, 2) in shapes) == weight_needs
        assert ((2, 6, 4, 2) in shapes) == x_needs
        y.sum().backward()


def test_a_wrong_number_of_channels_is_refused():
    with pytest.raises(ValueError, match="has 4 channels, got a map .1, 6, 6, 1."):
        GlobalFilter(4, (6, 6))(torch.randn(1, 6, 6, 1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_maps_are_computed_in_float32(dtype):
    layer = GlobalFilter(4, (8, 8))
    x = (300 * torch.randn(1, 9, 10, 4)).to(dtype)  # squares overflow float16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
    assert y.dtype == dtype
    torch.testing.assert_close(y, layer(x.float()).to(dtype), rtol=0, atol=0)


@pytest.mark.parametrize("mode", FILTER_RESIZE_MODES)
@pytest.mark.parametrize("map_size", [(8, 6), (5, 7), (12, 10)], ids=["stored", "odd", "larger"])
@pytest.mark.parametrize("gradients", [True, False])
def test_a_gpu_inverts_only_spectra_of_real_maps(mode, map_size, gradients):
    """The stored filter is not Hermitian; a CPU ignores the rest of it and gives the same maps."""
    layer = GlobalFilter(3, (8, 6), resize=mode).double().eval()
    x = torch.randn(2, *map_size, 3, dtype=torch.float64)
    expected = layer(x)
    with torch.set_grad_enabled(gradients), GpuStandIn() as gpu:
        y = layer(x)
    assert gpu.filterings
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("border", ["zeros", "reflect"])
def test_a_gpu_inverts_only_spectra_of_real_maps_with_other_borders(border):
    layer = GlobalFilter(3, (8, 6), border=border).double()
    x = torch.randn(2, 9, 7, 3, dtype=torch.float64)
    with GpuStandIn() as gpu:
        y = layer(x)
    assert gpu.filterings
    torch.testing.assert_close(y, layer(x), rtol=0, atol=1e-13)


def test_the_stand_in_for_a_gpu_refuses_responses_that_no_real_kernel_has():
    x = torch.randn(1, 3, 8, 6, dtype=torch.float64)
    response = torch.randn(3, 8, 4, 2, dtype=torch.float64)
    with GpuStandIn(), pytest.raises(AssertionError, match="not close"):
        spectral_filter(x, response, (8, 6))
    with GpuStandIn() as gpu:
        spectral_filter(x, torch.view_as_real(torch.fft.rfft2(x[0])), (8, 6))
    assert gpu.filterings == 1


def caches_filter(layer, size):
    """Tell whether the layer in eval mode caches its filter for a map of the given size."""
    layer.eval()
    with torch.no_grad():
        layer(torch.randn(1, *size, layer.dim))
    return bool(layer._cache)


def test_a_filter_of_the_stored_size_is_cached_up_to_its_own_limit(monkeypatch):
    layer, num_bytes = GlobalFilter(2, (8, 6)), 2 * 8 * 4 * 8
    for limit, is_cached in ((num_bytes - 1, False), (num_bytes, True), (num_bytes + 1, True)):
        monkeypatch.setattr(layer, "STORED_BYTES", limit)
        assert caches_filter(layer, (8, 6)) == is_cached
        assert caches_filter(layer, (9, 6))  # a resized filter costs more to compute


def test_filters_of_the_stored_size_are_cached_up_to_8_mib():
    assert caches_filter(GlobalFilter(512, (32, 126)), (32, 126))
    assert not caches_filter(GlobalFilter(512, (33, 126)), (33, 126))


def test_a_gpu_caches_fewer_bytes(monkeypatch):
    """The largest backbone has 36 layers."""
    assert 36 * GlobalFilter.GPU_CACHE_BYTES <= 288 * 2**20
    layer, num_bytes = GlobalFilter(2, (4, 4)).double().eval(), 2 * 9 * 4 * 16
    maps = [torch.randn(1, h, w, 2, dtype=torch.float64) for h, w in ((9, 6), (9, 7))]
    for limit, count in ((num_bytes - 1, 0), (num_bytes, 1), (2 * num_bytes, 2)):
        monkeypatch.setattr(layer, "GPU_CACHE_BYTES", limit)
        layer.eval()
        with torch.no_grad(), GpuStandIn():
            for x in maps:
                layer(x)
        assert len(layer._cache) == count


def test_fake_tensors_are_not_cached(cached):
    layer, x = cached
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.no_grad():
        layer(mode.from_tensor(torch.randn(1, 8, 9, 2)))
    assert all(type(response) is torch.Tensor for response in layer._cache.values())
    with torch.no_grad():
        assert layer(torch.randn(1, 8, 9, 2)).isfinite().all()


def test_torch_func_gives_the_gradients_of_autograd_and_second_derivatives():
    layer = GlobalFilter(2, (5, 4), border="zeros").double()
    x, weight = torch.randn(2, 7, 6, 2).double(), layer.complex_weight.detach().clone()
    run = as_function(layer)

    def loss(x, weight):
        return run(x, weight).square().sum()

    gradients = torch.func.grad(loss, argnums=(0, 1))(x, weight)
    leaves = (x.clone().requires_grad_(), weight.clone().requires_grad_())
    expected = torch.autograd.grad(loss(*leaves), leaves)
    torch.testing.assert_close(gradients, expected, rtol=1e-12, atol=1e-13)
    of_samples = torch.func.vmap(torch.func.grad(loss, argnums=1), (0, None))(x[:, None], weight)
    torch.testing.assert_close(of_samples.sum(0), expected[1], rtol=1e-12, atol=1e-13)
    # The loss is quadratic in x: the product of its Hessian with x is its gradient.
    _, product = torch.func.jvp(lambda x: torch.func.grad(loss)(x, weight), (x,), (x,))
    torch.testing.assert_close(product, expected[0], rtol=1e-12, atol=1e-13)
