import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gfnet_dense.models.layers import operators, spectral
from tests.models.layers.gpu_stand_in import GpuStandIn

SIZES = [((8, 6), (8, 6)), ((8, 6), (12, 9))]  # of map and transforms
FILTER = torch.ops.gfnet_dense.spectral_filter.default
BACKWARD = torch.ops.gfnet_dense.spectral_filter_backward.default


def operands(size, fft_size, dtype=torch.float64):
    """Return a map that is channels last in memory, and a response."""
    (H, W), (P, Q) = size, fft_size
    x = torch.randn(2, H, W, 3, dtype=dtype).permute(0, 3, 1, 2)
    return x, torch.randn(3, P, Q // 2 + 1, 2, dtype=dtype)


@pytest.mark.parametrize("x_needs, response_needs", [(1, 1), (1, 0), (0, 1), (0, 0)])
@pytest.mark.parametrize("size, fft_size", SIZES)
def test_filter_passes_the_checks_of_torch_library(size, fft_size, x_needs, response_needs):
    """Schema, fake kernel, autograd, and equality when compiled with dynamic shapes."""
    x, response = operands(size, fft_size)
    x.requires_grad_(bool(x_needs)), response.requires_grad_(bool(response_needs))
    torch.library.opcheck(FILTER, (x, response, fft_size, bool(response_needs)))


@pytest.mark.parametrize("needs", [(1, 1), (1, 0), (0, 1)])
@pytest.mark.parametrize("size, fft_size", SIZES)
def test_backward_passes_the_checks_of_torch_library(size, fft_size, needs):
    """In a compiled graph PyTorch ignores conj() here: this once gave other gradients."""
    x, response = operands(size, fft_size)
    _, spectrum = operators.filter_map(x, response, fft_size, True)
    args = [t if need else None for t, need in zip((response, spectrum), needs, strict=True)]
    checks = ("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")
    torch.library.opcheck(BACKWARD, (torch.randn_like(x), *args, fft_size), test_utils=checks)


@pytest.mark.parametrize("size, fft_size", SIZES)
def test_any_groups_give_the_same_maps_and_gradients(size, fft_size, monkeypatch):
    x, response = operands(size, fft_size)
    x.requires_grad_(), response.requires_grad_()
    gradient, results = torch.randn(x.shape, dtype=x.dtype), []
    for limit in (2**30, 2 * 8 * fft_size[0] * fft_size[1], 1):
        monkeypatch.setattr(spectral, "CPU_GROUP_BYTES", limit)
        y = operators.spectral_filter(x, response, fft_size)
        results.append([y, *torch.autograd.grad(y, (x, response), gradient)])
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=0, atol=1e-13)


def test_an_empty_batch_has_an_empty_gradient_and_adds_nothing_to_that_of_the_response():
    x, response = operands(*SIZES[0])
    x = x[:0].requires_grad_()
    operators.spectral_filter(x, response.requires_grad_(), SIZES[0][1]).sum().backward()
    assert x.grad.shape == x.shape
    assert response.grad.shape == response.shape and not response.grad.any()


class Copies(TorchDispatchMode):
    """Counts the operators that copy a whole tensor."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function in (torch.ops.aten.copy_.default, torch.ops.aten.clone.default)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("keep", [True, False])
def test_maps_of_one_group_are_not_copied(keep, monkeypatch):
    """A GPU transforms all channels at once. Several groups are copied into one map."""
    x, response = operands(*SIZES[0])
    counts = []
    for limit in (2**30, 1):
        monkeypatch.setattr(spectral, "CPU_GROUP_BYTES", limit)
        with Copies() as copies:
            y, spectrum = operators.filter_map(x, response, (8, 6), keep)
            operators.filter_map_backward(y, response, spectrum if keep else None, (8, 6))
        counts.append(copies.count)
    assert counts[0] == 0 < counts[1]


def test_products_of_all_samples_at_once_equal_the_loop_over_samples():
    """The first is for GPUs, the second for CPUs."""
    x, g = (torch.randn(5, 3, 8, 4, dtype=torch.complex128) for _ in range(2))
    loop = torch.zeros(3, 8, 4, dtype=torch.complex128)
    at_once = loop.clone()
    operators.add_products(loop, x, g)
    with GpuStandIn(), Products() as products:
        operators.add_products(at_once, x, g)
    assert products.count == 1
    torch.testing.assert_close(at_once, loop, rtol=0, atol=1e-14)
    torch.testing.assert_close(loop, torch.einsum("bchw,bchw->chw", x.conj(), g))


class Products(Copies):
    """Counts the operators that multiply."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function in (torch.ops.aten.mul.Tensor, torch.ops.aten.addcmul_.default)
        return function(*args, **(kwargs or {}))


def test_a_response_gradient_without_the_spectrum_is_refused():
    x, response = operands(*SIZES[0])
    with pytest.raises(RuntimeError, match="keep=True"):
        FILTER(x, response.requires_grad_(), (8, 6), False)
