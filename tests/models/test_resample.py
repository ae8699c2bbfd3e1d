import numpy as np
import pytest
import torch

from gfnet_dense.errors import InputError
from gfnet_dense.models.resample import (
    resize_filter,
    resize_position_embedding,
    symmetrize_filter,
    trigonometric_matrix,
)

SIZES = [(7, 7), (14, 14), (8, 5), (5, 8), (1, 6), (6, 1), (2, 2), (1, 1), (13, 4)]


def random_filter(size, dim=2):
    h, w = size
    return symmetrize_filter(torch.randn(h, w // 2 + 1, dim, 2, dtype=torch.float64), size)


def kernel_of(weight, size):
    """The real kernel (dim, h, w) of a filter."""
    spectrum = torch.view_as_complex(weight.permute(2, 0, 1, 3).contiguous())
    return torch.fft.irfft2(spectrum, s=size)


def taps(n):
    """(offset from the centre, index, weight) of each tap of a centred kernel of length n."""
    half = n // 2
    if n % 2:
        return [(i if i <= half else i - n, i, 1.0) for i in range(n)]
    inner = [(i if i < half else i - n, i, 1.0) for i in range(n) if i != half]
    return [*inner, (half, half, 0.5), (-half, half, 0.5)]


def pad_or_fold(weight, size, new_size):
    """Resize tap by tap in space: the definition of the trigonometric mode."""
    kernel = kernel_of(weight, size)
    H, W = new_size
    new = torch.zeros(kernel.shape[0], H, W, dtype=kernel.dtype)
    for dy, y, a in taps(size[0]):
        for dx, x, b in taps(size[1]):
            new[:, dy % H, dx % W] += a * b * kernel[:, y, x]
    return torch.view_as_real(torch.fft.rfft2(new).permute(1, 2, 0))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("new_size", [(7, 7), (14, 9), (25, 42), (3, 2), (40, 8), (1, 1)])
def test_trigonometric_is_the_same_kernel_padded_or_folded(size, new_size):
    weight = random_filter(size)
    torch.testing.assert_close(
        resize_filter(weight, size, new_size),
        pad_or_fold(weight, size, new_size),
        rtol=0,
        atol=1e-12,
    )


@pytest.mark.parametrize("size", SIZES)
def test_trigonometric_ignores_what_the_layer_ignores(size):
    """A filter that is not Hermitian resizes like its Hermitian part."""
    h, w = size
    weight = torch.randn(h, w // 2 + 1, 2, 2, dtype=torch.float64)
    torch.testing.assert_close(
        resize_filter(weight, size, (9, 10)),
        resize_filter(symmetrize_filter(weight, size), size, (9, 10)),
        rtol=0,
        atol=1e-12,
    )


@pytest.mark.parametrize("size", SIZES)
def test_symmetrize_leaves_the_real_kernel(size):
    h, w = size
    weight = torch.randn(h, w // 2 + 1, 2, 2, dtype=torch.float64)
    symmetric = symmetrize_filter(weight, size)
    # The spectrum of a real kernel is the projected filter itself.
    spectrum = torch.fft.rfft2(kernel_of(symmetric, size)).permute(1, 2, 0)
    torch.testing.assert_close(torch.view_as_real(spectrum), symmetric, rtol=0, atol=1e-13)
    torch.testing.assert_close(symmetrize_filter(symmetric, size), symmetric, rtol=0, atol=0)


@pytest.mark.parametrize("n", [1, 2, 5, 6])
@pytest.mark.parametrize("m", [1, 2, 5, 6, 11])
def test_trigonometric_matrix_is_the_dtft_of_centred_taps(n, m):
    expected = np.zeros((m, n), complex)
    for k_out in range(m):
        for k_in in range(n):
            for offset, index, weight in taps(n):
                phase = 2j * np.pi * (k_in * index / n - k_out * offset / m)
                expected[k_out, k_in] += weight * np.exp(phase) / n
    np.testing.assert_allclose(expected.imag, 0, atol=1e-13)
    np.testing.assert_allclose(trigonometric_matrix(n, m), expected.real, atol=1e-13)


def test_same_size_is_exact():
    weight = random_filter((7, 8))
    assert resize_filter(weight, (7, 8), (7, 8)) is weight
    np.testing.assert_array_equal(trigonometric_matrix(14, 14), np.eye(14))


def test_resizing_is_differentiable():
    weight = random_filter((4, 5), dim=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda w: resize_filter(w, (4, 5), (7, 6)), weight)


def test_wrong_arguments_are_named():
    weight = random_filter((8, 8))
    with pytest.raises(InputError, match="one of .*trigonometric.*got 'nearest'"):
        resize_filter(weight, (8, 8), (4, 4), mode="nearest")
    with pytest.raises(ValueError, match=r"\(8, 6, dim, 2\), got \(8, 5, 2, 2\)"):
        resize_filter(weight, (8, 10), (4, 4))


def test_position_embedding_is_bicubic():
    """Against the cubic convolution kernel of Keys (1981) with a = -0.75, torch's, by hand."""
    embedding = torch.randn(1, 6 * 9, 2, dtype=torch.float64)
    grid = embedding.reshape(6, 9, 2)
    resized = resize_position_embedding(embedding, (6, 9), (12, 9)).reshape(12, 9, 2)
    # Output row 5 lies at (5 + 0.5) / 2 - 0.5 = 2.25, between the rows 2 and 3.
    a, t = -0.75, 0.25
    near = [(a + 2) * d**3 - (a + 3) * d**2 + 1 for d in (t, 1 - t)]
    far = [a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a for d in (1 + t, 2 - t)]
    expected = far[0] * grid[1] + near[0] * grid[2] + near[1] * grid[3] + far[1] * grid[4]
    torch.testing.assert_close(resized[5], expected, rtol=0, atol=1e-12)
