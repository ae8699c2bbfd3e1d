"""Convolutions of 3x3 by Winograd's minimal filtering, for inference on a CPU.

A tile of 4x4 outputs takes 36 products for each pair of channels, where the sums of a convolution
take 144 (Winograd's F(4x4, 3x3); Lavin and Gray, "Fast Algorithms for Convolutional Neural
Networks", 2016, equation 8). The products are 36 matrix products over the channels. oneDNN, which
PyTorch uses on x86, has no such convolution.

The algorithm evaluates polynomials at the points of :data:`POINTS` and at infinity. These points
make the error of float32 smaller than the usual 0, 1, -1, 2, -2: the relative error of a layer of
512 channels is 2e-6, that of a sum is 2e-7.
"""

from fractions import Fraction
from functools import cache

import torch
from torch import Tensor

from gfnet_dense.models.utils.scratch import Scratch

POINTS = (Fraction(0), Fraction(1), Fraction(-1), Fraction(1, 2), Fraction(-2))
OUTPUTS, TAPS = 4, 3  # of a tile and of the kernel, along one axis
INPUTS = OUTPUTS + TAPS - 1  # of a tile, along one axis


def matrices() -> tuple[Tensor, Tensor, Tensor]:
    """Return the matrices A, G and B of one axis: y = A ((G g) * (B d)), in float64.

    They are Toom and Cook's: G evaluates the polynomial with the coefficients g, A is the transpose
    of an evaluation, and B of an interpolation (Lavin and Gray, section 4.1, name A and B
    transposed).

    Returns:
        A (4, 6), G (6, 3) and B (6, 6), for 6 inputs d, 3 taps g and 4 outputs y.
    """
    a, g, b = (torch.tensor(rows, dtype=torch.float64) for rows in _coefficients())
    return a.t().contiguous(), g, b


@cache  # of numbers, not of tensors, which would keep the modes of the first call
def _coefficients() -> tuple[list[list[float]], ...]:
    """Return the rows of the transpose of A, of G and of B."""

    def powers(point: Fraction, count: int) -> list[Fraction]:
        return [point**i for i in range(count)]

    def with_roots(roots: list[Fraction]) -> list[Fraction]:
        """Return the coefficients of the product of (x - root), padded to INPUTS."""
        product = [Fraction(1)]
        for root in roots:
            shifted, scaled = [Fraction(0), *product], [-root * c for c in product] + [Fraction(0)]
            product = [a + b for a, b in zip(shifted, scaled, strict=True)]
        return product + [Fraction(0)] * (INPUTS - len(product))

    a, g, b = [], [], []
    for i, point in enumerate(POINTS):
        others = [other for j, other in enumerate(POINTS) if j != i]
        scale = Fraction(1)
        for other in others:
            scale *= point - other
        a.append(powers(point, OUTPUTS))
        g.append([power / scale for power in powers(point, TAPS)])
        b.append(with_roots(others))
    for rows, last in ((a, OUTPUTS), (g, TAPS)):  # the point at infinity
        rows.append([Fraction(int(i == last - 1)) for i in range(last)])
    b.append(with_roots(list(POINTS)))

    return tuple([[float(value) for value in row] for row in rows] for rows in (a, g, b))


def _of_both_axes(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.kron(matrix, matrix).to(dtype)


def transform_weight(weight: Tensor, scratch: Scratch) -> Tensor:
    """Return the weight of :func:`convolve_tile`.

    Args:
        weight: Weight of the convolution, (out_dim, in_dim, 3, 3).
        scratch: Memory in which the result is.

    Returns:
        Tensor of the dtype of ``weight``, (36, in_dim, out_dim).
    """
    _, g, _ = matrices()
    out_dim, in_dim = weight.shape[:2]
    result = scratch("weight", INPUTS**2, out_dim, in_dim)
    columns = weight.reshape(-1, TAPS**2).t()
    torch.mm(_of_both_axes(g, weight.dtype), columns, out=result.view(INPUTS**2, -1))
    return result.transpose(1, 2)


def convolve_tile(x: Tensor, weight: Tensor, scratch: Scratch) -> Tensor:
    """Return the convolution of a map without padding.

    Args:
        x: Map, (4 * rows + 2, 4 * columns + 2, in_dim); a part of a larger one may be given.
        weight: See :func:`transform_weight`.
        scratch: Temporary memory, in which the result is, too.

    Returns:
        Map, (4 * rows, 4 * columns, out_dim).
    """
    a, _, b = matrices()
    rows, columns = ((side - TAPS + 1) // OUTPUTS for side in x.shape[:2])
    in_dim, out_dim = weight.shape[1:]
    row, column, channel = x.stride()
    strides = (row, column, OUTPUTS * row, OUTPUTS * column, channel)
    shape = (INPUTS, INPUTS, rows, columns, in_dim)
    patches = scratch("patches", *shape).copy_(x.as_strided(shape, strides, x.storage_offset()))
    inputs = scratch("inputs", INPUTS**2, rows * columns, in_dim)
    torch.mm(_of_both_axes(b, x.dtype), patches.view(INPUTS**2, -1), out=inputs.view(INPUTS**2, -1))
    products = scratch("products", INPUTS**2, rows * columns, out_dim)
    torch.bmm(inputs, weight, out=products)
    outputs = scratch("outputs", OUTPUTS, OUTPUTS, rows, columns, out_dim)
    flat = outputs.view(OUTPUTS**2, -1)
    torch.mm(_of_both_axes(a, x.dtype), products.view(INPUTS**2, -1), out=flat)
    result = scratch("result", rows, OUTPUTS, columns, OUTPUTS, out_dim)
    result.copy_(outputs.permute(2, 0, 3, 1, 4))
    return result.view(OUTPUTS * rows, OUTPUTS * columns, out_dim)
