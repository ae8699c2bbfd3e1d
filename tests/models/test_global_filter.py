import pytest
import torch

from gfnet_dense.models import GlobalFilter

SIZES = [(4, 4), (5, 7), (6, 5), (1, 4), (4, 1), (1, 1), (2, 3)]


def direct_sum(x, weight):
    """The layer by sums over taps: y[p] = sum_q k[q] x[p - q], k the inverse DFT of K.

    K is what irfft2 takes it for: columns 0 and w / 2 count by their Hermitian part.
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


def test_other_map_size_is_the_padded_kernel():
    """An odd kernel moved to a larger map sees the same window around each pixel."""
    layer = GlobalFilter(2, (5, 5)).double()
    x = torch.randn(1, 9, 12, 2, dtype=torch.float64)
    y = layer(x)
    for row, column in [(2, 2), (4, 7), (6, 9)]:
        window = x[:, row - 2 : row + 3, column - 2 : column + 3]
        torch.testing.assert_close(y[:, row, column], layer(window)[:, 2, 2], rtol=0, atol=1e-14)


@pytest.mark.parametrize("map_size", [(4, 5), (6, 3)])
def test_gradients(map_size):
    layer = GlobalFilter(2, (4, 5)).double()
    x = torch.randn(2, *map_size, 2, dtype=torch.float64, requires_grad=True)

    def forward(x, weight):
        return torch.func.functional_call(layer, {"complex_weight": weight}, (x,))

    weight = layer.complex_weight.detach().requires_grad_()
    assert torch.autograd.gradcheck(forward, (x, weight))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_computes_in_float32(dtype):
    layer = GlobalFilter(4, (8, 8))
    x = (300 * torch.randn(1, 8, 8, 4)).to(dtype)  # squares overflow float16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
    assert y.dtype == dtype
    torch.testing.assert_close(y, layer(x.float()).to(dtype), rtol=0, atol=0)
