"""Counting the floating-point operations of a model, Fourier transforms included."""

import copy
import math
from dataclasses import dataclass
from functools import partial

import torch
from mmengine.structures import BaseDataElement, InstanceData
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from gfnet_dense.models.layers.global_filter import GlobalFilter
from gfnet_dense.utils.types import Size

aten = torch.ops.aten
NUM_MASKS = 100  # for which mask heads are counted: as many as COCO evaluates


@dataclass(frozen=True)
class Complexity:
    """Multiply-adds of one forward.

    Attributes:
        total: Everything.
        filters: The part of the global filters, Fourier transforms and products.
    """

    total: int
    filters: int


def count_flops(model: nn.Module, size: Size) -> Complexity:
    """Count the multiply-adds of one forward in evaluation, as papers do under the name FLOPs.

    Convolutions and matrix products count, norms, activations and interpolation do not. An FFT of
    N complex points counts 5 N log2(N) real operations, one of N real points half of that (the
    convention of https://www.fftw.org/speed/method.html), a complex product 6; two real operations
    are one multiply-add. Two-stage detectors look at as many proposals as they may have, mask heads
    at 100 boxes.

    Args:
        model: A segmentor of mmsegmentation, a detector of mmdetection, or any module that takes
            images alone. It runs on its own device: one that was built under
            ``torch.device("meta")`` computes nothing.
        size: (H, W) of the one image.
    """
    model = copy.deepcopy(model).eval()
    for module in model.modules():
        if isinstance(module, GlobalFilter):
            module.CACHE_BYTES = math.inf  # large ones are kept, too
        if hasattr(module, "roi_layers"):
            # Its operator knows no meta device; interpolation counts nothing.
            module.forward = partial(_empty_rois, module)
    image = torch.zeros(1, 3, *size, device=next(model.parameters()).device)
    with torch.no_grad():
        # Filters are resized once for each size and kept: no part of every forward.
        _forward(model, image)
        with FlopCounterMode(display=False, custom_mapping=_FORMULAS) as counter:
            _forward(model, image)
    operations = counter.get_flop_counts()["Global"]
    filters = sum(operations.get(op, 0) for op in _FORMULAS)
    return Complexity(round(counter.get_total_flops() / 2), round(filters / 2))


def _forward(model: nn.Module, image: torch.Tensor) -> None:
    shape = tuple(image.shape[2:])
    info = dict(img_shape=shape, ori_shape=shape, pad_shape=shape, batch_input_shape=shape)
    if hasattr(model, "encode_decode"):
        # Some heads of segmentors predict, but have no plain forward.
        model.encode_decode(image, [info])
    elif hasattr(model, "roi_head"):
        _forward_two_stages(model, image, BaseDataElement(metainfo=info))
    elif hasattr(model, "extract_feat"):
        model(image, [BaseDataElement(metainfo=info)], mode="tensor")
    else:
        model(image)


def _forward_two_stages(model: nn.Module, image: torch.Tensor, sample: BaseDataElement) -> None:
    """Run a detector on as many proposals as there may be: untrained weights find others."""
    maps = model.extract_feat(image)
    model.rpn_head(maps)
    boxes = maps[0].new_zeros(model.test_cfg.rpn.max_per_img, 4)
    mask_heads = getattr(model.roi_head, "mask_head", None)
    model.roi_head.mask_head = None  # with it, a cascade would draw masks for all proposals
    model.roi_head.forward(maps, [InstanceData(bboxes=boxes)], [sample])
    model.roi_head.mask_head = mask_heads
    for head in mask_heads if isinstance(mask_heads, nn.ModuleList) else [mask_heads]:
        if head is not None:
            head(maps[0].new_zeros(NUM_MASKS, head.in_channels, *head.roi_feat_size))


def _empty_rois(extractor: nn.Module, maps, rois, *_) -> torch.Tensor:
    """Return what an extractor of mmdetection does, but for the values."""
    size = extractor.roi_layers[0].output_size
    return maps[0].new_zeros(len(rois), extractor.out_channels, *size)


def _real_to_complex(x, dim, *args, out_shape) -> float:
    return 2.5 * math.prod(x) * _log2_points(x, dim)


def _complex_to_real(x, dim, *args, out_shape) -> float:
    return 2.5 * math.prod(out_shape) * _log2_points(out_shape, dim)


def _complex_to_complex(x, dim, *args, out_shape) -> float:
    return 5 * math.prod(x) * _log2_points(x, dim)


def _log2_points(shape, dim) -> float:
    return math.log2(math.prod(shape[d] for d in dim))


def _product(*args, out_val) -> int:
    return 6 * out_val.numel() if out_val.is_complex() else 0


_product._get_raw = True  # FlopCounterMode hands over tensors, not shapes: real products are free

# Real operations of what FlopCounterMode takes for free: here, the global filter alone does them.
_FORMULAS = {
    aten._fft_r2c: _real_to_complex,
    aten._fft_c2r: _complex_to_real,
    aten._fft_c2c: _complex_to_complex,
    aten.mul: _product,
    aten.mul_: _product,
}
