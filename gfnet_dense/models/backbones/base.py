"""Base class of both backbones: initialization, freezing, layer depths, running the blocks."""

from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

import torch
from mmengine.model import BaseModule, initialize
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gfnet_dense.models.layers.block import Block
from gfnet_dense.models.layers.global_filter import GlobalFilter, check_border
from gfnet_dense.models.layers.spectral import static_size
from gfnet_dense.models.utils.filter_resize import resize_position_embedding
from gfnet_dense.models.utils.hooks import in_functorch
from gfnet_dense.models.utils.state_dict import Arch, adapt_state_dict
from gfnet_dense.models.utils.stem import RGBChannels, adapt_stem
from gfnet_dense.registry import WEIGHT_INITIALIZERS
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.types import Size

from .fast_inference import infer

STEM = (0, -1)  # in the place of (stage, block), for the parameters before the first block


class GFNetBackbone(BaseModule):
    """Base class of :class:`.GFNet` and :class:`.IsotropicGFNet`.

    A subclass sets the attributes below, builds ``patch_embed``, ``pos_embed`` and ``blocks``, and
    calls :meth:`_add_norms` and :meth:`_finish` at the end of its constructor.

    Attributes:
        arch_shape: Dims and depths of the whole arch, one number for each stage.
        built_depths: Number of blocks of each stage that is built.
        num_outputs: Number of outputs of the whole arch. The norm of the last output takes the
            weights of the official final norm.
        out_indices: Indices of the outputs that ``forward`` returns.
        grids: Map size (h, w) of each stage for which filters are stored.
        frozen_stages: Number of frozen stages (isotropic: blocks); 0 freezes the stem alone, -1
            nothing.
        with_cp: Whether blocks are recomputed in the backward pass to save memory.
        filter_resize: Mode of :func:`.resize_filter`.
        border: Border of the filters in training, see :class:`.GlobalFilter`.
        test_border: Border of the filters in evaluation.
        in_channels: Number of bands of the images.
        rgb_channels: Which of them are red, green and blue; None if that is not known.
        pos_embed: Position embedding, (1, h * w, dim), for the first grid.
    """

    arch_shape: Arch
    built_depths: tuple[int, ...]
    num_outputs: int
    out_indices: tuple[int, ...]
    grids: list[Size]
    frozen_stages: int
    with_cp: bool
    filter_resize: str
    border: str
    test_border: str
    in_channels: int
    rgb_channels: RGBChannels | None
    pos_embed: nn.Parameter

    def _add_norms(self, dims: Sequence[int]) -> None:
        """Add a norm for each output that is returned.

        Norms of other outputs would get no gradient, which DistributedDataParallel refuses.
        """
        for i in self.out_indices:
            self.add_module(f"norm{i}", nn.LayerNorm(dims[i], eps=1e-6))

    def _finish(self) -> None:
        """Initialize as the official release does, freeze, and adapt weights when loaded."""
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
        """Return the modules that ``frozen_stages`` freezes, from the stem on.

        If there are any, ``pos_embed`` is frozen as well.
        """

    def train(self, mode: bool = True) -> "GFNetBackbone":
        """Set training or evaluation mode, and the border of this mode.

        Frozen stages always stay in evaluation mode. While the others train, their filters have the
        border of training.
        """
        super().train(mode)
        for module in self._frozen_modules():
            module.eval()
        for module in self.modules():
            if isinstance(module, GlobalFilter):
                module.border = self.border if mode else self.test_border
        return self

    def init_weights(self) -> None:
        """Initialize as ``init_cfg`` says; without it, keep the values of the constructor.

        Its other entries come first, then the checkpoint of its ``Pretrained`` entry.

        Raises:
            InputError: For two checkpoints, or a ``Pretrained`` entry with unknown keys.
        """
        entries = self.init_cfg if isinstance(self.init_cfg, list) else [self.init_cfg or {}]
        names = ("Pretrained", "gfnet_dense.Pretrained")
        pretrained = [entry for entry in entries if entry.get("type") in names]
        if not pretrained:
            super().init_weights()
            return
        if len(pretrained) > 1:
            raise InputError(f"init_cfg takes one checkpoint, got {len(pretrained)}")
        if unknown := set(pretrained[0]) - {"type", "checkpoint", "prefix", "map_location"}:
            raise InputError(
                "init_cfg=dict(type='Pretrained', checkpoint=...) takes prefix and map_location as "
                f"well, got {', '.join(sorted(unknown))}"
            )
        if others := [entry for entry in entries if entry is not pretrained[0]]:
            initialize(self, others)
        # Looked up by name, so that models do not import the code that reads checkpoints.
        WEIGHT_INITIALIZERS.build({**pretrained[0], "type": "gfnet_dense.Pretrained"})(self)
        self._is_init = True

    def get_layer_depth(self, param_name: str, prefix: str = "") -> tuple[int, int]:
        """Return the layer of a parameter and the number of layers, as mmpretrain's models do.

        Layer 0 is the stem, layer k + 1 is block k, counted over all stages. The last layer holds
        everything behind the blocks: the output norms, and parameters outside the backbone.

        Args:
            param_name: Name of a parameter.
            prefix: Prefix of the names of the backbone's parameters, such as ``backbone.``.

        Returns:
            The index of the layer, and the number of layers.
        """
        stages = enumerate(self.built_depths)
        layers = [STEM, *((stage, block) for stage, depth in stages for block in range(depth))]
        name = param_name[len(prefix) :] if param_name.startswith(prefix) else ""
        place = self._stage_and_block(name)
        return (layers.index(place) if place in layers else len(layers)), len(layers) + 1

    def get_stage_depth(self, param_name: str, prefix: str = "") -> tuple[int, int]:
        """Return the same as :meth:`get_layer_depth`, with each stage counted as one layer."""
        layer, _ = self.get_layer_depth(param_name, prefix)
        last_layers = [0, *accumulate(self.built_depths)]  # last layer of the stem and each stage
        return bisect_left(last_layers, layer), len(last_layers) + 1

    @abstractmethod
    def _stage_and_block(self, name: str) -> tuple[int, int] | None:
        """Return the stage and the block of a parameter, None for one that is behind the blocks.

        The stem is :data:`STEM`. A later patch embedding belongs to the block that follows it.
        """

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
        for block in blocks:
            if self.with_cp and torch.is_grad_enabled():
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        if norm is None:
            return x, None
        return x, norm(x).permute(0, 3, 1, 2).contiguous(memory_format=memory_format)


def memory_format_of(x: Tensor) -> torch.memory_format:
    """Return the memory format of images (B, C, H, W), in which a backbone returns its maps."""
    # For C = 1 the strides alone tell both formats apart. vmap does not support memory formats.
    is_last = (
        not in_functorch()
        and x.stride(1) == 1
        and x.is_contiguous(memory_format=torch.channels_last)
    )
    return torch.channels_last if is_last else torch.contiguous_format


def _adapt_before_loading(
    module: GFNetBackbone, state_dict: dict[str, Tensor], prefix: str, *_: Any
) -> None:
    """Adapt official keys and other grids to the module: a pre-hook of ``load_state_dict``."""
    last_norm = f"norm{module.num_outputs - 1}"
    adapt_state_dict(state_dict, prefix, module.grids, last_norm, module.filter_resize)
    adapt_stem(state_dict, prefix, module.in_channels, module.rgb_channels)


def resolve_arch(arch: str | dict, presets: dict[str, dict], required: Sequence[str]) -> dict:
    """Return the settings of ``arch``, which is the name of a preset or a dict of settings.

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
    for key in required:
        numbers = arch[key] if isinstance(arch[key], Sequence) else [arch[key]]
        if not numbers or not all(isinstance(n, int) and n > 0 for n in numbers):
            raise InputError(f"{key} of an arch are integers above 0, got {arch[key]}")
    return arch


def resolve_test_border(test_border: str | None, border: str, filter_resize: str) -> str:
    """Return the border of evaluation; None stands for that of training, ``border``.

    Raises:
        InputError: Unless ``test_border`` goes with ``filter_resize``.
    """
    if test_border is None:
        return border
    check_border(test_border, filter_resize, "test_border")
    return test_border


def check_out_indices(out_indices: Sequence[int], count: int) -> tuple[int, ...]:
    """Return ``out_indices`` as a tuple.

    Raises:
        InputError: Unless there are any, and they are distinct, ascending and within 0..count - 1.
    """
    indices = tuple(out_indices)
    if not indices or list(indices) != sorted(set(indices) & set(range(count))):
        raise InputError(
            f"out_indices are distinct, ascending and within 0..{count - 1}, got {indices}"
        )
    return indices


def check_channels(in_channels: int, rgb_channels: Sequence[int] | None) -> RGBChannels | None:
    """Return ``rgb_channels`` as a tuple, None if it is None.

    Raises:
        InputError: Unless ``in_channels`` is an integer above 0, and ``rgb_channels`` are three
            different ones of more than three bands.
    """
    if not isinstance(in_channels, int) or isinstance(in_channels, bool) or in_channels < 1:
        raise InputError(f"in_channels is an integer above 0, got {in_channels!r}")
    if rgb_channels is None:
        return None
    if in_channels < 4:
        # A stem of three channels does not tell whether it was adapted to another order.
        raise InputError(
            f"rgb_channels is for in_channels above 3, got {rgb_channels} with {in_channels}: the "
            "order of three channels is set by bgr_to_rgb of the data_preprocessor"
        )
    places = tuple(rgb_channels) if isinstance(rgb_channels, Sequence) else ()
    are_indices = all(type(place) is int and 0 <= place < in_channels for place in places)
    if not are_indices or not len(places) == len({*places}) == 3:
        raise InputError(
            f"rgb_channels are three different numbers within 0..{in_channels - 1}, got "
            f"{rgb_channels!r}"
        )
    red, green, blue = places
    return red, green, blue


def check_frozen_stages(frozen_stages: int, count: int) -> int:
    """Return ``frozen_stages``.

    Raises:
        InputError: Unless it is between -1 (none) and ``count``.
    """
    if not -1 <= frozen_stages <= count:
        raise InputError(f"frozen_stages is between -1 and {count}, got {frozen_stages}")
    return frozen_stages


def drop_path_rates(rate: float, depth: int) -> list[float]:
    """Return the drop path rate of each block, growing linearly from 0 to ``rate``.

    Raises:
        InputError: Unless ``rate`` is at least 0 and below 1.
    """
    if not 0 <= rate < 1:
        raise InputError(f"drop_path_rate is at least 0 and below 1, got {rate}")
    return [rate * i / max(depth - 1, 1) for i in range(depth)]
