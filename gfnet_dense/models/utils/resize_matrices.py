"""Matrices that resize one axis, kept as tensors on the device where they are used.

:func:`apply_matrix` multiplies by the matrix ``kind`` that resizes an axis of n entries to m:

- ``trigonometric`` and ``spectral_pad`` resize all n bins of a discrete Fourier transform, see
  :func:`.resize_filter`; with ``_columns`` behind the name, the stored half of them.
- ``bilinear_taps`` and ``bilinear_corners_taps`` followed by a number of taps, see
  :func:`shifted_bilinear`;
- ``bicubic`` resizes a map; ``bilinear_corners`` and ``bicubic_corners`` do so with aligned
  corners. All three equal one axis of ``F.interpolate`` up to rounding.

The matrices of the last sizes are kept, at most ``MAX_MATRICES`` of them and ``MAX_BYTES`` in one
process; a training of the default config, with crops of 512, has 9 in 85 KiB. Making one copies it
to the device, which waits for a GPU, so each model has to run once before its work is captured in a
CUDA graph.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .hooks import records_cuda_graph
from .precision import reduces_float32_products, transform_dtype

Key = tuple[str, int, int, torch.dtype, torch.device]

MAX_MATRICES = 512  # a training on sides of 28 lengths, 480 to 1344, has 252 in 4 MiB
MAX_BYTES = 64 * 2**20

_kept: dict[Key, Tensor] = {}  # last used at the end
_captured: dict[Key, Tensor] = {}  # read by CUDA graphs at each replay, so kept for good


def apply_matrix(kind: str, n: int, m: int, x: Tensor) -> Tensor:
    """Resize the axis -2 of ``x`` by a matrix, exactly in the dtype of ``x``.

    Where PyTorch is allowed to reduce the precision of float32 products (TF32 keeps 10 bits,
    bfloat16 7), the product runs in float64. On GPUs with slow float64 this takes time: a training
    step of GFNet-H-Ti at 512 has 1.9e9 operations in these products, for any batch size. That is at
    least 3 ms on an RTX 3090, which does 0.56e12 a second (1/64 of its float32).

    Args:
        kind: One of the matrices of this module.
        n: Length of the axis before.
        m: Length of the axis afterwards.
        x: Float32 or float64, (..., columns of the matrix, c), without autocast
            (:func:`.full_precision`).

    Returns:
        Tensor of the dtype of ``x``, (..., rows of the matrix, c).
    """
    # In a graph that PyTorch records, a kept matrix would become a constant, and the setting of
    # the precision as well. Fake tensors do not mix with others.
    recorded = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if recorded or type(x) not in (Tensor, nn.Parameter):
        return _operator(x, kind, n, m, False)
    return _multiply(x, kind, n, m, False)


def kept_matrix(kind: str, n: int, m: int, like: Tensor) -> Tensor:
    """Return a matrix in the dtype of a tensor, on its device; it must not be changed."""
    return _keep((kind, n, m, like.dtype, like.device))


def _multiply(x: Tensor, kind: str, n: int, m: int, transposed: bool) -> Tensor:
    reduced = x.dtype == torch.float32 and reduces_float32_products(x.device)
    dtype = torch.float64 if reduced else x.dtype
    matrix = _keep((kind, n, m, dtype, x.device))
    return ((matrix.t() if transposed else matrix) @ x.to(dtype)).to(x.dtype)


_operator = torch.library.custom_op("gfnet_dense::resize_axis", _multiply, mutates_args=())


@_operator.register_fake
def _fake_multiply(x: Tensor, kind: str, n: int, m: int, transposed: bool) -> Tensor:
    rows, columns = (m // 2 + 1, 2 * (n // 2 + 1)) if kind.endswith("_columns") else (m, n)
    return x.new_empty(*x.shape[:-2], columns if transposed else rows, x.shape[-1])


def _save_arguments(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.arguments = inputs[1:]


def _differentiate(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    kind, n, m, transposed = ctx.arguments
    return _operator(gradient, kind, n, m, not transposed), None, None, None, None


_operator.register_autograd(_differentiate, setup_context=_save_arguments)


def _keep(key: Key) -> Tensor:
    # No lock, which a fork could leave locked: each access to the dict is atomic, and a matrix
    # that two threads make at once is made twice.
    matrix = _kept.pop(key, None)
    if is_new := matrix is None:
        # A thread of its own has none of the caller's modes: inference mode, whose tensors cannot
        # be used in training, fake tensors, levels of torch.func, default device.
        with ThreadPoolExecutor(max_workers=1) as thread:
            matrix = thread.submit(_make, *key).result()
    _kept[key] = matrix
    if is_new:
        _forget_oldest()
    if records_cuda_graph():
        _captured[key] = matrix
    return matrix


def _forget_oldest() -> None:
    count, num_bytes = 0, 0
    for key, matrix in reversed(list(_kept.copy().items())):
        count, num_bytes = count + 1, num_bytes + matrix.nbytes
        if count > MAX_MATRICES or num_bytes > MAX_BYTES:
            _kept.pop(key, None)


def _make(kind: str, n: int, m: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    name, separator, taps = kind.partition("_taps")
    if separator:
        like = torch.empty(0, dtype=transform_dtype(dtype))
        return shifted_bilinear(n, m, int(taps), name.endswith("corners"), like).to(device, dtype)
    return torch.from_numpy(_MATRICES[kind](n, m)).to(dtype).to(device)


def shifted_bilinear(n: int, m: int, taps: int, align_corners: bool, like: Tensor) -> Tensor:
    """Return the matrices of an axis that is interpolated linearly, and then shifted by each tap.

    Args:
        n: Length of the axis before.
        m: Length of the axis afterwards.
        taps: Odd number of taps of a convolution.
        align_corners: See :func:`torch.nn.functional.interpolate`.
        like: Tensor whose device the result has; positions are rounded in its dtype.

    Returns:
        Tensor, (taps, m, n). Rows that read beyond the interpolated axis are zero.
    """
    identity = torch.eye(n, dtype=like.dtype, device=like.device)[None]
    matrix = F.interpolate(identity, size=m, mode="linear", align_corners=align_corners)[0].t()
    padded = F.pad(matrix, (0, 0, taps // 2, taps // 2))
    return torch.stack([padded[tap : tap + m] for tap in range(taps)])


def used_samples(n: int, m: int, positions: slice, taps: int, align_corners: bool) -> slice:
    """Return the samples from which :func:`shifted_bilinear` makes some positions.

    Args:
        n, m, taps, align_corners: See :func:`shifted_bilinear`.
        positions: Rows of each of the matrices, from start to stop.

    Returns:
        Columns of the matrices beyond which these rows are zero.
    """
    first = max(positions.start - taps // 2, 0)
    last = min(positions.stop - 1 + taps // 2, m - 1)
    if align_corners:
        low, high = (i * (n - 1) // max(m - 1, 1) for i in (first, last))
    else:
        low, high = (((2 * i + 1) * n - m) // (2 * m) for i in (first, last))
    return slice(max(low, 0), min(high + 2, n))


def trigonometric_matrix(n: int, m: int) -> np.ndarray:
    """Return the matrix of trigonometric interpolation from n to m DFT samples of a real kernel.

    A[k', k] = D_n(2 pi (k / n - k' / m)) / n with the Dirichlet kernel D_n(t) = sin(n t / 2) /
    sin(t / 2) for odd n and sin(n t / 2) / tan(t / 2) for even n, where the tap n / 2 of the
    centered kernel is split into two halves. Arguments are reduced as integers, so A is exact at
    its zeros and for m = n.

    Returns:
        Float64 array, (m, n).
    """
    # t / 2 = pi * j / (n * m). In j, D_n has the period n * m and its numerator the period 2 * m.
    # Both are reduced to the period around 0, where a sine is as exact as its argument.
    j = np.arange(n)[None, :] * m - np.arange(m)[:, None] * n
    j = (j + n * m // 2) % (n * m) - n * m // 2
    numerator = np.sin(np.pi * ((j + m) % (2 * m) - m) / m)
    numerator[j % m == 0] = 0.0
    angle = np.pi * j / (n * m)
    peak = j == 0
    denominator = np.sin(angle) if n % 2 else np.tan(angle)
    return np.where(peak, 1.0, numerator / np.where(peak, 1.0, denominator * n))


def spectral_pad_matrix(n: int, m: int) -> np.ndarray:
    """Return the matrix that keeps the frequencies that n and m bins share and sets others to 0.

    Returns:
        Float64 array, (m, n).
    """
    matrix = np.zeros((m, n))
    limit = (min(n, m) - 1) // 2
    for k in range(-limit, limit + 1):
        matrix[k % m, k % n] = 1.0
    nyquist = min(n, m) // 2
    if min(n, m) % 2 == 0:  # +nyquist and -nyquist are one bin of the smaller grid
        for k in (nyquist, -nyquist):
            matrix[k % m, k % n] = 1.0 if n == m else 0.5
    return matrix


def columns_matrix(two_sided: np.ndarray) -> np.ndarray:
    """Return the matrix [B1, B2] that resizes the stored half K of the columns of a filter.

    Column n - j of all n columns is the mirror of column j: M[r, j] = conj K[-r, j]. B1 K + B2 M
    equals ``two_sided`` applied to all n columns. Each self-mirrored column contributes one half
    through K and one half through M, which symmetrizes it.

    Args:
        two_sided: Matrix (m, n) for all columns.

    Returns:
        Float64 array, (m // 2 + 1, 2 * (n // 2 + 1)).
    """
    m, n = two_sided.shape
    half = n // 2 + 1
    two_sided = two_sided[: m // 2 + 1]
    direct = two_sided[:, :half].copy()
    mirrored = np.zeros_like(direct)
    mirrored[:, 1 : n - half + 1] = two_sided[:, : half - 1 : -1]
    for column in [0, n // 2] if n % 2 == 0 else [0]:
        direct[:, column] /= 2
        mirrored[:, column] = direct[:, column]
    return np.concatenate([direct, mirrored], axis=1)


def interpolation_matrix(
    n: int, m: int, weight: Callable[[np.ndarray], np.ndarray], corners: bool
) -> np.ndarray:
    """Return the matrix of interpolation between n samples at m positions.

    Args:
        n: Number of samples.
        m: Number of positions.
        weight: Weight of a sample by its distance, which is 0 from a distance of 2 on. Beyond the
            ends the first and last sample are repeated.
        corners: Whether the first and last position lie on the first and last sample; otherwise
            samples and positions are centers of pixels, and the edges of both rows of pixels meet.

    Returns:
        Float64 array, (m, n).
    """
    if corners:
        positions = np.arange(m) * ((n - 1) / (m - 1) if m > 1 else 0.0)
    else:
        positions = (np.arange(m) + 0.5) * (n / m) - 0.5
    matrix = np.zeros((m, n))
    for offset in (-1, 0, 1, 2):
        sample = np.floor(positions).astype(int) + offset
        # Not by an assignment with +=, which counts an index once.
        np.add.at(matrix, (np.arange(m), sample.clip(0, n - 1)), weight(np.abs(positions - sample)))
    return matrix


def _linear(distance: np.ndarray) -> np.ndarray:
    return np.maximum(1 - distance, 0)


def _cubic(distance: np.ndarray) -> np.ndarray:
    """Return the weights of cubic convolution (Keys, 1981), with PyTorch's parameter a."""
    d, a = distance, -0.75
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = a * (((d - 5) * d + 8) * d - 4)
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


_MATRICES: dict[str, Callable[[int, int], np.ndarray]] = {
    "trigonometric": trigonometric_matrix,
    "trigonometric_columns": lambda n, m: columns_matrix(trigonometric_matrix(n, m)),
    "spectral_pad": spectral_pad_matrix,
    "spectral_pad_columns": lambda n, m: columns_matrix(spectral_pad_matrix(n, m)),
    "bicubic": lambda n, m: interpolation_matrix(n, m, _cubic, corners=False),
    "bilinear_corners": lambda n, m: interpolation_matrix(n, m, _linear, corners=True),
    "bicubic_corners": lambda n, m: interpolation_matrix(n, m, _cubic, corners=True),
}
