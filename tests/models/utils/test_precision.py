"""Exactness of the small products where PyTorch may reduce the precision of float32 products."""

import pytest
import torch

from gfnet_dense.models.utils import resize_matrices
from gfnet_dense.models.utils.filter_resize import resize_filter, resize_position_embedding
from gfnet_dense.models.utils.precision import full_precision, reduces_float32_products

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
new_settings = pytest.mark.skipif(
    not hasattr(torch.backends, "fp32_precision"), reason="PyTorch 2.9 has these settings"
)


@pytest.fixture(autouse=True)
def settings():
    """Restore PyTorch's settings, the older and the newer ones."""
    yield
    torch.set_float32_matmul_precision("highest")
    if hasattr(torch.backends, "fp32_precision"):
        torch.backends.fp32_precision = "none"
        torch.backends.cuda.matmul.fp32_precision = "none"
        torch.backends.mkldnn.matmul.fp32_precision = "none"


def resized(weight, embedding, mode="trigonometric"):
    """Return a resized filter and embedding, and the gradients of their sum of cubes."""
    weight, embedding = weight.clone().requires_grad_(), embedding.clone().requires_grad_()
    results = (
        resize_filter(weight, (56, 56), (128, 128), mode),
        resize_position_embedding(embedding, (56, 56), (128, 128)),
    )
    loss = sum(result.pow(3).sum() for result in results)
    return [*results, *torch.autograd.grad(loss, (weight, embedding))]


@pytest.mark.parametrize("level", ["medium", "high"])
@pytest.mark.parametrize("mode", ["trigonometric", "spectral_pad", "bilinear"])
@pytest.mark.parametrize("deterministic", [False, True])
def test_resizing_is_exact_whatever_precision_float32_products_have(level, mode, deterministic):
    """A CPU with bfloat16 instructions (lscpu: avx512_bf16, amx_bf16) uses them for "medium"."""
    weight, embedding = torch.randn(56, 29, 4, 2), torch.randn(1, 56 * 56, 4)
    exact = resized(weight.double(), embedding.double(), mode)
    torch.set_float32_matmul_precision(level)
    torch.use_deterministic_algorithms(deterministic)
    try:
        found = resized(weight, embedding, mode)
    finally:
        torch.use_deterministic_algorithms(False)
    for result, want in zip(found, exact, strict=True):
        assert result.dtype == torch.float32
        # F.interpolate itself computes its positions in float32.
        bound = 1e-6 if mode != "bilinear" or deterministic else 2e-5
        assert (result - want).abs().max() < bound * want.abs().max()
    assert torch.get_float32_matmul_precision() == level


def test_float64_is_used_only_where_precision_is_reduced(monkeypatch):
    x = torch.randn(4, 3)
    dtypes = []
    keep = resize_matrices._keep
    monkeypatch.setattr(resize_matrices, "_keep", lambda key: dtypes.append(key[3]) or keep(key))
    for level in ("highest", "high", "medium"):
        torch.set_float32_matmul_precision(level)
        resize_matrices.apply_matrix("bicubic", 4, 7, x)
        resize_matrices.apply_matrix("bicubic", 4, 7, x.double())
    single, double = torch.float32, torch.float64
    assert dtypes == [single, double, double, double, double, double]


@pytest.mark.parametrize("device", [CPU, CUDA])
def test_the_setting_of_all_float32_products_is_respected(device):
    for level, reduced in (("highest", False), ("high", True), ("medium", True)):
        torch.set_float32_matmul_precision(level)
        assert reduces_float32_products(device) is reduced
    assert not reduces_float32_products(torch.device("meta"))
    assert not reduces_float32_products(torch.device("mps"))  # has no float64


def test_the_settings_of_cuda_alone_are_respected():
    torch.backends.cuda.matmul.allow_tf32 = True
    assert reduces_float32_products(CUDA)
    torch.backends.cuda.matmul.allow_tf32 = False
    assert not reduces_float32_products(CUDA)


@new_settings
def test_the_settings_since_pytorch_2_9_are_respected():
    """PyTorch's older functions raise RuntimeError then."""
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    assert reduces_float32_products(CUDA) and not reduces_float32_products(CPU)
    torch.backends.cuda.matmul.fp32_precision = "none"
    torch.backends.fp32_precision = "tf32"
    assert reduces_float32_products(CUDA) and reduces_float32_products(CPU)
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    assert not reduces_float32_products(CUDA)
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    assert reduces_float32_products(CPU)


def test_older_versions_of_pytorch_have_one_setting(monkeypatch):
    monkeypatch.setattr(torch.backends, "mkldnn", object())
    assert not reduces_float32_products(CPU)
    torch.set_float32_matmul_precision("medium")
    assert reduces_float32_products(CPU)


def test_half_precision_embeddings_are_resized_in_float32():
    embedding = torch.randn(1, 6 * 9, 2)
    for dtype in (torch.float16, torch.bfloat16):
        half = embedding.to(dtype)
        result = resize_position_embedding(half, (6, 9), (12, 9))
        expected = resize_position_embedding(half.float(), (6, 9), (12, 9)).to(dtype)
        assert torch.equal(result, expected)


def test_autocast_does_not_change_the_resized_position_embedding():
    embedding = torch.randn(1, 6 * 9, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = resize_position_embedding(embedding, (6, 9), (12, 9))
        with full_precision(CPU):
            assert not torch.is_autocast_enabled("cpu")
        assert torch.is_autocast_enabled("cpu")
    assert torch.equal(result, resize_position_embedding(embedding, (6, 9), (12, 9)))
