import pytest
import torch

from gfnet_dense.models.layers.global_filter import GlobalFilter
from gfnet_dense.models.layers.matrix_filter import MatrixFilter

SIZES = [(8, 8), (7, 9), (9, 7), (1, 1), (2, 1), (1, 5), (16, 10), (5, 32)]


def random_filter(size, dtype=torch.float64, **kwargs):
    torch.manual_seed(0)
    layer = GlobalFilter(3, size, **kwargs).to(dtype).eval()
    with torch.no_grad():
        layer.complex_weight.copy_(torch.randn(layer.complex_weight.shape))
    return layer


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("stored", [None, (6, 7)])
@pytest.mark.parametrize("border", ["circular", "zeros", "reflect"])
def test_matrix_filter_equals_the_fft_filter(size, stored, border):
    layer = random_filter(stored or size, border=border)
    x = torch.randn(2, *size, 3, dtype=torch.float64)
    y = MatrixFilter(layer, size)(x)
    torch.testing.assert_close(y, layer(x), rtol=0, atol=1e-11)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "spectral_pad"])
def test_matrix_filter_equals_the_fft_filter_with_other_resize_modes(mode):
    layer = random_filter((6, 7), resize=mode)
    x = torch.randn(2, 9, 8, 3, dtype=torch.float64)
    torch.testing.assert_close(MatrixFilter(layer, (9, 8))(x), layer(x), rtol=0, atol=1e-11)


def test_matrix_filter_is_a_circular_convolution():
    """Compare with the sum over the taps of the kernel, the filter's inverse transform."""
    layer = random_filter((4, 5))
    kernel = torch.fft.irfft2(layer.response((4, 5), torch.float64), s=(4, 5))
    x = torch.randn(1, 4, 5, 3, dtype=torch.float64)
    expected = torch.zeros_like(x)
    for i in range(4):
        for j in range(5):
            shifted = x.roll((i, j), dims=(1, 2))
            expected += kernel[:, i, j] * shifted
    torch.testing.assert_close(MatrixFilter(layer, (4, 5))(x), expected, rtol=0, atol=1e-12)


def test_large_maps_in_float32_are_close_to_float64():
    layer = random_filter((128, 96), torch.float32)
    x = torch.randn(1, 128, 96, 3)
    expected = layer.double()(x.double())
    y = MatrixFilter(layer.float(), (128, 96))(x)
    assert y.dtype == torch.float32
    assert (y - expected).norm() <= 1e-6 * expected.norm()


def test_half_precision_is_computed_in_float32():
    layer = random_filter((8, 8), torch.float32)
    x = torch.randn(1, 8, 8, 3).bfloat16()
    y = MatrixFilter(layer, (8, 8))(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, layer(x), rtol=2e-2, atol=2e-2)


def test_a_map_of_another_size_is_refused():
    with pytest.raises(ValueError, match="for maps of \\(8, 8\\)"):
        MatrixFilter(random_filter((8, 8)), (8, 8))(torch.zeros(1, 8, 9, 3))
