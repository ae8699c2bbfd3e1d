import pytest
import torch
from torch import nn

from gfnet_dense.models.layers.mlp import Mlp, linear


@pytest.mark.parametrize("shape", [(1, 8), (7, 33), (2, 5, 64), (300, 256)])
@pytest.mark.parametrize("gelu", ["", "none", "tanh"])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
def test_linear_equals_the_product_in_float64(shape, gelu, with_bias, transposed):
    torch.manual_seed(0)
    x, bias = torch.randn(shape), torch.randn(12) if with_bias else None
    weight = torch.randn(shape[-1], 12).t() if transposed else torch.randn(12, shape[-1])
    expected = (x.double()[..., None, :] * weight.double()).sum(-1)
    if with_bias:
        expected += bias
    if gelu:
        expected = nn.GELU(gelu)(expected)
    with torch.inference_mode():
        y = linear(x, weight, bias, gelu)
    assert y.dtype == torch.float32 and y.shape == expected.shape
    assert (y - expected).norm() <= 2e-6 * expected.norm()


def test_infer_equals_forward_without_onednn_under_autocast_and_in_float64():
    torch.manual_seed(0)
    mlp, x = Mlp(16, 64), torch.randn(3, 50, 16)
    expected = mlp(x)
    with torch.no_grad():
        with torch.backends.mkldnn.flags(enabled=False):
            torch.testing.assert_close(mlp.infer(x), expected)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(mlp.infer(x), mlp(x))
        assert torch.equal(mlp.double().infer(x.double()), mlp(x.double()))
