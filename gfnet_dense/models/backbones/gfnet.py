"""Hierarchical GFNet as a backbone for dense prediction.

Paper: Rao et al., "Global Filter Networks for Image Classification", NeurIPS 2021
(https://arxiv.org/abs/2107.00645), and "GFNet: Global Filter Networks for Visual Recognition",
T-PAMI 2023. Modules and parameters carry the names of the official release
(https://github.com/raoyongming/GFNet), so that its files load without a key map.
"""

import re
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from gfnet_dense.models.layers.block import Block, PatchEmbed
from gfnet_dense.models.utils.arch import Arch
from gfnet_dense.models.utils.state_dict import stage_grids
from gfnet_dense.registry import MODELS
from gfnet_dense.utils.types import Size

from .base import (
    STEM,
    check_frozen_stages,
    check_out_indices,
    drop_path_rates,
    memory_format_of,
    resolve_arch,
)
from .fast_inference import can_infer
from .gfnet_base import GFNetBackbone

# drop_path_rate as in the ImageNet training; layer_scale_init_value is the start of each gamma.
ARCHS = {
    "h-tiny": dict(
        dims=(64, 128, 256, 512),
        depths=(3, 3, 10, 3),
        drop_path_rate=0.1,
        layer_scale_init_value=1e-3,
    ),
    "h-small": dict(
        dims=(96, 192, 384, 768),
        depths=(3, 3, 10, 3),
        drop_path_rate=0.2,
        layer_scale_init_value=1e-5,
    ),
    "h-base": dict(
        dims=(96, 192, 384, 768),
        depths=(3, 3, 27, 3),
        drop_path_rate=0.4,
        layer_scale_init_value=1e-6,
    ),
}


@MODELS.register_module()
class GFNet(GFNetBackbone):
    """Hierarchical GFNet (GFNet-H): four stages of strides 4, 8, 16 and 32.

    Args:
        arch: ``h-tiny``, ``h-small``, ``h-base``, or a dict with ``dims``, ``depths`` (one number
            for each stage) and, optionally, ``drop_path_rate`` (0) and ``layer_scale_init_value``
            (1e-3, None for no layer scale).
        img_size: Image size, int or (H, W), for which filters and position embedding are stored.
            For other images ``forward`` resizes them; ImageNet weights are resized when they are
            loaded. With trigonometric resizing, a filter stored for 224 is a convolution kernel of
            56 x 56 positions in stage 1 (7 x 7 in stage 4) on images of this size and larger: local
            on large images. All blocks together reach 2080 pixels to each side in h-tiny and
            h-small and 3984 in h-base; this is the theoretical reach, and the effective one is much
            smaller. With the size of the training crop here, a filter covers the whole map of the
            crop.
        out_indices: Indices of the stages whose normalized maps are returned. Stages behind the
            last of them are not built.
        drop_path_rate: Drop path rate of the last block, growing linearly from 0 at the first
            block of the arch. The rate of the arch's ImageNet training if None.
        frozen_stages: -1 trains everything, 0 freezes the stem (first patch embedding and
            position embedding), i > 0 also the first i stages.
        with_cp: Recompute the blocks in the backward pass to save memory.
        filter_resize: How filters are resized to other maps, see :func:`.resize_filter`.
            ``trigonometric`` keeps the size of the kernel in positions (see ``img_size``). With
            the published ``bilinear`` or ``bicubic``, a filter covers the whole map at every image
            size.
        border: What filters see beyond the map, see :class:`.BaseFilter`.
        test_border: What they see there in evaluation; the same as in training if None. The
            weights do not depend on it: a model can be trained with one border and tested with
            another.
        in_channels: Number of bands of the images.
        rgb_channels: Which of these bands are red, green and blue, such as (2, 1, 0); for
            ``in_channels`` above 3. A stem of three channels, as in ImageNet files, is adapted to
            ``in_channels`` when it is loaded, see :func:`.adapt_stem`. None if no bands are known
            to be red, green and blue.
        init_cfg: mmengine's. ``dict(type='Pretrained', checkpoint=...)`` takes official ImageNet
            files and our own, see :func:`gfnet_dense.checkpoint.load_pretrained`.

    Raises:
        InputError: For an argument outside its accepted values.
    """

    def __init__(
        self,
        arch: str | dict = "h-tiny",
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
        settings = resolve_arch(arch, ARCHS, required=("dims", "depths"))
        self.dims, self.depths = tuple(settings["dims"]), tuple(settings["depths"])
        self.arch_shape = Arch("GFNet", self.dims, self.depths)
        self.num_outputs = len(self.dims)
        self.out_indices = check_out_indices(out_indices, self.num_outputs)
        num_stages = self.out_indices[-1] + 1
        self.built_depths = self.depths[:num_stages]
        self.grids = stage_grids(img_size, [4 * 2**i for i in range(num_stages)])
        self.frozen_stages = check_frozen_stages(frozen_stages, num_stages)
        self.with_cp = with_cp
        self._set_filters(filter_resize, border, test_border)
        self._set_channels(in_channels, rgb_channels)

        in_dims = (in_channels, *self.dims)
        self.patch_embed = nn.ModuleList(
            PatchEmbed(in_dims[i], self.dims[i], patch_size=4 if i == 0 else 2)
            for i in range(num_stages)
        )
        h, w = self.grids[0]
        self.pos_embed = nn.Parameter(torch.zeros(1, h * w, self.dims[0]))
        if drop_path_rate is None:
            drop_path_rate = settings.get("drop_path_rate", 0.0)
        rates = iter(drop_path_rates(drop_path_rate, sum(self.depths)))
        blocks = nn.ModuleList(
            nn.ModuleList(
                Block(
                    self.dims[i],
                    self.grids[i],
                    drop_path=next(rates),
                    layer_scale_init_value=settings.get("layer_scale_init_value", 1e-3),
                    filter_resize=filter_resize,
                    border=border,
                )
                for _ in range(self.depths[i])
            )
            for i in range(num_stages)
        )
        self.blocks = cast(Sequence[Sequence[Block]], blocks)  # ModuleList is not generic
        self._add_norms(self.dims)
        self._finish(nn.Linear)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the normalized maps of the stages in ``out_indices``.

        Args:
            x: Images, (B, in_channels, H, W), H and W of 32 pixels or more.

        Returns:
            Maps (B, dims[i], ceil(H / stride), ceil(W / stride)) with stride 4 * 2**i.
        """
        outs: list[Tensor] = []
        fast, memory_format = can_infer(self, x), memory_format_of(x)
        for i, (embed, blocks) in enumerate(zip(self.patch_embed, self.blocks, strict=True)):
            x = embed(x)  # (B, H, W, dim)
            if i == 0:
                x = self._add_position(x, fast)
            x, out = self._run(blocks, x, i, fast, memory_format)
            if out is not None:
                outs.append(out)
            x = x.permute(0, 3, 1, 2)
        return tuple(outs)

    def _stage_and_block(self, name: str) -> tuple[int, int] | None:
        if name == "pos_embed" or name.startswith("patch_embed.0."):
            return STEM
        found = re.match(r"(?:blocks|patch_embed)\.(\d+)\.(\d*)", name)
        return (int(found[1]), int(found[2] or 0)) if found else None

    def _embeddings_and_blocks(self) -> tuple[Any, Any]:
        return self.patch_embed, self.blocks
