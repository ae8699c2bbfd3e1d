import pytest
import torch

from gfnet_dense.models.layers.mlp import Mlp, linear


@pytest.mark.parametrize("shape", [(1, 8), (7, 33), (2, 5, 64), (300, 256)])
@pytest.mark.parametrize("instructions", ["AVX2", "AVX512"])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
def test_linear_equals_the_product_in_float64(
    shape, instructions, with_bias, transposed, monkeypatch
):
    """By the product of either kind of processor: each of them runs on every processor."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: instructions)
    torch.manual_seed(0)
    x, bias = torch.randn(shape), torch.randn(12) if with_bias else None
    weight = torch.randn(shape[-1], 12).t() if transposed else torch.randn(12, shape[-1])
    expected = (x.double()[..., None, :] * weight.double()).sum(-1)
    if with_bias:
        expected += bias
    with torch.inference_mode():
        y = linear(x, weight, bias)
    assert y.dtype == torch.float32 and y.shape == expected.shape
    assert (y - expected).norm() <= 2e-6 * expected.norm()


@pytest.mark.parametrize("approximate", ["none", "tanh"])
@pytest.mark.parametrize("instructions", ["AVX2", "AVX512"])
def test_infer_equals_forward_and_changes_neither_input_nor_weights(
    approximate, instructions, monkeypatch
):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: instructions)
    torch.manual_seed(0)
    mlp, x = Mlp(16, 64), torch.randn(3, 50, 16)
    mlp.act.approximate = approximate
    before = [t.clone() for t in (x, *mlp.parameters())]
    expected = torch.nn.functional.gelu(
        x.double() @ mlp.fc1.weight.double().t() + mlp.fc1.bias, approximate=approximate
    )
    expected = expected @ mlp.fc2.weight.double().t() + mlp.fc2.bias
    with torch.no_grad():
        assert (mlp.infer(x) - expected).norm() <= 2e-6 * expected.norm()
    assert all(map(torch.equal, (x, *mlp.parameters()), before))


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
