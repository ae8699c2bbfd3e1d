"""The global filter layer (Rao et al., "Global Filter Networks for Image Classification",
NeurIPS 2021, https://arxiv.org/abs/2107.00645, equations 4 to 6)."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from threading import Lock

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..errors import InputError
from .resample import (
    Size,
    check_resize_mode,
    filter_resizer,
    full_precision,
    resize_filter,
    symmetrize_filter,
)

BORDERS = ("circular", "zeros", "reflect")
# Of the spectra of channels that are transformed together: what a core's cache holds, and what
# keeps a GPU busy.
CPU_GROUP_BYTES = 2**19
GPU_GROUP_BYTES = 2**28


class GlobalFilter(nn.Module):
    """Depth-wise convolution with a learned kernel as large as the map, by FFT.

    y = irfft2(rfft2(x) * K). On a map of another size than the stored one the filter is resized.
    The transforms run in float32 (float64 for float64 input) under any autocast: there is no half
    precision FFT on CPU, none for bfloat16 anywhere, and cuFFT's takes powers of two only.

    In evaluation without gradients the filters for the last map sizes are kept, unless they are
    very large. They are forgotten when ``train()`` or ``eval()`` is called, weights are loaded,
    replaced or changed in place, the module is moved, and on every forward with gradients. PyTorch
    does not tell of changes through ``weight.data``: call ``eval()`` after them.

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
        CACHE_SIZE, CACHE_BYTES: How many resized filters are kept, and how large all together.
        STORED_BYTES: How large a filter may be that is kept at its own size, channels first.
    """

    _DERIVED = ("_cache", "_cache_source", "_lock")
    CACHE_SIZE = 4
    CACHE_BYTES = 64 * 2**20
    STORED_BYTES = 8 * 2**20

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
        # Channels first: torch's FFT would copy a channels-last map to that layout anyway.
        y = x.permute(0, 3, 1, 2).to(transform_dtype(x.dtype))
        if torch.is_grad_enabled():
            self._clear_cache()
            with full_precision(x.device):
                fft_size = self.fft_size(y.shape[-2:])
                gains = self._gains(fft_size, y.dtype)(slice(None))
                y = self._crop(_Filter.apply(self._extend(y), gains, fft_size), y.shape[-2:])
        else:
            y = self.filter_(y.clone(memory_format=torch.contiguous_format))
        return y.permute(0, 2, 3, 1).to(x.dtype)

    def filter_(self, x: Tensor) -> Tensor:
        """Filter a map in place, without gradients.

        Args:
            x: (B, dim, H, W), float32 or float64.

        Returns:
            ``x``.
        """
        size = x.shape[-2:]
        fft_size = self.fft_size(size)
        if x.device.type == "cpu":
            _keep_freed_memory()
        with full_precision(x.device):
            gains = self._gains_without_gradients(fft_size, x.dtype)
            for group in _groups(x, fft_size):
                part = self._extend(x[group])
                spectrum = _transform(part, fft_size)
                spectrum *= gains(group[1])
                x[group] = self._crop(_inverse(spectrum, fft_size, part.shape[-2:]), size)
        return x

    def fft_size(self, size: Size) -> Size:
        """Return the size of the transforms for a map of ``size`` (H, W).

        They are periodic, and the kernel reaches half its size: with other borders than circular
        room behind the map keeps its ends apart.
        """
        if self.border == "circular":
            return tuple(size)
        sides = 1 if self.border == "zeros" else 2
        return tuple(
            next_fast_length(n + sides * (k // 2)) for n, k in zip(size, self.size, strict=True)
        )

    def _extend(self, x: Tensor) -> Tensor:
        """Mirror the map beyond its ends where the border is so; zeros come with the transform."""
        if self.border != "reflect":
            return x
        return _reflect(_reflect(x, self.size[0] // 2, -2), self.size[1] // 2, -1)

    def _crop(self, y: Tensor, size: Size) -> Tensor:
        """Undo :meth:`_extend`."""
        top, left = (k // 2 if self.border == "reflect" else 0 for k in self.size)
        return y[..., top : top + size[0], left : left + size[1]]

    def response(self, size: Size, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the filter for maps of ``size`` (H, W), complex, (dim, H, W // 2 + 1).

        It is that of a real kernel.
        """
        weight = resize_filter(self.complex_weight.to(dtype), self.size, tuple(size), self.resize)
        return _complex(symmetrize_filter(weight, size))

    def _gains(self, size: Size, dtype: torch.dtype) -> Callable[[slice], Tensor]:
        """Return what gives :meth:`response` for a group of channels.

        Stored filters and those of the published modes are symmetrised only where irfft2 would not
        do it: cuFFT's complex-to-real transform requires the filter of a real kernel, on a CPU the
        other part is dropped on the way.
        """
        weight = self.complex_weight.to(dtype)
        on_cpu = weight.device.type == "cpu"
        if size == self.size:  # at once: a group alone would be read in pieces of a few bytes
            gains = _complex(weight if on_cpu else symmetrize_filter(weight, size))
            return lambda group: gains[group]
        resized = filter_resizer(weight, self.size, size, self.resize)
        if on_cpu or self.resize in ("trigonometric", "spectral_pad"):
            return lambda group: _complex(resized(group))
        return lambda group: _complex(symmetrize_filter(resized(group), size))

    def _gains_without_gradients(self, size: Size, dtype: torch.dtype) -> Callable[[slice], Tensor]:
        """Return :meth:`_gains`, from the cache if they are not too large for what they cost."""
        weight = self.complex_weight
        num_bytes = self.dim * size[0] * (size[1] // 2 + 1) * dtype.itemsize * 2
        limit = self.STORED_BYTES if size == self.size else self.CACHE_BYTES
        if self.training or num_bytes > min(limit, self.CACHE_BYTES):
            return self._gains(size, dtype)
        version = None if weight.is_inference() else weight._version
        key = (*size, dtype, weight.device)
        with self._lock:
            source = self._cache_source
            if source is None or source[0] is not weight or source[1] != version:
                self._cache.clear()
                source = self._cache_source = (weight, version)
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key].__getitem__
        gains = self._gains(size, dtype)(slice(None))
        with self._lock:
            # Not if the weights were loaded or moved meanwhile by another thread.
            if self._cache_source is source:
                self._cache[key] = gains
                while (
                    len(self._cache) > self.CACHE_SIZE
                    or sum(g.nbytes for g in self._cache.values()) > self.CACHE_BYTES
                ):
                    self._cache.popitem(last=False)
        return gains.__getitem__

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
    def forward(ctx, x: Tensor, gains: Tensor, fft_size: Size) -> Tensor:
        ctx.sizes, ctx.gains_shape = (fft_size, x.shape[-2:]), gains.shape
        x_needs, gains_need, _ = ctx.needs_input_grad
        y, spectra = torch.empty_like(x, memory_format=torch.contiguous_format), []
        ctx.groups = list(_groups(x, fft_size))
        for group in ctx.groups:
            spectrum = _transform(x[group], fft_size)
            if gains_need:
                spectra.append(spectrum)
                filtered = spectrum * gains[group[1]]
            else:
                filtered = spectrum.mul_(gains[group[1]])
            y[group] = _inverse(filtered, fft_size, x.shape[-2:])
        ctx.save_for_backward(gains if x_needs else None, *spectra)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        gains, *spectra = ctx.saved_tensors
        (P, Q), size = ctx.sizes
        x_gradient = gains_gradient = None
        if ctx.needs_input_grad[0]:
            x_gradient = torch.empty_like(gradient, memory_format=torch.contiguous_format)
        if ctx.needs_input_grad[1]:
            gains_gradient = spectra[0].new_zeros(ctx.gains_shape)
        for i, group in enumerate(ctx.groups):
            spectrum = _transform(gradient[group], (P, Q))
            if gains_gradient is not None:
                total = gains_gradient[group[1]]
                for one, other in zip(spectra[i], spectrum, strict=True):
                    total.addcmul_(one.conj(), other)
            if x_gradient is not None:
                spectrum *= gains[group[1]].conj()
                x_gradient[group] = _inverse(spectrum, (P, Q), size)
        if gains_gradient is not None:
            gains_gradient /= P * Q
            gains_gradient[..., 1 : (Q + 1) // 2] *= 2
        return x_gradient, gains_gradient, None


def _groups(x: Tensor, fft_size: Size) -> Iterator[tuple[slice, slice]]:
    """Yield slices of samples and channels of ``x`` (B, dim, H, W), to be transformed together."""
    if torch.jit.is_tracing() or torch.compiler.is_compiling():  # a graph for any batch
        yield slice(None), slice(None)
        return
    (B, dim), (P, Q) = x.shape[:2], fft_size
    limit = GPU_GROUP_BYTES if x.is_cuda else CPU_GROUP_BYTES
    channels = max(limit // (P * Q * x.element_size()), 1)
    samples = max(channels // dim, 1)
    for i in range(0, B, samples):
        for j in range(0, dim, channels):
            yield slice(i, i + samples), slice(j, j + channels)


def transform_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the precision of the transforms for a map of ``dtype``."""
    return torch.float64 if dtype == torch.float64 else torch.float32


@cache
def _keep_freed_memory() -> None:
    """Let glibc keep what is freed for the next temporary, instead of returning it.

    New memory from the kernel costs a page fault each 4 KiB, together as much as the transforms.
    glibc keeps blocks as large as the largest it has seen freed, up to 32 MiB
    (https://man7.org/linux/man-pages/man3/mallopt.3.html, M_MMAP_THRESHOLD). Elsewhere nothing
    happens.
    """
    torch.empty(2**25 - 2**13, dtype=torch.uint8, device="cpu")


def _complex(weight: Tensor) -> Tensor:
    """Return ``weight`` (h, w // 2 + 1, dim, 2) as complex numbers, (dim, h, w // 2 + 1)."""
    h, half, dim = weight.shape[:3]
    if weight.permute(2, 0, 1, 3).is_contiguous():  # as resizing leaves it
        return torch.view_as_complex(weight.permute(2, 0, 1, 3))
    # PyTorch is fast at transposing whole matrices.
    matrix = torch.view_as_complex(weight.contiguous()).reshape(h * half, dim)
    return matrix.t().contiguous().view(dim, h, half)


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
    return x.index_select(dim, mirrored_index(x.shape[dim], reach, x.device))


def mirrored_index(n: int, reach: int, device: torch.device | None = None) -> Tensor:
    """Return which of ``n`` pixels stands at each place from -reach to n + reach - 1."""
    index = torch.arange(-reach, n + reach, device=device)
    period = max(2 * n - 2, 1)
    return (n - 1) - (index % period - (n - 1)).abs()


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
