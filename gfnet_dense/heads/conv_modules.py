"""Calling mmcv's ConvModule on upsampled maps, and faster inference of it on a CPU."""

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import ConvModule
from torch import Tensor, nn

from gfnet_dense.models.layers.tiled_conv import infer_conv_upsampled
from gfnet_dense.models.layers.upsampled_conv import concatenate, conv_upsampled
from gfnet_dense.models.utils.hooks import is_exported, is_plain, is_watched
from gfnet_dense.models.utils.scratch import Scratch

MIN_DIM, MIN_POSITIONS = 64, 4096  # below, nothing was measured to be faster


class FastConvModule(ConvModule):
    """mmcv's ConvModule with the inference of this module."""

    def forward(self, x: Tensor, activate: bool = True, norm: bool = True) -> Tensor:
        """Return the output for a map (B, in_channels, H, W), see mmcv's class."""
        if activate and norm and _can_infer_module(self, x):
            return _infer(self, [x], False)
        return super().forward(x, activate, norm)


def use_fast_inference(module: nn.Module) -> None:
    """Let all ConvModules in ``module`` infer faster; their parameters and names stay the same."""
    for child in module.modules():
        if type(child) is ConvModule:
            child.__class__ = FastConvModule


def call(
    module: ConvModule,
    maps: Sequence[Tensor],
    align_corners: bool,
    scratch: Scratch | None = None,
) -> Tensor:
    """Return ``module(x)`` for the concatenation x of a map and of others, upsampled to its size.

    Args:
        module: Convolution with or without a norm and an activation.
        maps: Maps, (B, dim of the map, H of the map, W of the map); the first has the largest size.
        align_corners: Of the bilinear interpolation, see :func:`torch.nn.functional.interpolate`.
        scratch: Memory for temporary tensors of the inference on a CPU, to share among calls.

    Returns:
        Map, (B, out_dim, H, W).
    """
    if not _is_convolution(module):
        return module(concatenate(maps, align_corners))
    if _can_infer_module(module, maps[0]):
        return _infer(module, maps, align_corners, scratch)
    conv, norm = module.conv, module.norm
    weight, bias = conv.weight, conv.bias
    if norm is not None and is_exported() and _is_affine(norm):
        # Runtimes fold a norm into a convolution, and not into the sum that replaces it.
        scale, bias = _scale_and_shift(norm, bias)
        weight, norm = weight * scale[:, None, None, None], None
    y = conv_upsampled(maps, weight, align_corners, bias)
    if norm is not None:
        y = norm(y)
    return module.activate(y) if module.with_activation else y


def can_infer(x: Tensor) -> bool:
    """Tell whether the faster inference of a CPU is possible, and is worth it for maps like ``x``.

    It may not where gradients are needed or a graph is recorded, nor in other dtypes.
    """
    return (
        (x.device.type, x.dtype) == ("cpu", torch.float32)
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not is_watched()
        and x.shape[1] >= MIN_DIM
        and x.shape[2:].numel() >= MIN_POSITIONS
    )


def _can_infer_module(module: ConvModule, x: Tensor) -> bool:
    conv = module.conv
    if conv.kernel_size not in ((1, 1), (3, 3)) or conv.out_channels < MIN_DIM or not can_infer(x):
        return False
    return _is_convolution(module)


def _is_convolution(module: ConvModule) -> bool:
    """Tell whether ``module`` is a convolution of stride 1 padded by zeros, then norm and act."""
    conv = module.conv
    if type(module) not in (ConvModule, FastConvModule) or type(conv) is not nn.Conv2d:
        return False
    k = conv.kernel_size[0]
    return (
        conv.kernel_size == (k, k)
        and k % 2 == 1
        and conv.padding == (k // 2, k // 2)
        and conv.stride == conv.dilation == (1, 1)
        and conv.groups == 1
        and conv.padding_mode == "zeros"
        and module.order == ("conv", "norm", "act")
        and not module.with_explicit_padding
        and not module.with_spectral_norm
        and module.efficient_conv_bn_eval_forward is None
        and is_plain(module)
        and is_plain(conv)
    )


def _infer(
    module: ConvModule,
    maps: Sequence[Tensor],
    align_corners: bool,
    scratch: Scratch | None = None,
) -> Tensor:
    """Return ``module(x)`` with norm and activation of a tile while it is in the cache."""
    conv, norm = module.conv, module.norm
    scale, bias, activation = None, conv.bias, module.activate if module.with_activation else None
    folds = norm is None or _is_affine(norm)
    if norm is not None and folds:
        scale, bias = _scale_and_shift(norm, bias)
    relu = folds and type(activation) is nn.ReLU and is_plain(activation)
    y = infer_conv_upsampled(maps, conv.weight, align_corners, scale, bias, relu, scratch)
    if not folds:
        y = norm(y)
    return y if relu or activation is None else activation(y)


def _scale_and_shift(norm: Any, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return factor and summand, (dim,), of a norm behind a convolution with a bias."""
    scale = (norm.running_var + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * norm.weight
    shift = -norm.running_mean if bias is None else bias - norm.running_mean
    return scale, shift * scale if norm.bias is None else shift * scale + norm.bias


def _is_affine(norm: nn.Module) -> bool:
    """Tell whether a norm scales and shifts each channel by constants."""
    return (
        isinstance(norm, nn.BatchNorm2d | nn.SyncBatchNorm)
        and not norm.training
        and norm.running_mean is not None
        and is_plain(norm)
    )
