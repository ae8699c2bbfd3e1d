"""The global filter layer (Rao et al., "Global Filter Networks for Image Classification",
NeurIPS 2021, https://arxiv.org/abs/2107.00645, equations 4 to 6)."""

from collections import OrderedDict
from functools import lru_cache
from threading import Lock

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..errors import InputError
from .resample import (
    Size,
    check_resize_mode,
    full_precision,
    resize_filter,
    symmetrize_filter,
)

BORDERS = ("circular", "zeros", "reflect")


class GlobalFilter(nn.Module):
    """Depth-wise convolution with a learned kernel as large as the map, by FFT.

    y = irfft2(rfft2(x) * K). On a map of another size than the stored one the filter is resized.
    The transforms run in float32 (float64 for float64 input) under any autocast: there is no half
    precision FFT on CPU, none for bfloat16 anywhere, and cuFFT's takes powers of two only.

    In evaluation without gradients the filters of the last map sizes are kept. They are forgotten
    when ``train()`` or ``eval()`` is called, weights are loaded, replaced or changed in place, the
    module is moved, and on every forward with gradients. PyTorch does not tell of changes through
    ``weight.data``: call ``eval()`` after them.

    Args:
        dim: Number of channels.
        size: Map size (h, w) for which the filter is stored.
        resize: How the filter is resized to other maps, see :func:`.resample.resize_filter`.
        border: What the kernel sees beyond the map. ``circular``, as published: the opposite
            side. ``zeros``: nothing, which makes the layer a true convolution, the same on a crop
            and on the whole image. ``reflect``: the mirrored map. The last two need the
            ``trigonometric`` mode, which alone keeps the kernel when it is padded.

    Attributes:
        complex_weight: K, real and imaginary part of the half spectrum, (h, w // 2 + 1, dim, 2).
            Real, since complex parameters break under NCCL and gradient scaling.
    """

    _DERIVED = ("_cache", "_cache_source", "_lock")
    CACHE_SIZE = 4
    CACHE_BYTES = 64 * 2**20

    def __init__(
        self, dim: int, size: Size, resize: str = "trigonometric", border: str = "circular"
    ):
        super().__init__()
        check_resize_mode(resize)
        if border not in BORDERS:
            raise InputError(f"border is one of {', '.join(BORDERS)}, got {border!r}")
        if border != "circular" and resize != "trigonometric":
            raise InputError(
                f"border={border!r} needs filter_resize='trigonometric', got {resize!r}: the other "
                "modes do not keep the kernel when it is padded"
            )
        h, w = size
        self.dim, self.size, self.resize, self.border = dim, (h, w), resize, border
        self.complex_weight = nn.Parameter(torch.randn(h, w // 2 + 1, dim, 2) * 0.02)
        self._init_cache()

    def forward(self, x: Tensor) -> Tensor:
        """Filter a map ``x`` of shape (B, H, W, dim); the result has its shape and dtype."""
        if torch.compiler.is_compiling():
            # It would gain nothing (transforms and complex numbers are fallbacks), and it
            # mistranslates the NumPy code of the resizing.
            return torch.compiler.disable(self._forward)(x)
        return self._forward(x)

    def _forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] != self.dim:
            raise ValueError(f"the filter has {self.dim} channels, got a map {tuple(x.shape)}")
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        with full_precision(x.device):
            # Channels first: torch's FFT would copy a channels-last map to that layout anyway.
            y = self._filter(x.permute(0, 3, 1, 2).to(dtype))
        return y.permute(0, 2, 3, 1).to(x.dtype)

    def _filter(self, x: Tensor) -> Tensor:  # (B, dim, H, W), float32 or float64
        H, W = x.shape[-2:]
        if self.border == "circular":
            return _Filter.apply(x, self._response_for((H, W), x.dtype), (H, W))
        # The kernel reaches half its size. Transforms are periodic too: the room behind the map
        # keeps its ends apart.
        h, w = self.size[0] // 2, self.size[1] // 2
        if self.border == "zeros":
            fft_size = next_fast_length(H + h), next_fast_length(W + w)
            return _Filter.apply(x, self._response_for(fft_size, x.dtype), fft_size)
        x = _reflect(_reflect(x, h, -2), w, -1)
        fft_size = next_fast_length(H + 2 * h), next_fast_length(W + 2 * w)
        y = _Filter.apply(x, self._response_for(fft_size, x.dtype), fft_size)
        return y[..., h : h + H, w : w + W]

    def response(self, size: Size, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the filter for maps of ``size`` (H, W), complex, (dim, H, W // 2 + 1).

        It is that of a real kernel, which cuFFT's complex-to-real transform requires.
        """
        size = tuple(size)
        weight = resize_filter(self.complex_weight.to(dtype), self.size, size, self.resize)
        if size == self.size or self.resize in ("bilinear", "bicubic"):
            weight = symmetrize_filter(weight, size)
        return torch.view_as_complex(weight.permute(2, 0, 1, 3).contiguous())

    def _response_for(self, size: Size, dtype: torch.dtype) -> Tensor:
        """Return :meth:`response`, from the cache where the weights cannot have changed."""
        if self.training or torch.is_grad_enabled():
            self._clear_cache()
            return self.response(size, dtype)
        weight = self.complex_weight
        version = None if weight.is_inference() else weight._version
        key = (*size, dtype, weight.device)
        with self._lock:
            source = self._cache_source
            if source is None or source[0] is not weight or source[1] != version:
                self._cache.clear()
                source = self._cache_source = (weight, version)
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        response = self.response(size, dtype)
        with self._lock:
            # Not if the weights were loaded or moved meanwhile by another thread.
            if self._cache_source is source and response.nbytes <= self.CACHE_BYTES:
                self._cache[key] = response
                while (
                    len(self._cache) > self.CACHE_SIZE
                    or sum(r.nbytes for r in self._cache.values()) > self.CACHE_BYTES
                ):
                    self._cache.popitem(last=False)
        return response

    def _init_cache(self) -> None:
        # No buffer: DistributedDataParallel broadcasts buffers, checkpoints would hold them.
        self._cache, self._cache_source, self._lock = OrderedDict(), None, Lock()

    def _clear_cache(self) -> None:
        with self._lock:
            self._cache.clear()
            self._cache_source = None

    def train(self, mode: bool = True) -> "GlobalFilter":
        self._clear_cache()
        return super().train(mode)

    def _apply(self, *args, **kwargs) -> "GlobalFilter":  # .to(), .cuda(), .half(), ...
        try:
            return super()._apply(*args, **kwargs)
        finally:
            self._clear_cache()

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._clear_cache()

    def __getstate__(self) -> dict:  # of copies and pickles
        return {k: v for k, v in self.__dict__.items() if k not in self._DERIVED}

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        self._init_cache()

    def extra_repr(self) -> str:
        text = f"dim={self.dim}, size={self.size}, resize={self.resize!r}"
        return text if self.border == "circular" else f"{text}, border={self.border!r}"


class _Filter(torch.autograd.Function):
    """irfft2(rfft2(x) * K) of the zero-padded map, cropped to the map.

    Autograd's backward of rfft2 is a full complex FFT of a zero-padded spectrum, and it keeps more
    tensors; with G the spectrum of the incoming gradient g the gradients are, by hand,
    irfft2(G * conj K) for x and conj(X) * G / (P Q), summed over the batch, for K, in which the
    inner columns stand for two.
    """

    @staticmethod
    def forward(ctx, x: Tensor, response: Tensor, fft_size: Size) -> Tensor:
        spectrum = _transform(x, fft_size)
        ctx.sizes = fft_size, x.shape[-2:]
        x_needs, response_needs, _ = ctx.needs_input_grad
        ctx.save_for_backward(spectrum if response_needs else None, response if x_needs else None)
        if response_needs:
            spectrum = spectrum * response
        else:
            spectrum *= response
        return _inverse(spectrum, fft_size, x.shape[-2:])

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        spectrum, response = ctx.saved_tensors
        (P, Q), size = ctx.sizes
        gradient = _transform(gradient, (P, Q))
        x_gradient = response_gradient = None
        if ctx.needs_input_grad[1]:
            response_gradient = torch.zeros_like(spectrum[0])
            for one, other in zip(spectrum, gradient, strict=True):
                response_gradient.addcmul_(one.conj(), other)
            response_gradient /= P * Q
            response_gradient[..., 1 : (Q + 1) // 2] *= 2
        if ctx.needs_input_grad[0]:
            x_gradient = _inverse(gradient.mul_(response.conj()), (P, Q), size)
        return x_gradient, response_gradient, None


def _transform(x: Tensor, fft_size: Size) -> Tensor:
    """Return rfft2 of ``x`` (..., H, W) zero-padded to ``fft_size``; rows of zeros are skipped."""
    if x.shape[-2:] == fft_size:
        return torch.fft.rfft2(x)
    return torch.fft.fft(torch.fft.rfft(x, n=fft_size[1]), n=fft_size[0], dim=-2)


def _inverse(spectrum: Tensor, fft_size: Size, size: Size) -> Tensor:
    """Return irfft2 of ``spectrum``, cropped to ``size``; rows that go away are skipped."""
    if tuple(size) == fft_size:
        return torch.fft.irfft2(spectrum, s=fft_size)
    rows = torch.fft.ifft(spectrum, dim=-2)[..., : size[0], :]
    return torch.fft.irfft(rows, n=fft_size[1])[..., : size[1]]


def _reflect(x: Tensor, reach: int, dim: int) -> Tensor:
    """Mirror ``x`` at its ends (edge pixels once) by any reach, as often as it takes."""
    n = x.shape[dim]
    index = torch.arange(-reach, n + reach, device=x.device)
    period = max(2 * n - 2, 1)
    return x.index_select(dim, (n - 1) - (index % period - (n - 1)).abs())


@lru_cache(maxsize=1024)
def next_fast_length(n: int) -> int:
    """Return the smallest length of at least ``n`` without prime factors above 5."""
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 1
