"""Models as graphs of real numbers for images of one size: without complex numbers and FFT."""

import copy

import torch
from torch import Tensor, nn

from gfnet_dense.apis.inference import threshold_of
from gfnet_dense.apis.sliding_window import labels_of
from gfnet_dense.models.backbones.base import GFNetBackbone
from gfnet_dense.models.layers.global_filter import GlobalFilter
from gfnet_dense.models.layers.matrix_filter import MatrixFilter
from gfnet_dense.models.utils.filter_resize import resize_position_embedding
from gfnet_dense.utils.types import Size


def freeze_size(model: nn.Module, size: Size) -> nn.Module:
    """Return a copy of a model for images of one size, without complex numbers and without FFT.

    Global filters become matrix products, position embeddings are resized once.

    Args:
        model: A GFNet, or a segmentor or detector with one as ``backbone``.
        size: Image size (H, W).

    Returns:
        The copy, in evaluation mode.
    """
    model = copy.deepcopy(model).eval().requires_grad_(False)
    backbone = getattr(model, "backbone", model)
    sizes = {}
    filters = {n: m for n, m in backbone.named_modules() if isinstance(m, GlobalFilter)}
    handles = [
        module.register_forward_pre_hook(
            lambda _, args, name=name: sizes.__setitem__(name, tuple(args[0].shape[1:3]))
        )
        for name, module in filters.items()
    ]
    with torch.no_grad():
        backbone(next(backbone.parameters()).new_zeros(1, 3, *size))
    for handle in handles:
        handle.remove()
    for name, module in filters.items():
        matrix_filter = MatrixFilter(module, sizes[name]).to(module.complex_weight.device)
        backbone.set_submodule(name, matrix_filter)
    if isinstance(backbone, GFNetBackbone):
        first = next(iter(sizes.values()))
        resized = resize_position_embedding(backbone.pos_embed, backbone.grids[0], first)
        backbone.pos_embed = nn.Parameter(resized, requires_grad=False)
        backbone.grids = [first, *backbone.grids[1:]]
    return model


class SegmentorGraph(nn.Module):
    """A segmentor of mmsegmentation, from normalized images (B, 3, H, W) to ``logits``
    (B, num_classes, H, W) and ``labels`` (B, H, W)."""

    def __init__(self, model: nn.Module, size: Size):
        super().__init__()
        self.model, self.size = model, size
        self.threshold = threshold_of(model)
        self.outputs = ("logits", "labels")

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        logits = self.model.encode_decode(images, [dict(img_shape=self.size)])
        return logits, labels_of(logits, self.threshold)


class DetectorGraph(nn.Module):
    """A detector of mmdetection, from normalized images (B, 3, H, W) to the maps of its neck.

    Of a one-stage detector with anchors the raw outputs of its head come behind them; boxes are
    decoded and suppressed outside of the graph.
    """

    def __init__(self, model: nn.Module, num_maps: int):
        super().__init__()
        self.model = model
        self.has_head = type(getattr(model, "bbox_head", None)).__name__ == "RetinaHead"
        names = ("feature", "cls_score", "bbox_pred") if self.has_head else ("feature",)
        self.outputs = tuple(f"{name}_{i}" for name in names for i in range(num_maps))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        maps = self.model.extract_feat(images)
        if not self.has_head:
            return tuple(maps)
        scores, boxes = self.model.bbox_head(maps)
        return (*maps, *scores, *boxes)


def build_graph(model: nn.Module, size: Size) -> nn.Module:
    """Return what is exported of a segmentor or detector, with the names of its ``outputs``."""
    if hasattr(model, "encode_decode"):
        return SegmentorGraph(model, size)
    with torch.no_grad():
        image = torch.zeros(1, 3, *size, device=next(model.parameters()).device)
        return DetectorGraph(model, len(model.extract_feat(image)))
