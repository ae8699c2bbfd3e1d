"""HorNet as a backbone for dense prediction.

Paper: Rao et al., "HorNet: Efficient High-Order Spatial Interactions with Recursive Gated
Convolutions", NeurIPS 2022 (https://arxiv.org/abs/2207.14284). Modules and parameters carry the
names of the official release (https://github.com/raoyongming/HorNet), so that its files load
without a key map.
"""

import re
from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor, nn

from gfnet_dense.models.layers.global_local_filter import GlobalLocalFilter
from gfnet_dense.models.layers.gnconv import DepthwiseConv, spatial_dim
from gfnet_dense.models.layers.hornet_block import HorNetBlock
from gfnet_dense.models.layers.layer_norm import LayerNorm2d
from gfnet_dense.models.layers.spectral import static_size
from gfnet_dense.models.utils.arch import Arch
from gfnet_dense.models.utils.hornet_state_dict import (
    FILTER_STAGES,
    adapt_hornet,
    hornet_grids,
    likely_sizes,
)
from gfnet_dense.models.utils.state_dict import stage_grids
from gfnet_dense.registry import MODELS
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.types import Size

from .base import (
    OPTIONAL,
    STEM,
    FilterBackbone,
    check_frozen_stages,
    check_out_indices,
    drop_path_rates,
    memory_format_of,
    resolve_arch,
)
from .hornet_inference import can_infer, infer

FIRST_ORDER = 2  # order of the gnConvs in stage 1; it grows by one from stage to stage


def _arch(base_dim: int, filters: bool, drop_path_rate: float) -> dict:
    return dict(
        dims=tuple(base_dim * 2**i for i in range(4)),
        depths=(2, 3, 18, 2),
        filters=filters,
        drop_path_rate=drop_path_rate,
    )


# Base dim, and drop_path_rate as in the ImageNet training (TRAINING.md of the release)
_SIZES = {"tiny": (64, 0.2), "small": (96, 0.4), "base": (128, 0.5), "large": (192, 0.2)}
ARCHS = {
    f"{name}-{kind}": _arch(dim, kind == "gf", rate)
    for kind in ("gf", "7x7") for name, (dim, rate) in _SIZES.items()
}  # fmt: skip


@MODELS.register_module()
class HorNet(FilterBackbone):
    """HorNet: four stages of strides 4, 8, 16 and 32, made of recursive gated convolutions.

    In the ``gf`` archs the last two stages have a global filter for half of their channels, in all
    others the positions are mixed by depth-wise 7x7 convolutions.

    Args:
        arch: ``tiny-gf``, ``small-gf``, ``base-gf``, ``large-gf``, the same with ``-7x7``, or a
            dict with ``dims``, ``depths`` (one number for each stage) and, optionally, ``filters``
            (True, or False for 7x7 convolutions alone), ``drop_path_rate`` (0) and
            ``layer_scale_init_value`` (1e-6).
        img_size: Image size, int or (H, W), for which filters are stored. The published ADE20K
            segmentors and the large detector store filters for 384, the other COCO detectors and
            most ImageNet models for 224. For other images ``forward`` resizes them; weights of
            another size are resized when they are loaded.
        out_indices: Indices of the stages whose normalized maps are returned. Stages behind the
            last of them are not built.
        drop_path_rate: Drop path rate of the last block, growing linearly from 0 at the first
            block of the arch. The rate of the arch's ImageNet training if None.
        frozen_stages: -1 trains everything, 0 freezes the stem, i > 0 also the first i stages.
        with_cp: Recompute the blocks in the backward pass to save memory.
        filter_resize: How filters are resized to other maps, see :func:`.resize_filter`. The
            published models were trained with ``bilinear``.
        border: What filters see beyond the map, see :class:`.BaseFilter`.
        test_border: What they see there in evaluation; the same as in training if None.
        in_channels, rgb_channels: See :class:`.GFNet`.
        init_cfg: mmengine's. ``dict(type='Pretrained', checkpoint=...)`` takes official ImageNet
            files (``hornet://tiny-gf``) and our own, see
            :func:`gfnet_dense.checkpoint.load_pretrained`. The norms of the outputs are new then:
            the official classifiers have none.

    Raises:
        InputError: For an argument outside its accepted values.
    """

    def __init__(
        self,
        arch: str | dict = "tiny-gf",
        img_size: int | Size = 224,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        drop_path_rate: float | None = None,
        frozen_stages: int = -1,
        with_cp: bool = False,
        filter_resize: str = "trigonometric",
        border: str = "circular",
        test_border: str | None = None,
        init_cfg: dict | list[dict] | None = None,
        in_channels: int = 3,
        rgb_channels: Sequence[int] | None = None,
    ):
        super().__init__(init_cfg=init_cfg)
        settings = resolve_arch(
            arch, ARCHS, required=("dims", "depths"), optional=("filters", *OPTIONAL)
        )
        self.dims, self.depths = tuple(settings["dims"]), tuple(settings["depths"])
        has_filters = settings.get("filters", True)
        layer_scale = settings.get("layer_scale_init_value", 1e-6)
        _check_shape(self.dims, has_filters, layer_scale)
        kind = "HorNet-GF" if has_filters else "HorNet-7x7"
        self.arch_shape = Arch(kind, self.dims, self.depths)
        self.out_indices = check_out_indices(out_indices, len(self.dims))
        num_stages = self.out_indices[-1] + 1
        self.built_depths = self.depths[:num_stages]
        (size,) = stage_grids(img_size, [1])
        self.grids = hornet_grids(size, num_stages)
        if has_filters:
            _check_grids(self.grids, img_size)
        self.frozen_stages = check_frozen_stages(frozen_stages, num_stages)
        self.with_cp = with_cp
        self._set_filters(filter_resize, border, test_border)
        self._set_channels(in_channels, rgb_channels)

        stem = nn.Conv2d(in_channels, self.dims[0], kernel_size=4, stride=4)
        self.downsample_layers = nn.ModuleList(
            [nn.Sequential(stem, LayerNorm2d(self.dims[0], eps=1e-6))]
        )
        for a, b in zip(self.dims, self.dims[1:num_stages], strict=False):
            conv = nn.Conv2d(a, b, kernel_size=2, stride=2)
            self.downsample_layers.append(nn.Sequential(LayerNorm2d(a, eps=1e-6), conv))
        if drop_path_rate is None:
            drop_path_rate = settings.get("drop_path_rate", 0.0)
        rates = iter(drop_path_rates(drop_path_rate, sum(self.depths)))
        stages = nn.ModuleList()
        for i, depth in enumerate(self.built_depths):
            order = FIRST_ORDER + i
            dim = spatial_dim(self.dims[i], order)
            filtered = has_filters and i in FILTER_STAGES
            stages.append(
                nn.Sequential(
                    *(
                        HorNetBlock(
                            self.dims[i],
                            order,
                            GlobalLocalFilter(dim, self.grids[i], filter_resize, border)
                            if filtered
                            else DepthwiseConv(dim),
                            drop_path=next(rates),
                            layer_scale_init_value=layer_scale,
                        )
                        for _ in range(depth)
                    )
                )
            )
        self.stages = cast(Sequence[Sequence[HorNetBlock]], stages)  # ModuleList is not generic
        self._add_norms(self.dims, LayerNorm2d)
        self._finish(nn.Linear, nn.Conv2d)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the normalized maps of the stages in ``out_indices``.

        Args:
            x: Images, (B, in_channels, H, W), H and W of 32 pixels or more (with fewer stages less:
                as many as the stride of the last one).

        Returns:
            Maps (B, dims[i], H // stride, W // stride) with stride 4 * 2**i: as published, pixels
            that do not fill a patch at the right and at the bottom are left out.

        Raises:
            InputError: For smaller images.
        """
        H, W = static_size(x)
        smallest = 4 * 2 ** (len(self.built_depths) - 1)  # one position in the last stage
        if min(H, W) < smallest:
            raise InputError(
                f"HorNet takes images of {smallest} pixels or more on both sides, got {H}x{W}"
            )
        outs: list[Tensor] = []
        fast, memory_format = can_infer(self, x), memory_format_of(x)
        for i, (downsample, blocks) in enumerate(
            zip(self.downsample_layers, self.stages, strict=True)
        ):
            norm = getattr(self, f"norm{i}") if i in self.out_indices else None
            x = downsample(x).permute(0, 2, 3, 1).contiguous()  # (B, H, W, dim)
            if fast:
                x, out = infer(x, blocks, norm, memory_format)
            else:
                x = self._run_blocks(blocks, x)
                out = norm and norm(x.permute(0, 3, 1, 2)).contiguous(memory_format=memory_format)
            if out is not None:
                outs.append(out)
            x = x.permute(0, 3, 1, 2)
        return tuple(outs)

    @property
    def filter_grid(self) -> Size:
        return self.grids[min(FILTER_STAGES[0], len(self.grids) - 1)]

    def _adapt(self, state_dict: dict[str, Tensor], prefix: str) -> None:
        adapt_hornet(state_dict, prefix, self.grids, self.filter_resize)

    def _stage_and_block(self, name: str) -> tuple[int, int] | None:
        if name.startswith("downsample_layers.0."):
            return STEM
        found = re.match(r"downsample_layers\.(\d+)\.", name)
        if found:
            return int(found[1]), 0
        found = re.match(r"stages\.(\d+)\.(\d+)\.", name)
        return (int(found[1]), int(found[2])) if found else None

    def _embeddings_and_blocks(self) -> tuple[Any, Any]:
        return self.downsample_layers, self.stages


def _check_grids(grids: Sequence[Size], img_size: int | Size) -> None:
    """Raise InputError if a file of the filters would not tell for which maps they are."""
    filtered = {i: grids[i] for i in FILTER_STAGES if i < len(grids)}
    if likely_sizes({i: (h, w // 2 + 1) for i, (h, w) in filtered.items()}) != filtered:
        raise InputError(
            "img_size of a HorNet is square, or has sides that are multiples of 32, got "
            f"{img_size}: files would not tell the width of its filters"
        )


def _check_shape(dims: Sequence[int], has_filters: object, layer_scale: object) -> None:
    """Raise InputError unless the settings of an arch fit together."""
    if not isinstance(layer_scale, (int, float)) or not layer_scale > 0:
        raise InputError(
            f"layer_scale_init_value of a HorNet is a number above 0, got {layer_scale!r}"
        )
    if not isinstance(has_filters, bool):
        raise InputError(f"filters of an arch is True or False, got {has_filters!r}")
    for i, dim in enumerate(dims):
        # The last group of channels halves order - 1 times, and filters take half of their sum.
        divisor = 2 ** (FIRST_ORDER + i - (not (has_filters and i in FILTER_STAGES)))
        if dim % divisor:
            raise InputError(
                f"the dim of stage {i + 1} of a HorNet is a multiple of {divisor}, got {dim}"
            )
