"""Turning models into exportable modules for one image size, without complex numbers and FFT."""

import copy
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from gfnet_dense.models.backbones.gfnet_base import GFNetBackbone
from gfnet_dense.models.label_prediction import threshold_of
from gfnet_dense.models.layers.base_filter import BaseFilter
from gfnet_dense.models.layers.global_filter import GlobalFilter
from gfnet_dense.models.layers.global_local_filter import GlobalLocalFilter
from gfnet_dense.models.layers.matrix_filter import MatrixFilter, MatrixGlobalLocalFilter
from gfnet_dense.models.utils.filter_resize import resize_position_embedding
from gfnet_dense.models.utils.label_maps import labels_of
from gfnet_dense.utils.channels import image_channels
from gfnet_dense.utils.types import Size

# The form without Fourier transforms of each layer with a global filter
MATRIX_FORMS: dict[type, Any] = {
    GlobalFilter: MatrixFilter,
    GlobalLocalFilter: MatrixGlobalLocalFilter,
}


def freeze_size(model: nn.Module, size: Size) -> nn.Module:
    """Return a copy of a model for one image size, without complex numbers and FFT.

    Each global filter is replaced by matrices for the size of its input, and the position embedding
    is resized once.

    Args:
        model: A GFNet, IsotropicGFNet or HorNet, or a segmentor or detector that has one as
            ``backbone``. It is not modified.
        size: Image size, (H, W).

    Returns:
        The copy, in evaluation mode, whose parameters need no gradients.
    """
    model = copy.deepcopy(model).eval().requires_grad_(False)
    backbone = getattr(model, "backbone", model)
    sizes: dict[str, Size] = {}
    filters = {n: m for n, m in backbone.named_modules() if isinstance(m, BaseFilter)}
    handles = [
        module.register_forward_pre_hook(
            lambda _, args, name=name: sizes.__setitem__(name, tuple(args[0].shape[1:3]))
        )
        for name, module in filters.items()
    ]
    with torch.no_grad():
        backbone(next(backbone.parameters()).new_zeros(1, image_channels(model), *size))
    for handle in handles:
        handle.remove()
    for name, module in filters.items():
        matrix_filter = MATRIX_FORMS[type(module)](module, sizes[name])
        matrix_filter = matrix_filter.to(module.complex_weight.device)
        backbone.set_submodule(name, matrix_filter)
    if isinstance(backbone, GFNetBackbone):
        first = next(iter(sizes.values()))
        resized = resize_position_embedding(backbone.pos_embed, backbone.grids[0], first)
        backbone.pos_embed = nn.Parameter(resized, requires_grad=False)
        backbone.grids = [first, *backbone.grids[1:]]
    return model


class SegmentorGraph(nn.Module):
    """An mmsegmentation segmentor as a module from tensors to tensors.

    Takes normalized images (B, bands, H, W) and returns ``logits`` (B, num_classes, H, W) and
    ``labels`` (B, H, W), class indices, int64.

    Args:
        model: The segmentor.
        size: Image size, (H, W).

    Attributes:
        outputs: Names of the returned tensors.
    """

    def __init__(self, model: BaseModel, size: Size):
        super().__init__()
        self.model, self.size = model, size
        self.threshold = threshold_of(model)
        self.outputs: tuple[str, ...] = ("logits", "labels")

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        logits = self.model.encode_decode(images, [dict(img_shape=self.size)])
        return logits, labels_of(logits, self.threshold)


class DetectorGraph(nn.Module):
    """An mmdetection detector as a module from tensors to tensors.

    Takes normalized images (B, bands, H, W) and returns the maps of the neck, ``feature_0`` and so
    on. RetinaNet also returns the raw outputs of its head, ``cls_score_0`` and so on, then
    ``bbox_pred_0`` and so on. Decoding boxes and suppressing duplicates are not part of the graph.

    Args:
        model: The detector.
        num_maps: Number of maps that the neck returns.

    Attributes:
        outputs: Names of the returned tensors.
    """

    def __init__(self, model: BaseModel, num_maps: int):
        super().__init__()
        self.model = model
        self.has_head = type(getattr(model, "bbox_head", None)).__name__ == "RetinaHead"
        names = ("feature", "cls_score", "bbox_pred") if self.has_head else ("feature",)
        self.outputs: tuple[str, ...] = tuple(f"{n}_{i}" for n in names for i in range(num_maps))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        maps = self.model.extract_feat(images)
        if not self.has_head:
            return tuple(maps)
        scores, boxes = self.model.bbox_head(maps)
        return (*maps, *scores, *boxes)


def build_graph(model: BaseModel, size: Size) -> SegmentorGraph | DetectorGraph:
    """Wrap a segmentor or detector into the module to export for images of a size (H, W)."""
    if hasattr(model, "encode_decode"):
        return SegmentorGraph(model, size)
    with torch.no_grad():
        device = next(model.parameters()).device
        image = torch.zeros(1, image_channels(model), *size, device=device)
        return DetectorGraph(model, len(model.extract_feat(image)))
