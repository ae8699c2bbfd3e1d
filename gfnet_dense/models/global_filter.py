"""The global filter layer (Rao et al., "Global Filter Networks for Image Classification",
NeurIPS 2021, https://arxiv.org/abs/2107.00645, equations 4 to 6)."""

import torch
from torch import Tensor, nn

from .resample import Size, check_resize_mode, resize_filter, symmetrize_filter


class GlobalFilter(nn.Module):
    """Depth-wise circular convolution with a learned kernel as large as the map, by FFT.

    y = irfft2(rfft2(x) * K). On a map of another size than the stored one the filter is resized.
    The transforms run in float32 (float64 for float64 input) under any autocast: there is no half
    precision FFT on CPU, none for bfloat16 anywhere, and cuFFT's takes powers of two only.

    Args:
        dim: Number of channels.
        size: Map size (h, w) for which the filter is stored.
        resize: How the filter is resized to other maps, see :func:`.resample.resize_filter`.

    Attributes:
        complex_weight: K, real and imaginary part of the half spectrum, (h, w // 2 + 1, dim, 2).
            Real, since complex parameters break under NCCL and gradient scaling.
    """

    def __init__(self, dim: int, size: Size, resize: str = "trigonometric"):
        super().__init__()
        check_resize_mode(resize)
        h, w = size
        self.dim, self.size, self.resize = dim, (h, w), resize
        self.complex_weight = nn.Parameter(torch.randn(h, w // 2 + 1, dim, 2) * 0.02)

    def response(self, size: Size, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the filter for maps of ``size`` (H, W), complex, (dim, H, W // 2 + 1)."""
        weight = resize_filter(self.complex_weight.to(dtype), self.size, size, self.resize)
        weight = symmetrize_filter(weight, size)
        return torch.view_as_complex(weight.permute(2, 0, 1, 3).contiguous())

    def forward(self, x: Tensor) -> Tensor:
        """Filter a map ``x`` of shape (B, H, W, dim); the result has its shape and dtype."""
        B, H, W, C = x.shape
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        with torch.autocast(x.device.type, enabled=False):
            # Channels first: torch's FFT would copy a channels-last map to that layout anyway.
            spectrum = torch.fft.rfft2(x.to(dtype).permute(0, 3, 1, 2))
            y = torch.fft.irfft2(spectrum * self.response((H, W), dtype), s=(H, W))
        return y.permute(0, 2, 3, 1).to(x.dtype)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, size={self.size}, resize={self.resize!r}"
