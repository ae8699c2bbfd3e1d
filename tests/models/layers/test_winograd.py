import pytest
import torch
import torch.nn.functional as F

from gfnet_dense.models.layers.winograd import convolve_tile, matrices, transform_weight
from gfnet_dense.models.utils.scratch import Scratch


def test_the_matrices_of_one_axis_are_a_sliding_sum_of_products():
    a, g, b = matrices()
    x, taps = torch.randn(6, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    expected = torch.stack([x[i : i + 3] @ taps for i in range(4)])
    torch.testing.assert_close(a @ ((g @ taps) * (b @ x)), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rows, columns", [(1, 1), (3, 2), (1, 5)])
def test_a_tile_equals_the_convolution(rows, columns):
    x = torch.randn(4 * rows + 2, 4 * columns + 2, 5, dtype=torch.float64)
    weight = torch.randn(7, 5, 3, 3, dtype=torch.float64)
    expected = F.conv2d(x.permute(2, 0, 1), weight).permute(1, 2, 0)
    found = convolve_tile(x, transform_weight(weight, Scratch(x)), Scratch(x))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_float32_loses_one_digit_of_a_convolution_of_512_channels():
    x, weight = torch.randn(18, 18, 512).relu(), torch.randn(32, 512, 3, 3)
    expected = F.conv2d(x.permute(2, 0, 1).double(), weight.double()).permute(1, 2, 0)
    error = convolve_tile(x, transform_weight(weight, Scratch(x)), Scratch(x)) - expected
    assert error.norm() < 4e-6 * expected.norm()
