"""What the hierarchical and the isotropic backbone share: weights, freezing, checkpointing."""

from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gfnet_dense.models.layers.block import Block
from gfnet_dense.models.utils.filter_resize import resize_position_embedding
from gfnet_dense.models.utils.state_dict import adapt_state_dict
from gfnet_dense.registry import WEIGHT_INITIALIZERS
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.types import Size

from .fast_inference import infer

STEM = (0, -1)  # stage and block, as _stage_and_block returns them


class GFNetBackbone(BaseModule):
    """Base of the backbones.

    A subclass sets the attributes below, builds ``patch_embed``, ``pos_embed`` and ``blocks``, and
    calls :meth:`_add_norms` and :meth:`_finish` at the end of its constructor.

    Attributes:
        arch_shape: dims and depths of the whole arch, one number for each stage.
        built_depths: Number of blocks of each stage that is built.
        num_outputs: How many outputs the whole arch has; the last one has the official norm.
        out_indices: Which of them are returned.
        grids: Map size (h, w) of each stage for which filters are stored.
    """

    arch_shape: tuple[tuple[int, ...], tuple[int, ...]]
    built_depths: tuple[int, ...]
    num_outputs: int
    out_indices: tuple[int, ...]
    grids: list[Size]
    frozen_stages: int
    with_cp: bool
    filter_resize: str
    pos_embed: nn.Parameter

    def _add_norms(self, dims: Sequence[int]) -> None:
        """Add a norm for each output; more would be parameters without gradient, at which
        DistributedDataParallel stops."""
        for i in self.out_indices:
            self.add_module(f"norm{i}", nn.LayerNorm(dims[i], eps=1e-6))

    def _finish(self) -> None:
        """Initialize as the official release does, freeze, and accept official state dicts."""
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        frozen = self._frozen_modules()
        if frozen:
            self.pos_embed.requires_grad_(False)
        for module in frozen:
            module.eval().requires_grad_(False)
        self.register_load_state_dict_pre_hook(_adapt_before_loading)

    @abstractmethod
    def _frozen_modules(self) -> list[nn.Module]:
        """Return the modules that ``frozen_stages`` freezes; ``pos_embed`` comes with the first."""

    def train(self, mode: bool = True) -> "GFNetBackbone":
        """Set training mode; frozen stages stay in evaluation mode."""
        super().train(mode)
        for module in self._frozen_modules():
            module.eval()
        return self

    def init_weights(self) -> None:
        """Load the checkpoint of ``init_cfg``; without one the constructor's values stay."""
        if isinstance(self.init_cfg, dict) and self.init_cfg["type"] == "Pretrained":
            # By its name: a model is built without the modules that read checkpoints.
            load = dict(type="gfnet_dense.Pretrained", checkpoint=self.init_cfg["checkpoint"])
            WEIGHT_INITIALIZERS.build(load)(self)
            self._is_init = True
        else:
            super().init_weights()

    def get_layer_depth(self, param_name: str, prefix: str = "") -> tuple[int, int]:
        """Return the layer of a parameter and the number of layers, as mmpretrain's models do.

        Layer 0 is the stem, k + 1 the block k, counted over all stages. The last layer is what
        lies behind the blocks: the output norms, and whatever is not the backbone's.

        Args:
            param_name: Name of a parameter.
            prefix: What stands before the names of the backbone's, such as ``backbone.``.
        """
        stages = enumerate(self.built_depths)
        layers = [STEM, *((stage, block) for stage, depth in stages for block in range(depth))]
        name = param_name[len(prefix) :] if param_name.startswith(prefix) else ""
        place = self._stage_and_block(name)
        return (layers.index(place) if place in layers else len(layers)), len(layers) + 1

    def get_stage_depth(self, param_name: str, prefix: str = "") -> tuple[int, int]:
        """Return what :meth:`get_layer_depth` does with a whole stage as one layer."""
        layer, _ = self.get_layer_depth(param_name, prefix)
        last_layers = [0, *accumulate(self.built_depths)]  # of the stem and of each stage
        return bisect_left(last_layers, layer), len(last_layers) + 1

    @abstractmethod
    def _stage_and_block(self, name: str) -> tuple[int, int] | None:
        """Return to which block of which stage a parameter belongs, None if to no block.

        The stem is :data:`STEM`; a later patch embedding belongs to the block that follows.
        """

    def _add_position(self, x: Tensor, fast: bool) -> Tensor:  # (B, H, W, dim)
        size = x.shape[1:3]
        pos_embed = resize_position_embedding(self.pos_embed, self.grids[0], size)
        pos_embed = pos_embed.reshape(1, *size, -1)
        return x.add_(pos_embed) if fast and pos_embed.dtype == x.dtype else x + pos_embed

    def _run(
        self, blocks: Iterable[Block], x: Tensor, i: int, fast: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Run blocks on ``x`` (B, H, W, dim), and the norm of output ``i`` behind them.

        Args:
            blocks: The blocks.
            x: Map, which is overwritten if ``fast``.
            i: Number of the output.
            fast: Whether :func:`.can_infer` holds, which looks at every module.

        Returns:
            The map behind the blocks, and the normalized output, (B, dim, H, W), if it is wanted.
        """
        norm = getattr(self, f"norm{i}") if i in self.out_indices else None
        blocks = list(blocks)
        if fast:
            return infer(x, blocks, norm)
        for block in blocks:
            if self.with_cp and torch.is_grad_enabled():
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        return x, None if norm is None else norm(x).permute(0, 3, 1, 2).contiguous()


def _adapt_before_loading(module: GFNetBackbone, state_dict: dict, prefix: str, *_) -> None:
    """Bring official keys and other grids to the module's, whoever loads the state dict."""
    last_norm = f"norm{module.num_outputs - 1}"
    adapt_state_dict(state_dict, prefix, module.grids, last_norm, module.filter_resize)


def resolve_arch(arch: str | dict, presets: dict[str, dict], required: Sequence[str]) -> dict:
    """Return the settings of ``arch``, the name of a preset or a dict.

    Raises:
        InputError: For an unknown name, or a dict with missing or unknown keys.
    """
    if isinstance(arch, str):
        if arch not in presets:
            raise InputError(f"arch is one of {', '.join(presets)}, or a dict, got {arch!r}")
        return presets[arch]
    optional = ("drop_path_rate", "layer_scale_init_value")
    if not set(required) <= set(arch) <= {*required, *optional}:
        raise InputError(
            f"an arch dict has {' and '.join(required)} and, optionally, {' and '.join(optional)}, "
            f"got {', '.join(arch) or 'nothing'}"
        )
    return arch


def check_out_indices(out_indices: Sequence[int], count: int) -> tuple[int, ...]:
    """Return ``out_indices`` as a tuple; they are distinct, ascending and below ``count``."""
    indices = tuple(out_indices)
    if not indices or list(indices) != sorted(set(indices) & set(range(count))):
        raise InputError(
            f"out_indices are distinct, ascending and within 0..{count - 1}, got {indices}"
        )
    return indices


def check_frozen_stages(frozen_stages: int, count: int) -> int:
    """Return ``frozen_stages`` if it is between -1 (none) and ``count``."""
    if not -1 <= frozen_stages <= count:
        raise InputError(f"frozen_stages is between -1 and {count}, got {frozen_stages}")
    return frozen_stages


def drop_path_rates(rate: float, depth: int) -> list[float]:
    """Return the stochastic depth of each block, growing linearly from 0 to ``rate``."""
    return [rate * i / max(depth - 1, 1) for i in range(depth)]
