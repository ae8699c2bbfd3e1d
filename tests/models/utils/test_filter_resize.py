import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from gfnet_dense.models.utils.filter_resize import (
    FILTER_RESIZE_MODES,
    resize_filter,
    resize_position_embedding,
    symmetrize_filter,
)
from gfnet_dense.models.utils.resize_matrices import trigonometric_matrix
from gfnet_dense.utils.errors import InputError

SIZES = [(7, 7), (14, 14), (8, 5), (5, 8), (1, 6), (6, 1), (2, 2), (1, 1), (13, 4)]


def random_filter(size, dim=2):
    h, w = size
    return symmetrize_filter(torch.randn(h, w // 2 + 1, dim, 2, dtype=torch.float64), size)


def kernel_of(weight, size):
    """Return the real kernel (dim, h, w) of a filter."""
    spectrum = torch.view_as_complex(weight.permute(2, 0, 1, 3).contiguous())
    return torch.fft.irfft2(spectrum, s=size)


def taps(n):
    """Return (offset from the center, index, weight) of each tap of a kernel of length n."""
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
def test_trigonometric_resizing_pads_or_folds_the_kernel(size, new_size):
    weight = random_filter(size)
    torch.testing.assert_close(
        resize_filter(weight, size, new_size),
        pad_or_fold(weight, size, new_size),
        rtol=0,
        atol=1e-12,
    )


@pytest.mark.parametrize("size", SIZES)
def test_trigonometric_resizing_uses_only_the_hermitian_part(size):
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
def test_a_symmetrized_filter_is_the_spectrum_of_a_real_kernel(size):
    h, w = size
    weight = torch.randn(h, w // 2 + 1, 2, 2, dtype=torch.float64)
    symmetric = symmetrize_filter(weight, size)
    # The spectrum of a real kernel is the projected filter itself.
    spectrum = torch.fft.rfft2(kernel_of(symmetric, size)).permute(1, 2, 0)
    torch.testing.assert_close(torch.view_as_real(spectrum), symmetric, rtol=0, atol=1e-13)
    torch.testing.assert_close(symmetrize_filter(symmetric, size), symmetric, rtol=0, atol=0)
    # PyTorch's irfft2 on a CPU drops the same part of the filter.
    torch.testing.assert_close(
        kernel_of(symmetric, size), kernel_of(weight, size), rtol=0, atol=1e-13
    )


@pytest.mark.parametrize("n", [1, 2, 5, 6])
@pytest.mark.parametrize("m", [1, 2, 5, 6, 11])
def test_trigonometric_matrix_is_the_dtft_of_centered_taps(n, m):
    expected = np.zeros((m, n), complex)
    for k_out in range(m):
        for k_in in range(n):
            for offset, index, weight in taps(n):
                phase = 2j * np.pi * (k_in * index / n - k_out * offset / m)
                expected[k_out, k_in] += weight * np.exp(phase) / n
    np.testing.assert_allclose(expected.imag, 0, atol=1e-13)
    np.testing.assert_allclose(trigonometric_matrix(n, m), expected.real, atol=1e-13)


def test_resizing_to_the_same_size_returns_the_filter_itself():
    weight = random_filter((7, 8))
    assert resize_filter(weight, (7, 8), (7, 8)) is weight
    np.testing.assert_array_equal(trigonometric_matrix(14, 14), np.eye(14))


# ---- properties of the trigonometric mode, for any size ---------------------------------------

STORED = st.sampled_from([7, 14, 28, 56]) | st.integers(1, 20)
SIZE = st.tuples(STORED, STORED)
NEW_SIZE = st.tuples(st.integers(8, 84), st.integers(8, 84))


def structured_filter(size):
    """Return a radial low-pass filter with noise and a DC peak, similar to learned filters."""
    h, w = size
    radius = np.hypot(np.fft.fftfreq(h)[:, None], np.fft.rfftfreq(w)[None])
    weight = torch.zeros(h, w // 2 + 1, 2, 2, dtype=torch.float64)
    weight[..., 0] = torch.from_numpy(np.exp(-8 * radius))[..., None]
    weight[0, 0, :, 0] += 5
    return weight + 0.1 * random_filter(size)


FILTER = st.sampled_from([random_filter, structured_filter])


def apply(weight, size, x):
    """Apply the layer to maps (..., dim, H, W) by its definition."""
    spectrum = torch.view_as_complex(weight.permute(2, 0, 1, 3).contiguous())
    return torch.fft.irfft2(torch.fft.rfft2(x) * spectrum, s=size)


def assert_equal(a, b, atol=1e-12):
    torch.testing.assert_close(a, b, rtol=0, atol=atol)


@settings(max_examples=40, deadline=None)
@given(FILTER, SIZE, NEW_SIZE)
def test_dc_gain_and_hermitian_symmetry_are_kept(make, size, new_size):
    weight = make(size)
    resized = resize_filter(weight, size, new_size)
    assert_equal(resized[0, 0], weight[0, 0])
    assert_equal(symmetrize_filter(resized, new_size), resized)


@settings(max_examples=40, deadline=None)
@given(FILTER, SIZE, st.tuples(st.integers(0, 60), st.integers(0, 60)))
def test_resizing_up_and_back_is_the_identity(make, size, more):
    up = (size[0] + more[0], size[1] + more[1])
    weight = make(size)
    assert_equal(resize_filter(resize_filter(weight, size, up), up, size), weight)


@settings(max_examples=40, deadline=None)
@given(FILTER, SIZE, st.tuples(st.integers(0, 30), st.integers(0, 30)), NEW_SIZE)
def test_resizing_over_a_larger_size_equals_resizing_once(make, size, more, new_size):
    """The larger size adds only zeros to the kernel, and zeros fold to nothing."""
    middle = (size[0] + more[0], size[1] + more[1])
    weight = make(size)
    assert_equal(
        resize_filter(resize_filter(weight, size, middle), middle, new_size),
        resize_filter(weight, size, new_size),
    )


@settings(max_examples=30, deadline=None)
@given(FILTER, SIZE, st.integers(1, 3), st.integers(1, 3))
def test_tiling_the_input_tiles_the_output(make, size, rows, columns):
    weight = make(size)
    x = torch.randn(2, *size, dtype=torch.float64)
    tiled = (rows * size[0], columns * size[1])
    assert_equal(
        apply(resize_filter(weight, size, tiled), tiled, x.repeat(1, rows, columns)),
        apply(weight, size, x).repeat(1, rows, columns),
    )


@settings(max_examples=30, deadline=None)
@given(FILTER, SIZE, NEW_SIZE)
def test_vertical_symmetry_is_kept(make, size, new_size):
    weight = make(size)
    weight = (weight + weight.flip(0).roll(1, 0)) / 2  # equal to its vertical mirror image
    resized = resize_filter(weight, size, new_size)
    assert_equal(resized, resized.flip(0).roll(1, 0))


@settings(max_examples=20, deadline=None)
@given(FILTER, st.sampled_from([(7, 7), (7, 13), (27, 9)]), NEW_SIZE)
def test_each_pixel_of_a_large_map_sees_the_window_of_the_stored_size(make, size, new_size):
    """For odd stored sizes the output at p is that of the layer on the window around p."""
    (h, w), (H, W) = size, (new_size[0] + 20, new_size[1] + 20)
    weight = make(size)
    x = torch.randn(2, H, W, dtype=torch.float64)
    y = apply(resize_filter(weight, size, (H, W)), (H, W), x)
    row, column = H // 2, W // 2
    top, left = row - h // 2, column - w // 2
    window = apply(weight, size, x[:, top : top + h, left : left + w])
    assert_equal(y[:, row, column], window[:, h // 2, w // 2])


@settings(max_examples=30, deadline=None)
@given(st.tuples(st.integers(4, 56), st.integers(4, 56)), NEW_SIZE)
def test_a_3x3_convolution_stays_the_same_convolution(size, new_size):
    taps = torch.randn(2, 3, 3, dtype=torch.float64)

    def filter_of(size):
        kernel = torch.zeros(2, *size, dtype=torch.float64)
        kernel[:, :3, :3] = taps
        kernel = kernel.roll((-1, -1), dims=(1, 2))
        return torch.view_as_real(torch.fft.rfft2(kernel).permute(1, 2, 0))

    assert_equal(resize_filter(filter_of(size), size, new_size), filter_of(new_size))


# ---- the other modes ---------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size, new_size", [((14, 14), (25, 42)), ((56, 56), (128, 128)),
                                            ((7, 9), (4, 3)), ((8, 5), (8, 6))])  # fmt: skip
def test_bilinear_and_bicubic_equal_the_published_code_bit_for_bit(mode, dtype, size, new_size):
    """The finetuning code of the release resizes the raw half spectrum as an image."""
    h, w = size[0], size[1] // 2 + 1
    new_h, new_w = new_size[0], new_size[1] // 2 + 1
    weight = torch.randn(h, w, 6, 2, dtype=dtype)
    image = weight.reshape(1, h, w, 12).permute(0, 3, 1, 2)
    image = F.interpolate(image, size=(new_h, new_w), mode=mode, align_corners=True)
    expected = image.permute(0, 2, 3, 1).reshape(new_h, new_w, 6, 2)
    assert torch.equal(resize_filter(weight, size, new_size, mode), expected)


@pytest.mark.parametrize("size", [(7, 7), (8, 8), (6, 9), (14, 5), (1, 2)])
@pytest.mark.parametrize("new_size", [(7, 7), (16, 21), (5, 4), (4, 9), (9, 6)])
def test_spectral_pad_equals_padding_of_the_two_sided_spectrum(size, new_size):
    """The frequencies +N/2 and -N/2 of an even axis share one bin: halved or averaged."""
    weight = random_filter(size)
    full = torch.fft.fft2(kernel_of(weight, size))

    def bins(n, m):
        """Return (bin of n, bin of m, factor) of each frequency that both lengths have."""
        small, pairs = min(n, m), []
        for k in range(-(small // 2), small // 2 + 1):
            edge = small % 2 == 0 and abs(k) == small // 2
            pairs.append((k % n, k % m, 0.5 if edge else 1.0))
        return pairs

    expected = torch.zeros(2, *new_size, dtype=full.dtype)
    for y, new_y, a in bins(size[0], new_size[0]):
        for x, new_x, b in bins(size[1], new_size[1]):
            expected[:, new_y, new_x] += a * b * full[:, y, x]
    resized = resize_filter(weight, size, new_size, "spectral_pad")
    spectrum = torch.view_as_complex(resized.permute(2, 0, 1, 3).contiguous())
    torch.testing.assert_close(spectrum, expected[..., : new_size[1] // 2 + 1], rtol=0, atol=1e-13)


@pytest.mark.parametrize("mode", FILTER_RESIZE_MODES)
@pytest.mark.parametrize("new_size", [(3, 9), (11, 4), (7, 6)])
def test_every_mode_is_differentiable_and_keeps_the_dtype(mode, new_size):
    weight = random_filter((7, 6), dim=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda w: resize_filter(w, (7, 6), new_size, mode), weight)
    resized = resize_filter(weight.float(), (7, 6), new_size, mode)
    assert resized.dtype == torch.float32
    assert resized.shape == (new_size[0], new_size[1] // 2 + 1, 1, 2)
    constant = torch.zeros(7, 4, 1, 2, dtype=torch.float64)
    constant[..., 0] = 3.0
    assert resize_filter(constant, (7, 6), new_size, mode)[0, 0, 0, 0] == pytest.approx(3)


@pytest.mark.parametrize("mode", ["trigonometric", "spectral_pad"])
def test_autocast_does_not_change_the_resizing(mode):
    weight = random_filter((7, 6)).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        resized = resize_filter(weight, (7, 6), (9, 8), mode)
    assert torch.equal(resized, resize_filter(weight, (7, 6), (9, 8), mode))


def test_wrong_arguments_are_named_in_the_error():
    weight = random_filter((8, 8))
    with pytest.raises(InputError, match="one of .*trigonometric.*got 'nearest'"):
        resize_filter(weight, (8, 8), (4, 4), mode="nearest")
    with pytest.raises(ValueError, match=r"\(8, 6, dim, 2\), got \(8, 5, 2, 2\)"):
        resize_filter(weight, (8, 10), (4, 4))


def test_position_embedding_is_resized_by_bicubic_interpolation():
    """Compare with the cubic convolution kernel of Keys (1981), with PyTorch's a = -0.75."""
    embedding = torch.randn(1, 6 * 9, 2, dtype=torch.float64)
    grid = embedding.reshape(6, 9, 2)
    resized = resize_position_embedding(embedding, (6, 9), (12, 9)).reshape(12, 9, 2)
    # Output row 5 lies at (5 + 0.5) / 2 - 0.5 = 2.25, between the rows 2 and 3.
    a, t = -0.75, 0.25
    near = [(a + 2) * d**3 - (a + 3) * d**2 + 1 for d in (t, 1 - t)]
    far = [a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a for d in (1 + t, 2 - t)]
    expected = far[0] * grid[1] + near[0] * grid[2] + near[1] * grid[3] + far[1] * grid[4]
    torch.testing.assert_close(resized[5], expected, rtol=0, atol=1e-12)
