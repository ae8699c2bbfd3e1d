"""The global filter without complex numbers and without FFT: the form that is exported.

ONNX has no complex types, and few runtimes have its DFT operator
(https://github.com/onnx/onnx/issues/3573). A discrete Fourier transform is a matrix product along
each axis; for one map size its matrices are constants.
"""

import torch
from torch import Tensor, nn

from gfnet_dense.utils.types import Size

from .global_filter import GlobalFilter
from .spectral import mirrored_index


class MatrixFilter(nn.Module):
    """A :class:`.GlobalFilter` for maps of one size, by matrix products of real numbers.

    It costs H W (H + W) a channel instead of H W log(H W), and gives the same numbers. Padding and
    cropping of the borders are in the matrices.

    Args:
        layer: The filter; its weights are copied.
        size: Map size (H, W).
    """

    def __init__(self, layer: GlobalFilter, size: Size):
        super().__init__()
        self.size = tuple(size)
        fft_size = layer.fft_size(self.size)
        (H, W), (P, Q), half = self.size, fft_size, fft_size[1] // 2 + 1
        reaches = [k // 2 if layer.border == "reflect" else 0 for k in layer.size]
        rows, rows_back = _transforms(H, P, reaches[0])
        columns, columns_back = _transforms(W, Q, reaches[1])
        twice = torch.full((half,), 2.0, dtype=torch.float64)  # inner columns stand for two
        twice[0] = 1
        if Q % 2 == 0:
            twice[-1] = 1
        columns, columns_back = columns[:half], columns_back[:, :half] * twice
        dtype = layer.complex_weight.dtype
        with torch.no_grad():
            gains = layer.response(fft_size, torch.promote_types(dtype, torch.float32))
        constants = {
            # x (..., H, W) @ to_columns: real parts beside imaginary parts, (..., H, 2 half)
            "to_columns": torch.cat([columns.real.t(), columns.imag.t()], 1),
            # On real parts above imaginary parts, (..., 2 H, half)
            "to_rows": _real_form(rows),
            "from_rows": _real_form(rows_back),
            "from_columns": torch.cat([columns_back.real.t(), -columns_back.imag.t()], 0),
            "real": gains.real,
            "imag": gains.imag,
        }
        for name, constant in constants.items():
            self.register_buffer(name, constant.to(gains.real.dtype).contiguous())

    def forward(self, x: Tensor) -> Tensor:
        """Filter a map ``x`` of shape (B, H, W, dim); the result has its shape and dtype."""
        if tuple(x.shape[1:3]) != self.size:
            raise ValueError(f"the filter is for maps of {self.size}, got {tuple(x.shape[1:3])}")
        y = x.permute(0, 3, 1, 2).to(self.real.dtype)
        re, im = (y @ self.to_columns).chunk(2, dim=-1)
        re, im = (self.to_rows @ torch.cat([re, im], dim=-2)).chunk(2, dim=-2)
        re, im = re * self.real - im * self.imag, re * self.imag + im * self.real
        re, im = (self.from_rows @ torch.cat([re, im], dim=-2)).chunk(2, dim=-2)
        y = torch.cat([re, im], dim=-1) @ self.from_columns
        return y.permute(0, 2, 3, 1).to(x.dtype)


def _transforms(n: int, length: int, reach: int) -> tuple[Tensor, Tensor]:
    """Return DFT and inverse DFT of one axis, complex128, with what :class:`.GlobalFilter` does
    around them.

    Args:
        n: Size of the map.
        length: Of the transform; the map is padded with zeros.
        reach: By how much the map is mirrored at both ends before.

    Returns:
        Matrices (length, n), and (n, length) of the part that is the map.
    """
    index = mirrored_index(n, reach)
    k, t = torch.arange(length)[:, None], torch.arange(len(index))
    angle = (2 * torch.pi / length) * (k * t % length).double()  # reduced in integers: exact
    extended = torch.polar(torch.ones_like(angle), -angle)
    forward = extended.new_zeros(length, n).index_add_(1, index, extended)
    return forward, extended[:, reach : reach + n].conj().t() / length


def _real_form(matrix: Tensor) -> Tensor:
    """Return a complex matrix as the real one that acts on real parts above imaginary parts."""
    top = torch.cat([matrix.real, -matrix.imag], dim=1)
    return torch.cat([top, torch.cat([matrix.imag, matrix.real], dim=1)])
