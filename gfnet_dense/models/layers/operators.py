"""The operator that filters maps: one node for autograd, compilers, tracers and FLOP counters.

To ``torch.compile``, ``torch.export``, ``torch.jit.trace`` and profilers the filter is the operator
``gfnet_dense::spectral_filter``. No graph has complex numbers, which compilers do not support.
Operators here take conjugates by conj_physical: a compiled graph of PyTorch 2.13 calls them with
the dispatch of conj() switched off, which then does nothing.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gfnet_dense.models.utils.hooks import in_functorch
from gfnet_dense.utils.types import Size

from .spectral import channel_groups, contiguous_maps, inverse_transform, transform

# Written out, since PyTorch 2.6 does not read collections.abc.Sequence off the functions.
FORWARD = "(Tensor x, Tensor response, SymInt[] fft_size, bool keep) -> (Tensor, Tensor)"
BACKWARD = (
    "(Tensor gradient, Tensor? response, Tensor? spectrum, SymInt[] fft_size) -> (Tensor, Tensor)"
)


def spectral_filter(x: Tensor, response: Tensor, fft_size: Size) -> Tensor:
    """Filter a map: irfft2(rfft2(x) * K), with ``x`` zero-padded to P x Q and the result cropped.

    Autograd's backward of rfft2 is a full complex FFT of a zero-padded spectrum and keeps more
    tensors, so the gradients are written by hand. They cannot be differentiated again.

    Under the transformations of torch.func the plain formula is computed, which supports all of
    them.

    Args:
        x: Map, (B, dim, H, W), float32 or float64.
        response: Half spectrum K of the filter, real and imaginary part, (dim, P, Q // 2 + 1, 2).
        fft_size: Size (P, Q) of the transforms.

    Returns:
        Map, (B, dim, H, W), contiguous.
    """
    if in_functorch():
        spectrum = transform(x, fft_size) * torch.view_as_complex(response)
        return inverse_transform(spectrum, fft_size, (x.shape[-2], x.shape[-1]))
    # A trace is compared with another one, in which gradients are switched off.
    keep = torch.jit.is_tracing() or (torch.is_grad_enabled() and response.requires_grad)
    return _filter(x, response, fft_size, keep)[0]


def filter_map(
    x: Tensor, response: Tensor, fft_size: Sequence[int], keep: bool
) -> tuple[Tensor, Tensor]:
    """Return the filtered map, and the spectrum of ``x`` if ``keep``, else an empty tensor.

    The spectrum, (B, dim, P, Q // 2 + 1, 2), is what the gradient of the response needs. The other
    arguments are those of :func:`spectral_filter`. This is the kernel of the operator.
    """
    (P, Q), size, factor = fft_size, (x.shape[-2], x.shape[-1]), torch.view_as_complex(response)
    groups = list(channel_groups(x, (P, Q)))
    if len(groups) == 1:  # the results are not copied
        spectrum = transform(x, (P, Q))
        filtered = spectrum * factor if keep else spectrum.mul_(factor)
        y = inverse_transform(filtered, (P, Q), size).contiguous()
        return y, torch.view_as_real(spectrum.contiguous()) if keep else x.new_empty(0)
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    spectra = factor.new_empty(*x.shape[:2], *factor.shape[1:]) if keep else None
    if x.device.type == "cpu":
        x = contiguous_maps(x)
    for group in groups:
        spectrum = transform(x[group], (P, Q))
        if spectra is not None:
            spectra[group] = spectrum
        y[group] = inverse_transform(spectrum.mul_(factor[group[1]]), (P, Q), size)
    return y, x.new_empty(0) if spectra is None else torch.view_as_real(spectra)


def filter_map_backward(
    gradient: Tensor, response: Tensor | None, spectrum: Tensor | None, fft_size: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Return the gradients of the map and of the response.

    With X the spectrum of x and G the spectrum of the incoming gradient, the gradient of x is
    irfft2(G * conj K). The gradient of K is conj(X) * G / (P Q), summed over the batch, and twice
    that in the inner columns, each of which also represents its mirror column.

    Args:
        gradient: Gradient of the filtered map, (B, dim, H, W).
        response: As in :func:`spectral_filter`; None if the map needs no gradient. An empty tensor
            is returned in its place then.
        spectrum: As returned by the forward; None if the response needs no gradient.
        fft_size: Size (P, Q) of the transforms.
    """
    (P, Q), size = fft_size, (gradient.shape[-2], gradient.shape[-1])
    if 0 in gradient.stride():  # that of a sum; MKL refuses to transform it in PyTorch 2.6
        gradient = gradient.contiguous()
    x_gradient, response_gradient = gradient.new_empty(0), gradient.new_empty(0)
    if response is not None:
        factor = torch.view_as_complex(response)
    if spectrum is not None:
        spectra = torch.view_as_complex(spectrum)
        total = spectra.new_zeros(spectra.shape[1:])
        response_gradient = torch.view_as_real(total)
    groups = list(channel_groups(gradient, (P, Q)))
    if response is not None and len(groups) != 1:  # none for an empty batch
        x_gradient = torch.empty_like(gradient, memory_format=torch.contiguous_format)
    for group in groups:
        transformed = transform(gradient[group], (P, Q))
        if spectrum is not None:
            add_products(total[group[1]], spectra[group], transformed)
        if response is not None:
            transformed *= factor[group[1]].conj_physical()
            part = inverse_transform(transformed, (P, Q), size)
            if len(groups) > 1:
                x_gradient[group] = part
            else:  # not copied
                x_gradient = part.contiguous()
    if spectrum is not None:
        total /= P * Q
        total[..., 1 : (Q + 1) // 2].mul_(2)  # with *= Python would copy the slice onto itself
    return x_gradient, response_gradient


def add_products(total: Tensor, x: Tensor, g: Tensor) -> None:
    """Add the sum over the batch of conj(x) * g to ``total``.

    On a CPU one sample at a time: the conjugate of a sample is written to memory, and stays in the
    cache. A GPU takes all samples at once.

    Args:
        total: Complex tensor, (...).
        x, g: Complex tensors, (B, ...).
    """
    if total.device.type == "cpu":
        for x_sample, g_sample in zip(x, g, strict=True):
            total.addcmul_(x_sample.conj_physical(), g_sample)
    else:
        total += (x.conj_physical() * g).sum(0)


_filter = torch.library.custom_op(
    "gfnet_dense::spectral_filter", filter_map, mutates_args=(), schema=FORWARD
)
_filter_backward = torch.library.custom_op(
    "gfnet_dense::spectral_filter_backward", filter_map_backward, mutates_args=(), schema=BACKWARD
)


@_filter.register_fake
def _fake_filter(
    x: Tensor, response: Tensor, fft_size: Sequence[int], keep: bool
) -> tuple[Tensor, Tensor]:
    spectrum = x.new_empty(x.shape[0], *response.shape) if keep else x.new_empty(0)
    return torch.empty_like(x, memory_format=torch.contiguous_format), spectrum


@_filter_backward.register_fake
def _fake_filter_backward(
    gradient: Tensor, response: Tensor | None, spectrum: Tensor | None, fft_size: Sequence[int]
) -> tuple[Tensor, Tensor]:
    empty = gradient.new_empty(0)
    like_map = torch.empty_like(gradient, memory_format=torch.contiguous_format)
    return (
        empty if response is None else like_map,
        empty if spectrum is None else spectrum.new_empty(spectrum.shape[1:]),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    _, response, ctx.fft_size, keep = inputs
    x_needs_grad, response_needs_grad = ctx.needs_input_grad[:2]
    if response_needs_grad and not keep:
        raise RuntimeError("the gradient of the response needs the spectrum: pass keep=True")
    ctx.set_materialize_grads(False)  # the spectrum has no gradient, nor needs zeros for one
    ctx.save_for_backward(
        response if x_needs_grad else None, output[1] if response_needs_grad else None
    )


def _differentiate(ctx: Any, gradient: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    if gradient is None:
        return None, None, None, None
    response, spectrum = ctx.saved_tensors
    gradients = _filter_backward(gradient, response, spectrum, ctx.fft_size)
    needed = (response is not None, spectrum is not None)
    return (*(g if need else None for g, need in zip(gradients, needed, strict=True)), None, None)


def _refuse_second_derivative(ctx: Any, *_: Tensor | None) -> None:
    raise RuntimeError(
        "cannot differentiate twice through a global filter; torch.func.grad of torch.func.grad can"
    )


_filter.register_autograd(_differentiate, setup_context=_save)
_filter_backward.register_autograd(_refuse_second_derivative)
