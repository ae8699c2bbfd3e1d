"""Isotropic GFNet (GFNet-Ti, XS, S, B): one map of stride 16 from the first block to the last.

The paper and the official release are those of :mod:`.gfnet`. Dense heads need a pyramid: a neck
such as mmsegmentation's ``Feature2Pyramid`` makes it from the maps behind several blocks.
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

# drop_path_rate as in the ImageNet training.
ARCHS = {
    "tiny": dict(dim=256, depth=12, drop_path_rate=0.0),
    "xsmall": dict(dim=384, depth=12, drop_path_rate=0.0),
    "small": dict(dim=384, depth=19, drop_path_rate=0.15),
    "base": dict(dim=512, depth=19, drop_path_rate=0.25),
}
PATCH_SIZE = 16  # pixels


@MODELS.register_module()
class IsotropicGFNet(GFNetBackbone):
    """Isotropic GFNet: blocks on one map of stride 16.

    Args:
        arch: ``tiny``, ``xsmall``, ``small``, ``base``, or a dict with ``dim``, ``depth`` and,
            optionally, ``drop_path_rate`` (0) and ``layer_scale_init_value`` (no layer scale).
        img_size: Image size, int or (H, W), for which filters and position embedding are stored.
            For other images ``forward`` resizes them; ImageNet weights are resized when they are
            loaded. With trigonometric resizing, a filter stored for 224 is a convolution kernel of
            14 x 14 positions on images of this size and larger: local on large images, where only
            the blocks together reach far. With the size of the training crop here, a filter covers
            the whole map of the crop.
        out_indices: Indices of the blocks whose normalized maps are returned; the last block if
            None. Blocks behind the last of them are not built.
        drop_path_rate: Drop path rate of the last block, growing linearly from 0 at the first
            block of the arch. The rate of the arch's ImageNet training if None.
        frozen_stages: -1 trains everything, 0 freezes the stem (patch and position embedding),
            i > 0 also the first i blocks.
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
        init_cfg: See :class:`.GFNet`.

    Raises:
        InputError: For an argument outside its accepted values.
    """

    def __init__(
        self,
        arch: str | dict = "base",
        img_size: int | Size = 224,
        out_indices: Sequence[int] | None = None,
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
        settings = resolve_arch(arch, ARCHS, required=("dim", "depth"))
        dim, depth = settings["dim"], settings["depth"]
        self.dim, self.depth = dim, depth
        self.arch_shape = Arch("GFNet", (dim,), (depth,))
        self.num_outputs = depth
        if out_indices is None:
            out_indices = (depth - 1,)
        self.out_indices = check_out_indices(out_indices, depth)
        num_blocks = self.out_indices[-1] + 1
        self.built_depths = (num_blocks,)
        self.grids = stage_grids(img_size, [PATCH_SIZE])
        self.frozen_stages = check_frozen_stages(frozen_stages, num_blocks)
        self.with_cp = with_cp
        self._set_filters(filter_resize, border, test_border)
        self._set_channels(in_channels, rgb_channels)

        self.patch_embed = PatchEmbed(in_channels, dim, PATCH_SIZE)
        h, w = self.grids[0]
        self.pos_embed = nn.Parameter(torch.zeros(1, h * w, dim))
        if drop_path_rate is None:
            drop_path_rate = settings.get("drop_path_rate", 0.0)
        blocks = nn.ModuleList(
            Block(
                dim,
                self.grids[0],
                drop_path=rate,
                layer_scale_init_value=settings.get("layer_scale_init_value"),
                filter_resize=filter_resize,
                border=border,
            )
            for rate in drop_path_rates(drop_path_rate, depth)[:num_blocks]
        )
        self.blocks = cast(Sequence[Block], blocks)  # ModuleList is not generic
        self._add_norms([dim] * depth)
        self._finish(nn.Linear)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the normalized maps behind the blocks in ``out_indices``.

        Args:
            x: Images, (B, in_channels, H, W), H and W of 32 pixels or more.

        Returns:
            Maps (B, dim, ceil(H / 16), ceil(W / 16)).
        """
        outs: list[Tensor] = []
        start, fast, memory_format = 0, can_infer(self, x), memory_format_of(x)
        x = self._add_position(self.patch_embed(x), fast)  # (B, H, W, dim)
        for i in self.out_indices:
            x, out = self._run(self.blocks[start : i + 1], x, i, fast, memory_format)
            if out is not None:
                outs.append(out)
            start = i + 1
        return tuple(outs)

    def _stage_and_block(self, name: str) -> tuple[int, int] | None:
        if name == "pos_embed" or name.startswith("patch_embed."):
            return STEM
        found = re.match(r"blocks\.(\d+)\.", name)
        return (0, int(found[1])) if found else None

    def _embeddings_and_blocks(self) -> tuple[Any, Any]:
        return [self.patch_embed], self.blocks
