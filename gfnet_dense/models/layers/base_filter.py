"""The core of every layer with a global filter: resizing, borders, precision and a cache."""

from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn

from gfnet_dense.models.utils.filter_resize import (
    check_resize_mode,
    filter_resizer,
    resize_filter,
    symmetrize_filter,
)
from gfnet_dense.models.utils.hooks import is_captured, records_cuda_graph
from gfnet_dense.models.utils.precision import full_precision, transform_dtype
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.types import Size

from .operators import spectral_filter
from .spectral import (
    channel_groups,
    channels_first,
    inverse_transform,
    next_fast_length,
    reflect,
    static_size,
    transform,
)

# Accepted values of ``border``, described at BaseFilter.
BORDERS = ("circular", "zeros", "reflect")


def check_border(border: str, resize: str, name: str = "border") -> None:
    """Raise InputError unless ``border``, the argument ``name``, goes with resizing by ``resize``.

    The kernel is padded with a border other than circular, and trigonometric resizing alone keeps
    it then.
    """
    if border not in BORDERS:
        raise InputError(f"{name} is one of {', '.join(BORDERS)}, got {border!r}")
    if border != "circular" and resize != "trigonometric":
        raise InputError(
            f"{name}={border!r} needs filter_resize='trigonometric', got {resize!r}: the other "
            "modes do not keep the kernel when it is padded"
        )


class BaseFilter(nn.Module):
    """Depth-wise convolution of maps with a learned kernel, by FFT: irfft2(rfft2(x) * K).

    Base class of the layers that have a global filter: :class:`.GlobalFilter` is the filter alone,
    :class:`.GlobalLocalFilter` has one for half of its channels. A subclass creates the parameter
    ``complex_weight`` and tells by :attr:`half_spectrum` how it is stored.

    On a map of another size the filter is resized. With trigonometric resizing, a filter stored for
    h x w is a convolution kernel of h x w positions on every larger map: local there. It covers the
    whole map on maps of the stored size, and with the published ``bilinear`` or ``bicubic``
    resizing on maps of every size.

    The transforms run in float32 (float64 for float64 input) under any autocast: PyTorch has no
    half-precision FFT on CPU and no bfloat16 FFT at all, and cuFFT in float16 accepts powers of
    two only.

    In evaluation without gradients the filters for the last map sizes are cached, unless they are
    very large. The cache is cleared when ``train()`` or ``eval()`` is called, when weights are
    loaded, replaced or changed in place, when the module is moved, and on every forward with
    gradients. Changes through ``weight.data`` go unnoticed: call ``eval()`` after them.

    Args:
        dim: Number of channels that are filtered.
        size: Map size (h, w) for which the filter is stored.
        resize: How the filter is resized to other maps, see :func:`.resize_filter`.
        border: What the kernel sees beyond the map. ``circular``, as published: the opposite
            side. ``zeros``: zeros, which makes the layer a true convolution, the same on a crop
            and on the whole image. ``reflect``: the mirrored map. ``zeros`` and ``reflect`` need
            ``trigonometric`` resizing, the only mode that keeps the kernel when it is padded. The
            attribute of this name may be set later.

    Attributes:
        complex_weight: K, real and imaginary part of the half spectrum. The parameter is real,
            since complex parameters break under NCCL and gradient scaling.
        CACHE_SIZE: Maximum number of cached filters.
        CACHE_BYTES: Maximum size of all cached filters of a layer together, in bytes. To limit the
            memory of a model, set the attribute of the class or of a layer; 0 caches nothing.
        GPU_CACHE_BYTES: The same on a GPU, which resizes filters in less time than a CPU. The
            largest backbone, GFNet-H-B with 36 layers, caches at most 288 MiB.
        STORED_BYTES: Maximum size of a filter that is cached at its stored size, in bytes. Such a
            filter needs no resizing, only the change to channels first.

    Raises:
        InputError: For an unknown ``resize`` or ``border``, or a ``border`` that needs another
            ``resize``.
    """

    CACHE_SIZE = 4
    CACHE_BYTES = 64 * 2**20
    GPU_CACHE_BYTES = 8 * 2**20
    STORED_BYTES = 8 * 2**20

    _DERIVED = ("_cache", "_cache_source", "_lock")  # attributes that copies and pickles omit
    _cache: OrderedDict[tuple[int, int, torch.dtype, torch.device], Tensor]  # last used at the end
    _cache_source: tuple[nn.Parameter, int | None] | None  # weight and version of the cache
    _lock: Lock  # guards both

    complex_weight: nn.Parameter

    def __init__(
        self, dim: int, size: Size, resize: str = "trigonometric", border: str = "circular"
    ):
        super().__init__()
        check_resize_mode(resize)
        check_border(border, resize)
        h, w = size
        self.dim, self.size, self.resize, self.border = dim, (h, w), resize, border
        self._init_cache()

    @property
    @abstractmethod
    def half_spectrum(self) -> Tensor:
        """Return K as a view of ``complex_weight``, (h, w // 2 + 1, dim, 2)."""

    def filter_maps(self, x: Tensor) -> Tensor:
        """Filter maps (B, dim, H, W).

        Returns:
            Maps (B, dim, H, W), float64 for float64, float32 for any other dtype of ``x``.
        """
        # Channels first, since torch.fft copies a channels-last map to that layout anyway.
        y = x.to(transform_dtype(x.dtype))
        H, W = static_size(y)
        fft_size = self.fft_size((H, W))
        with full_precision(x.device):
            response_of = self._cached_group_response(fft_size, y.dtype)
            y = spectral_filter(self._extend(y), response_of(slice(None)), fft_size)
            return self._crop(y, (H, W))

    def filter_(self, x: Tensor) -> Tensor:
        """Filter a channels-first map in place, without gradients.

        Args:
            x: Map, (B, dim, H, W), float32 or float64.

        Returns:
            ``x``.
        """
        H, W = x.shape[-2:]
        fft_size = self.fft_size((H, W))
        with full_precision(x.device):
            response_of = self._cached_group_response(fft_size, x.dtype)
            for group in channel_groups(x, fft_size):
                part = self._extend(x[group])
                spectrum = transform(part, fft_size)
                spectrum *= torch.view_as_complex(response_of(group[1]))
                filtered = inverse_transform(spectrum, fft_size, (part.shape[-2], part.shape[-1]))
                x[group] = self._crop(filtered, (H, W))
        return x

    def fft_size(self, size: Size) -> Size:
        """Return the size (P, Q) of the transforms for a map of ``size`` (H, W).

        The transforms are periodic, and the kernel reaches half its size in each direction. With
        ``zeros`` and ``reflect`` the padding keeps opposite ends of the map from seeing each other.
        """
        H, W = size
        if self.border == "circular":
            return H, W
        sides = 1 if self.border == "zeros" else 2
        h, w = self.size
        return next_fast_length(H + sides * (h // 2)), next_fast_length(W + sides * (w // 2))

    def _extend(self, x: Tensor) -> Tensor:
        """Mirror the map beyond its ends for ``reflect``; the transform itself pads with zeros."""
        if self.border != "reflect":
            return x
        return reflect(reflect(x, self.size[0] // 2, -2), self.size[1] // 2, -1)

    def _crop(self, y: Tensor, size: Size) -> Tensor:
        """Undo :meth:`_extend` for a map of ``size`` (H, W)."""
        top, left = (k // 2 if self.border == "reflect" else 0 for k in self.size)
        return y[..., top : top + size[0], left : left + size[1]]

    def response(self, size: Size, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the frequency response of the real kernel on maps of ``size`` (H, W).

        Args:
            size: Map size (H, W).
            dtype: float32 or float64, the precision of the real and the imaginary part.

        Returns:
            Half spectrum, complex, (dim, H, W // 2 + 1).
        """
        H, W = size
        weight = resize_filter(self.half_spectrum.to(dtype), self.size, (H, W), self.resize)
        return torch.view_as_complex(channels_first(symmetrize_filter(weight, (H, W))))

    def _group_response(self, size: Size, dtype: torch.dtype) -> Callable[[slice], Tensor]:
        """Return a function from a slice of the channels to their :meth:`response`.

        Real and imaginary part are the last axis of the result, (group, H, W // 2 + 1, 2).

        On a CPU the response may lack the symmetry of a real kernel, since irfft2 ignores the part
        that breaks it. cuFFT's complex-to-real transform requires the symmetry, so elsewhere
        filters are symmetrized, unless resizing has done it already.
        """
        weight = self.half_spectrum.to(dtype)
        on_cpu = weight.device.type == "cpu"
        if size == self.size:  # all channels at once: one group's memory is scattered over all rows
            response = channels_first(weight if on_cpu else symmetrize_filter(weight, size))
            return lambda group: response[group]
        resized = filter_resizer(weight, self.size, size, self.resize)
        if on_cpu or self.resize in ("trigonometric", "spectral_pad"):
            return lambda group: channels_first(resized(group))
        return lambda group: channels_first(symmetrize_filter(resized(group), size))

    def _cached_group_response(self, size: Size, dtype: torch.dtype) -> Callable[[slice], Tensor]:
        """Return the same as :meth:`_group_response`, from the cache where there is one."""
        # A CUDA graph would read a cached filter after the cache has been cleared, and leave behind
        # one that is not computed before its first replay.
        if is_captured() or records_cuda_graph():
            return self._group_response(size, dtype)
        if torch.is_grad_enabled():
            self._clear_cache()
            return self._group_response(size, dtype)
        weight = self.complex_weight
        num_bytes = self.dim * size[0] * (size[1] // 2 + 1) * dtype.itemsize * 2
        limit = self.CACHE_BYTES if weight.device.type == "cpu" else self.GPU_CACHE_BYTES
        largest = min(limit, self.STORED_BYTES) if size == self.size else limit
        if self.training or num_bytes > largest:
            return self._group_response(size, dtype)
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
        response = self._group_response(size, dtype)(slice(None))
        with self._lock:
            # Another thread may have loaded or moved the weights meanwhile. A fake tensor, or that
            # of another subclass, is for one call.
            if self._cache_source is source and type(response) is Tensor:
                self._cache[key] = response
                while (
                    len(self._cache) > self.CACHE_SIZE
                    or sum(cached.nbytes for cached in self._cache.values()) > limit
                ):
                    self._cache.popitem(last=False)
        return response.__getitem__

    def _init_cache(self) -> None:
        # Not buffers: DistributedDataParallel would broadcast them and checkpoints hold them.
        self._cache, self._cache_source, self._lock = OrderedDict(), None, Lock()

    def _clear_cache(self) -> None:
        with self._lock:
            self._cache.clear()
            self._cache_source = None

    def train(self, mode: bool = True) -> "BaseFilter":
        """Set training or evaluation mode, and clear the cache."""
        self._clear_cache()
        return super().train(mode)

    def _apply(self, *args: Any, **kwargs: Any) -> "BaseFilter":  # .to(), .cuda(), .half(), ...
        try:
            return super()._apply(*args, **kwargs)
        finally:
            self._clear_cache()

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._clear_cache()

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in self._DERIVED}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._init_cache()

    def extra_repr(self) -> str:
        """Return the arguments that ``print(module)`` shows."""
        text = f"dim={self.dim}, size={self.size}, resize={self.resize!r}"
        return text if self.border == "circular" else f"{text}, border={self.border!r}"
