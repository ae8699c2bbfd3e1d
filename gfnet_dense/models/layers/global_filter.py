"""The global filter layer (Rao et al., "Global Filter Networks for Image Classification",
NeurIPS 2021, https://arxiv.org/abs/2107.00645, equations 4 to 6)."""

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

import torch
from torch import Tensor, nn

from gfnet_dense.models.utils.filter_resize import (
    check_resize_mode,
    filter_resizer,
    resize_filter,
    symmetrize_filter,
)
from gfnet_dense.models.utils.precision import full_precision, transform_dtype
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.types import Size

from .spectral import (
    _complex,
    _Filter,
    _groups,
    _inverse,
    _keep_freed_memory,
    _reflect,
    _transform,
    next_fast_length,
)

BORDERS = ("circular", "zeros", "reflect")


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

        Stored filters and those of the published modes are symmetrized only where irfft2 would not
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
