"""Count the floating-point operations of a model, Fourier transforms included."""

import copy
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from mmengine.structures import BaseDataElement, InstanceData
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gfnet_dense.models.backbones.gfnet_base import GFNetBackbone
from gfnet_dense.models.layers.base_filter import BaseFilter
from gfnet_dense.models.layers.flops import FILTER
from gfnet_dense.utils.channels import image_channels
from gfnet_dense.utils.types import Size

Shape = Sequence[int]

aten = torch.ops.aten
NUM_MASKS = 100  # boxes for which mask heads are counted: COCO evaluates as many in an image


@dataclass(frozen=True)
class Complexity:
    """Number of multiply-adds in one forward.

    Attributes:
        total: All multiply-adds.
        filters: Those of the global filters: Fourier transforms and complex products.
    """

    total: int
    filters: int


def count_flops(model: nn.Module, size: Size) -> Complexity:
    """Count the multiply-adds of one forward in evaluation, which papers report as FLOPs.

    Convolutions and matrix products count, and global filters as in :mod:`.layers.flops`; norms,
    activations and interpolation do not, nor does the resizing of filters and position embedding.
    Two real operations are one multiply-add. In a two-stage detector the box heads see the largest
    number of proposals that the config allows, and the mask heads 100 boxes.

    Args:
        model: A segmentor of mmsegmentation, a detector of mmdetection, or any module that takes
            images alone. It stays as it is; a copy runs on the model's device. On the meta device
            nothing is computed.
        size: (H, W) of the image, in pixels.
    """
    model = copy.deepcopy(model).eval()
    for module in model.modules():
        if isinstance(module, BaseFilter):
            # Keep resized filters of any size.
            module.CACHE_BYTES = module.GPU_CACHE_BYTES = module.STORED_BYTES = sys.maxsize
        if isinstance(module, GFNetBackbone):
            module._add_position = lambda x, fast: x  # type: ignore[method-assign]
        if hasattr(module, "roi_layers"):
            # RoIAlign does not support the meta device, and interpolation does not count.
            module.forward = partial(_empty_rois, module)
    device = next(model.parameters()).device
    image = torch.zeros(1, image_channels(model), *size, device=device)
    with torch.no_grad():
        # The first forward resizes the filters and caches them: later forwards do not pay for that.
        _forward(model, image)
        with FlopCounterMode(display=False, custom_mapping=_PLAIN_FORMULAS) as counter:
            _forward(model, image)
    operations = counter.get_flop_counts().get("Global", {})
    filters = sum(operations.get(operator, 0) for operator in (FILTER, *_PLAIN_FORMULAS))
    return Complexity(round(counter.get_total_flops() / 2), round(filters / 2))


def _forward(model: Any, image: Tensor) -> None:
    """Run one forward of a segmentor, a detector or a plain module on an image."""
    shape = tuple(image.shape[2:])
    info = dict(img_shape=shape, ori_shape=shape, pad_shape=shape, batch_input_shape=shape)
    if hasattr(model, "encode_decode"):
        # Some segmentation heads implement predict, but not forward.
        model.encode_decode(image, [info])
    elif hasattr(model, "roi_head"):
        _forward_two_stages(model, image, BaseDataElement(metainfo=info))
    elif hasattr(model, "extract_feat"):
        model(image, [BaseDataElement(metainfo=info)], mode="tensor")
    else:
        model(image)


def _forward_two_stages(model: Any, image: Tensor, sample: BaseDataElement) -> None:
    """Run a detector on the largest number of proposals: untrained weights may find fewer."""
    maps = model.extract_feat(image)
    model.rpn_head(maps)
    boxes = maps[0].new_zeros(model.test_cfg.rpn.max_per_img, 4)
    mask_heads = getattr(model.roi_head, "mask_head", None)
    model.roi_head.mask_head = None  # a cascade would predict masks for all proposals
    model.roi_head.forward(maps, [InstanceData(bboxes=boxes)], [sample])
    model.roi_head.mask_head = mask_heads
    heads: Any = mask_heads if isinstance(mask_heads, nn.ModuleList) else [mask_heads]
    for head in heads:
        if head is not None:
            head(maps[0].new_zeros(NUM_MASKS, head.in_channels, *head.roi_feat_size))


def _empty_rois(extractor: Any, maps: Sequence[Tensor], rois: Tensor, *_: object) -> Tensor:
    """Return zeros in the shape of the features that an RoI extractor of mmdetection returns."""
    size = extractor.roi_layers[0].output_size
    return maps[0].new_zeros(len(rois), extractor.out_channels, *size)


def _real_to_complex(x: Shape, dim: Shape, *_: object, out_shape: Shape) -> float:
    return 2.5 * math.prod(x) * _log2_points(x, dim)


def _complex_to_real(x: Shape, dim: Shape, *_: object, out_shape: Shape) -> float:
    return 2.5 * math.prod(out_shape) * _log2_points(out_shape, dim)


def _log2_points(shape: Shape, dim: Shape) -> float:
    return math.log2(math.prod(shape[d] for d in dim))


def _complex_product(*_: object, out_val: Tensor) -> int:
    return 6 * out_val.numel() if out_val.is_complex() else 0


# FlopCounterMode passes tensors instead of shapes: only the dtype tells complex products apart.
_complex_product._get_raw = True  # type: ignore[attr-defined]

# Real operations of filters that are no operator of this project, such as the published form.
_PLAIN_FORMULAS = {
    aten._fft_r2c: _real_to_complex,
    aten._fft_c2r: _complex_to_real,
    aten.mul: _complex_product,
}
