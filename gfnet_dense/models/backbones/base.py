"""Base class of all backbones: initialization, freezing, layer depths; checks of arguments."""

from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate
from numbers import Real
from typing import Any

import torch
from mmengine.model import BaseModule, initialize
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gfnet_dense.models.layers.base_filter import BaseFilter, check_border
from gfnet_dense.models.utils.arch import Arch
from gfnet_dense.models.utils.hooks import in_functorch
from gfnet_dense.models.utils.stem import RGBChannels, adapt_stem
from gfnet_dense.registry import WEIGHT_INITIALIZERS
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.types import Size

OPTIONAL = ("drop_path_rate", "layer_scale_init_value")  # keys of a dict in place of an arch
STEM = (0, -1)  # in the place of (stage, block), for the parameters before the first block


class FilterBackbone(BaseModule):
    """Base class of :class:`.GFNet`, :class:`.IsotropicGFNet` and :class:`.HorNet`.

    A subclass sets the attributes below, builds its modules under the names of the official
    release, and calls :meth:`_add_norms` and :meth:`_finish` at the end of its constructor.

    Attributes:
        arch_shape: The whole arch, with the stages that are not built.
        built_depths: Number of blocks of each stage that is built.
        out_indices: Indices of the outputs that ``forward`` returns.
        grids: Map size (h, w) of each stage for which filters are stored.
        frozen_stages: Number of frozen stages (isotropic: blocks); 0 freezes the stem alone, -1
            nothing.
        with_cp: Whether blocks are recomputed in the backward pass to save memory.
        filter_resize: Mode of :func:`.resize_filter`.
        border: Border of the filters in training, see :class:`.BaseFilter`.
        test_border: Border of the filters in evaluation.
        in_channels: Number of bands of the images.
        rgb_channels: Which of them are red, green and blue; None if that is not known.
    """

    arch_shape: Arch
    built_depths: tuple[int, ...]
    out_indices: tuple[int, ...]
    grids: list[Size]
    frozen_stages: int
    with_cp: bool
    filter_resize: str
    border: str
    test_border: str
    in_channels: int
    rgb_channels: RGBChannels | None

    def _set_filters(self, filter_resize: str, border: str, test_border: str | None) -> None:
        """Set the attributes of all filters.

        Raises:
            InputError: Unless ``test_border`` goes with ``filter_resize``.
        """
        self.filter_resize, self.border = filter_resize, border
        self.test_border = resolve_test_border(test_border, border, filter_resize)

    def _set_channels(self, in_channels: int, rgb_channels: Sequence[int] | None) -> None:
        """Set the bands of the images.

        Raises:
            InputError: See :func:`check_channels`.
        """
        self.in_channels = in_channels
        self.rgb_channels = check_channels(in_channels, rgb_channels)

    @property
    def filter_grid(self) -> Size:
        """Map size (h, w) for which the first filters of the backbone are stored."""
        return self.grids[0]

    def _add_norms(self, dims: Sequence[int], kind: type[nn.LayerNorm] = nn.LayerNorm) -> None:
        """Add a norm for each output that is returned.

        Norms of other outputs would get no gradient, which DistributedDataParallel refuses.
        """
        for i in self.out_indices:
            self.add_module(f"norm{i}", kind(dims[i], eps=1e-6))

    def _finish(self, *kinds: type[nn.Linear] | type[nn.Conv2d]) -> None:
        """Initialize as the official release does, freeze, and adapt weights when loaded.

        Args:
            *kinds: Types of the modules whose weights are drawn anew, with biases of 0.
        """
        for module in self.modules():
            if isinstance(module, kinds):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in self._frozen_modules():
            module.eval().requires_grad_(False)
        self.register_load_state_dict_pre_hook(_adapt_before_loading)

    @abstractmethod
    def _adapt(self, state_dict: dict[str, Tensor], prefix: str) -> None:
        """Adapt official names, and filters of another size, to the backbone, in place.

        Only the keys that begin with ``prefix`` are those of the backbone.
        """

    @abstractmethod
    def _embeddings_and_blocks(self) -> tuple[Any, Any]:
        """Return sequences: the stem and the modules in front of later stages, and what is frozen.

        The latter are the stages, or the blocks of an isotropic model.
        """

    def _frozen_modules(self) -> list[nn.Module]:
        """Return the modules that ``frozen_stages`` freezes, from the stem on."""
        if self.frozen_stages < 0:
            return []
        n = self.frozen_stages
        embeddings, blocks = self._embeddings_and_blocks()
        norms = [getattr(self, f"norm{i}") for i in self.out_indices if i < n]
        return [*embeddings[: max(n, 1)], *blocks[:n], *norms]

    def _run_blocks(self, blocks: Iterable[nn.Module], x: Tensor) -> Tensor:
        """Run blocks on a map (B, H, W, dim) one by one, recomputed in backward ``with_cp``."""
        for block in blocks:
            if self.with_cp and torch.is_grad_enabled():
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        return x

    def train(self, mode: bool = True) -> "FilterBackbone":
        """Set training or evaluation mode, and the border of this mode.

        Frozen stages always stay in evaluation mode. While the others train, their filters have the
        border of training.
        """
        super().train(mode)
        for module in self._frozen_modules():
            module.eval()
        for module in self.modules():
            if isinstance(module, BaseFilter):
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
    module: FilterBackbone, state_dict: dict[str, Tensor], prefix: str, *_: Any
) -> None:
    """Adapt weights to the module: a pre-hook of ``load_state_dict``."""
    module._adapt(state_dict, prefix)
    adapt_stem(state_dict, prefix, module.in_channels, module.rgb_channels)


def resolve_arch(
    arch: str | dict,
    presets: dict[str, dict],
    required: Sequence[str],
    optional: Sequence[str] = OPTIONAL,
) -> dict:
    """Return the settings of ``arch``, which is the name of a preset or a dict of settings.

    Raises:
        InputError: For an unknown name, or a dict with missing or unknown keys.
    """
    if isinstance(arch, str):
        if arch not in presets:
            raise InputError(f"arch is one of {', '.join(presets)}, or a dict, got {arch!r}")
        return presets[arch]
    if not set(required) <= set(arch) <= {*required, *optional}:
        raise InputError(
            f"an arch dict has {' and '.join(required)} and, optionally, {' and '.join(optional)}, "
            f"got {', '.join(arch) or 'nothing'}"
        )
    for key in required:
        is_list = isinstance(arch[key], Sequence)
        numbers = arch[key] if is_list else [arch[key]]
        right = is_list == (key in ("dims", "depths"))  # others are one number
        if not right or not numbers or not all(isinstance(n, int) and n > 0 for n in numbers):
            kind = "are integers" if key in ("dims", "depths") else "is an integer"
            raise InputError(f"{key} of an arch {kind} above 0, got {arch[key]}")
    if "dims" in required and len(arch["dims"]) != len(arch["depths"]):
        dims, depths = tuple(arch["dims"]), tuple(arch["depths"])
        raise InputError(f"an arch has as many dims as depths, got {dims}, {depths}")
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
    indices = tuple(out_indices) if isinstance(out_indices, Iterable) else ()
    if not indices or list(indices) != sorted(set(indices) & set(range(count))):
        raise InputError(
            f"out_indices are distinct, ascending and within 0..{count - 1}, got {out_indices}"
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
    if not isinstance(rate, Real) or not 0 <= rate < 1:
        raise InputError(f"drop_path_rate is at least 0 and below 1, got {rate}")
    return [rate * i / max(depth - 1, 1) for i in range(depth)]
