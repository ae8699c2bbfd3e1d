"""Base class of the GFNets: position embedding, output norms, running the blocks."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from gfnet_dense.models.layers.block import Block
from gfnet_dense.models.layers.spectral import static_size
from gfnet_dense.models.utils.filter_resize import resize_position_embedding
from gfnet_dense.models.utils.state_dict import adapt_state_dict

from .base import FilterBackbone
from .fast_inference import infer


class GFNetBackbone(FilterBackbone):
    """Base class of :class:`.GFNet` and :class:`.IsotropicGFNet`.

    A subclass builds ``patch_embed``, ``pos_embed`` and ``blocks``.

    Attributes:
        num_outputs: Number of outputs of the whole arch. The norm of the last output takes the
            weights of the official final norm.
        pos_embed: Position embedding, (1, h * w, dim), for the first grid.
    """

    num_outputs: int
    pos_embed: nn.Parameter

    def _finish(self, *kinds: type[nn.Linear] | type[nn.Conv2d]) -> None:
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        if self._frozen_modules():
            self.pos_embed.requires_grad_(False)
        super()._finish(*kinds)

    def _adapt(self, state_dict: dict[str, Tensor], prefix: str) -> None:
        last_norm = f"norm{self.num_outputs - 1}"
        adapt_state_dict(state_dict, prefix, self.grids, last_norm, self.filter_resize)

    def _add_position(self, x: Tensor, fast: bool) -> Tensor:
        """Add the position embedding to a map (B, H, W, dim); ``fast`` may overwrite the map."""
        H, W = static_size(x.permute(0, 3, 1, 2))
        pos_embed = resize_position_embedding(self.pos_embed, self.grids[0], (H, W))
        pos_embed = pos_embed.reshape(1, H, W, -1)
        return x.add_(pos_embed) if fast and pos_embed.dtype == x.dtype else x + pos_embed

    def _run(
        self,
        blocks: Iterable[Block],
        x: Tensor,
        i: int,
        fast: bool,
        memory_format: torch.memory_format,
    ) -> tuple[Tensor, Tensor | None]:
        """Run blocks, and the norm of output ``i`` behind them.

        Args:
            blocks: Consecutive blocks.
            x: Map, (B, H, W, dim), which is overwritten if ``fast``.
            i: Index of the output behind the blocks.
            fast: Result of :func:`.can_infer`; an argument, so that it is computed once a forward.
            memory_format: That of the output.

        Returns:
            The map behind the blocks, (B, H, W, dim), and the normalized output, (B, dim, H, W),
            None if ``out_indices`` does not have it.
        """
        norm = getattr(self, f"norm{i}") if i in self.out_indices else None
        blocks = list(blocks)
        if fast:
            return infer(x, blocks, norm, memory_format)
        x = self._run_blocks(blocks, x)
        if norm is None:
            return x, None
        return x, norm(x).permute(0, 3, 1, 2).contiguous(memory_format=memory_format)
