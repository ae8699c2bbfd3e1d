"""Formulas that tell counters of FLOPs what a global filter costs.

An FFT of N complex points counts 5 N log2(N) real operations, and an FFT of N real points half as
many (the convention of https://www.fftw.org/speed/method.html). A complex product counts 6.

Importing this module registers the operators of :mod:`.operators` with PyTorch's FlopCounterMode,
and the filter with mmengine's FlopAnalyzer, which the ``get_flops.py`` of mmsegmentation and
mmdetection use. mmengine offers no function for that: its private table
_DEFAULT_SUPPORTED_FLOP_OPS, as seen in 0.10.7 and onedl-mmengine 0.10.12, gets one more entry.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.analysis import complexity_analysis
from torch.utils.flop_counter import register_flop_formula

from . import operators  # noqa: F401

Shape = Sequence[int]

_OPERATORS = torch.ops.gfnet_dense
FILTER = _OPERATORS.spectral_filter


@register_flop_formula(FILTER)
def filter_flops(x: Shape, response: Shape, fft_size: Shape, *_: object, **__: object) -> float:
    """Return the real operations of filtering: two transforms and a product of spectra."""
    return 2 * _transform(x, fft_size) + _product(x, fft_size)


@register_flop_formula(_OPERATORS.spectral_filter_backward)
def _backward_flops(
    gradient: Shape, response: Shape | None, spectrum: Shape | None, fft_size: Shape, **_: object
) -> float:
    transforms = 1 if response is None else 2
    products = (response is not None) + (spectrum is not None)
    return transforms * _transform(gradient, fft_size) + products * _product(gradient, fft_size)


def _transform(x: Shape, fft_size: Shape) -> float:
    """Return the real operations of the FFT of maps ``x`` (B, dim, H, W) in either direction.

    Rows that are only padding are not transformed.
    """
    (P, Q), maps, H = fft_size, math.prod(x[:2]), x[2]
    if tuple(x[2:]) == tuple(fft_size):
        return 2.5 * maps * P * Q * math.log2(P * Q)
    return maps * (2.5 * H * Q * math.log2(Q) + 5 * P * (Q // 2 + 1) * math.log2(P))


def _product(x: Shape, fft_size: Shape) -> int:
    return 6 * math.prod(x[:2]) * fft_size[0] * (fft_size[1] // 2 + 1)


def _count_traced_filter(inputs: list[Any], outputs: list[Any]) -> float:
    """Return the multiply-adds of a filter in a graph of torch.jit.trace: two operations each."""
    x, response, fft_size, _ = inputs
    shapes = [value.type().sizes() for value in (x, response)]
    lengths = [length.toIValue() for length in fft_size.node().inputs()]
    return filter_flops(*shapes, lengths) / 2


complexity_analysis._DEFAULT_SUPPORTED_FLOP_OPS["gfnet_dense::spectral_filter"] = (
    _count_traced_filter
)
