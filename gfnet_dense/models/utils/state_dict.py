"""State dicts of GFNets: their arch, their grid, and adapting them to the model that loads them."""

import re
from collections.abc import Sequence
from numbers import Integral

from torch import Tensor

from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.types import Size

from .arch import Arch, shape_of_blocks
from .filter_resize import resize_filter, resize_position_embedding
from .precision import widen


def describe_gfnet(state_dict: dict[str, Tensor]) -> Arch | None:
    """Return the arch of a GFNet, read from its state dict; None if it is not one of a GFNet."""
    if not any(name.endswith(".filter.complex_weight") for name in state_dict):
        return None
    shape = shape_of_blocks(state_dict, re.compile(r"blocks\.(?:(\d+)\.)?(\d+)\.(.+)"))
    return shape and Arch("GFNet", *shape)


def stage_grids(img_size: int | Size, strides: Sequence[int]) -> list[Size]:
    """Return the map sizes (h, w) at ``strides`` for an image of ``img_size``, an int or (H, W).

    Raises:
        InputError: If ``img_size`` is neither form, or a side is shorter than 32 pixels.
    """
    sides = img_size if isinstance(img_size, Sequence) else (img_size, img_size)
    if len(sides) != 2 or not all(isinstance(side, Integral) for side in sides):
        raise InputError(f"img_size is an integer or (H, W), got {img_size}")
    h, w = map(int, sides)
    if min(h, w) < 32:
        raise InputError(f"img_size is 32 pixels or more on both sides, got {img_size}")
    return [(-(-h // stride), -(-w // stride)) for stride in strides]


def adapt_state_dict(
    state_dict: dict[str, Tensor],
    prefix: str,
    grids: Sequence[Size],
    last_norm: str,
    filter_resize: str,
) -> None:
    """Adapt the weights of a GFNet, official or our own, to a model, in place.

    The classification head is removed, the final ``norm`` of the official release is renamed to
    ``last_norm``, and filters and position embedding are resized to the grids of the model.
    Weights that fit the model already do not change.

    Args:
        state_dict: Weights; only keys that begin with ``prefix`` are touched.
        prefix: Prefix of the model's keys, such as ``'backbone.'``.
        grids: Map size (h, w) of each stage of the model.
        last_norm: Name of the norm of the arch's last output, whether the model has it or not.
        filter_resize: Mode of :func:`.filter_resize.resize_filter`.

    Raises:
        InputError: If the filters and the position embedding contradict each other.
    """
    for name in ("weight", "bias"):
        state_dict.pop(f"{prefix}head.{name}", None)
        norm = state_dict.pop(f"{prefix}norm.{name}", None)
        if norm is not None:
            state_dict[f"{prefix}{last_norm}.{name}"] = norm

    source = stored_grid(state_dict, prefix)
    if source is None:
        return
    key = prefix + "pos_embed"
    state_dict[key] = resize_position_embedding(widen(state_dict[key]), source, grids[0])
    pattern = re.compile(re.escape(prefix) + r"blocks\.(?:(\d+)\.)?\d+\.filter\.complex_weight")
    for key, weight in state_dict.items():
        match = pattern.fullmatch(key)
        stage = int(match[1] or 0) if match else len(grids)
        if stage < len(grids):
            size = (-(-source[0] // 2**stage), -(-source[1] // 2**stage))
            if weight.ndim != 4 or weight.shape[:2] != (size[0], size[1] // 2 + 1):
                raise InputError(
                    f"the filter {key} has the shape {tuple(weight.shape)}, which does not fit "
                    f"maps of {size[0]}x{size[1]}, as the position embedding has them"
                )
            state_dict[key] = resize_filter(widen(weight), size, grids[stage], filter_resize)


def stored_grid(state_dict: dict[str, Tensor], prefix: str = "") -> Size | None:
    """Return the grid (h, w) for which the filters of the first stage are stored.

    The half spectrum does not tell an even from an odd w. The position embedding does: it has
    h * w entries.

    Returns:
        The grid, or None if the state dict holds no filters of a first block.

    Raises:
        InputError: If the filter is malformed, or does not fit the position embedding.
    """
    pos_embed = state_dict.get(prefix + "pos_embed")
    for name in ("blocks.0.0.filter.complex_weight", "blocks.0.filter.complex_weight"):
        weight = state_dict.get(prefix + name)
        if weight is None:
            continue
        if weight.ndim != 4 or weight.shape[3] != 2 or not weight.numel():
            raise InputError(
                f"the filter {prefix}{name} has the shape {tuple(weight.shape)}, not "
                "(h, w // 2 + 1, dim, 2)"
            )
        h, half = weight.shape[:2]
        entries = pos_embed.shape[1] if pos_embed is not None and pos_embed.ndim == 3 else 0
        if entries % h or entries // h // 2 + 1 != half:
            raise InputError(
                f"the position embedding {prefix}pos_embed has {entries} entries, which does not "
                f"fit the filters of {h} rows and {half} half-spectrum columns"
            )
        return h, entries // h
    return None
