"""The global filter without complex numbers and without FFT, for export.

ONNX has no complex types, and few runtimes have its DFT operator
(https://github.com/onnx/onnx/issues/3573). A discrete Fourier transform is a matrix product along
each axis, and for one map size its matrices are constants.
"""

import torch
from torch import Tensor, nn

from gfnet_dense.utils.types import Size

from .base_filter import BaseFilter
from .global_filter import GlobalFilter
from .global_local_filter import GlobalLocalFilter
from .spectral import mirrored_index


class MatrixMaps(nn.Module):
    """The ``filter_maps`` of a layer for maps of one size, by products of real matrices.

    The results are the same up to rounding. The cost for each channel grows with H W (H + W)
    instead of H W log(H W). The matrices include the padding and cropping for the border.

    Args:
        layer: Filter; its weights are copied.
        size: Map size (H, W).
    """

    to_columns: Tensor
    to_rows: Tensor
    from_rows: Tensor
    from_columns: Tensor
    real: Tensor
    imag: Tensor

    def __init__(self, layer: BaseFilter, size: Size):
        super().__init__()
        H, W = size
        self.size = (H, W)
        fft_size = layer.fft_size(self.size)
        (P, Q), half = fft_size, fft_size[1] // 2 + 1
        reaches = [k // 2 if layer.border == "reflect" else 0 for k in layer.size]
        rows, rows_back = _transforms(H, P, reaches[0])
        columns, columns_back = _transforms(W, Q, reaches[1])
        # How many columns of the full spectrum a stored column represents: itself and its mirror
        multiplicity = torch.full((half,), 2.0, dtype=torch.float64)
        multiplicity[0] = 1
        if Q % 2 == 0:
            multiplicity[-1] = 1
        columns, columns_back = columns[:half], columns_back[:, :half] * multiplicity
        dtype = layer.complex_weight.dtype
        with torch.no_grad():
            response = layer.response(fft_size, torch.promote_types(dtype, torch.float32))
        constants = {
            # Takes (..., H, W) to real parts beside imaginary parts, (..., H, 2 half)
            "to_columns": torch.cat([columns.real.t(), columns.imag.t()], 1),
            # Takes real parts above imaginary parts, (..., 2 H, half), to (..., 2 P, half)
            "to_rows": _real_form(rows),
            "from_rows": _real_form(rows_back),
            "from_columns": torch.cat([columns_back.real.t(), -columns_back.imag.t()], 0),
            "real": response.real,
            "imag": response.imag,
        }
        for name, constant in constants.items():
            self.register_buffer(name, constant.to(response.real.dtype).contiguous())

    def forward(self, x: Tensor) -> Tensor:
        """Filter maps (B, dim, H, W); the result has the same shape.

        Raises:
            ValueError: For maps of another size.
        """
        if tuple(x.shape[2:]) != self.size:
            raise ValueError(f"the filter is for maps of {self.size}, got {tuple(x.shape[2:])}")
        re, im = (x.to(self.real.dtype) @ self.to_columns).chunk(2, dim=-1)
        re, im = (self.to_rows @ torch.cat([re, im], dim=-2)).chunk(2, dim=-2)
        re, im = re * self.real - im * self.imag, re * self.imag + im * self.real
        re, im = (self.from_rows @ torch.cat([re, im], dim=-2)).chunk(2, dim=-2)
        return torch.cat([re, im], dim=-1) @ self.from_columns


class MatrixFilter(nn.Module):
    """A :class:`.GlobalFilter` for maps of one size.

    Args:
        layer: Filter; its weights are copied.
        size: Map size (H, W).
    """

    def __init__(self, layer: GlobalFilter, size: Size):
        super().__init__()
        self.filter_maps = MatrixMaps(layer, size)

    def forward(self, x: Tensor) -> Tensor:
        """Filter a map (B, H, W, dim); the result has the same shape and dtype."""
        return self.filter_maps(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).to(x.dtype)


class MatrixGlobalLocalFilter(nn.Module):
    """A :class:`.GlobalLocalFilter` for maps of one size.

    Args:
        layer: Layer; the weights of its filter are copied, its other modules are shared.
        size: Map size (H, W).
    """

    def __init__(self, layer: GlobalLocalFilter, size: Size):
        super().__init__()
        self.pre_norm, self.dw, self.post_norm = layer.pre_norm, layer.dw, layer.post_norm
        self.filter_maps = MatrixMaps(layer, size)

    forward = GlobalLocalFilter.forward


def _transforms(n: int, length: int, reach: int) -> tuple[Tensor, Tensor]:
    """Return the matrices of DFT and inverse DFT along one axis, padding and cropping included.

    Args:
        n: Length of the map.
        length: Length of the transform, to which the mirrored map is padded with zeros.
        reach: Number of mirrored positions that are added to the map at each end.

    Returns:
        DFT, (length, n), and inverse DFT cropped to the map, (n, length), both complex128.
    """
    index = mirrored_index(n, reach)
    k, t = torch.arange(length)[:, None], torch.arange(len(index))
    angle = (2 * torch.pi / length) * (k * t % length).double()  # exact: reduced as integers
    extended = torch.polar(torch.ones_like(angle), -angle)
    forward = extended.new_zeros(length, n).index_add_(1, index, extended)
    return forward, extended[:, reach : reach + n].conj().t() / length


def _real_form(matrix: Tensor) -> Tensor:
    """Return the real matrix of a complex one, for vectors of real parts above imaginary parts."""
    top = torch.cat([matrix.real, -matrix.imag], dim=1)
    return torch.cat([top, torch.cat([matrix.imag, matrix.real], dim=1)])
