"""State dicts of HorNets: their arch, their grids, and adapting them to the model that loads them.

Stages 1 and 2 have no global filters, whatever the arch.
"""

import re
from collections.abc import Iterator, Sequence

from torch import Tensor

from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.types import Size

from .arch import Arch, shape_of_blocks
from .filter_resize import resize_filter
from .precision import widen

FILTER_STAGES = (2, 3)  # indices of the stages with global filters, in the archs that have them
FILTER = re.compile(r"stages\.(\d+)\.\d+\.gnconv\.dwconv\.complex_weight")


def describe_hornet(state_dict: dict[str, Tensor]) -> Arch | None:
    """Return the arch of a HorNet, read from its state dict; None if it is not one of a HorNet."""
    if not any(".gnconv." in name for name in state_dict):
        return None
    shape = shape_of_blocks(state_dict, re.compile(r"stages\.(\d+)\.(\d+)\.(.+)"))
    kind = "HorNet-GF" if any(map(FILTER.fullmatch, state_dict)) else "HorNet-7x7"
    return shape and Arch(kind, *shape)


def adapt_hornet(
    state_dict: dict[str, Tensor], prefix: str, grids: Sequence[Size], filter_resize: str
) -> None:
    """Adapt the weights of a HorNet, official or our own, to a model, in place.

    The classification head is removed. The norm of the pooled map in front of it stays, under a
    name that the model does not have, since it is none of the norms of the outputs. Filters are
    resized to the grids of the model.

    Args:
        state_dict: Weights; only keys that begin with ``prefix`` are touched.
        prefix: Prefix of the model's keys, such as ``'backbone.'``.
        grids: Map size (h, w) of each stage of the model.
        filter_resize: Mode of :func:`.filter_resize.resize_filter`.

    Raises:
        InputError: For a filter of another form.
    """
    for name in ("head.weight", "head.bias"):
        state_dict.pop(prefix + name, None)
    for key, stage, weight in list(_filters(state_dict, prefix)):
        if stage < len(grids):
            h, w = grids[stage]
            if weight.shape[1:3] != (h, w // 2 + 1):
                source = stored_size(weight, key)
                weight = widen(weight).permute(1, 2, 0, 3)
                resized = resize_filter(weight, source, (h, w), filter_resize)
                state_dict[key] = resized.permute(2, 0, 1, 3)


def hornet_grids(img_size: Size, num_stages: int) -> list[Size]:
    """Return the map size (h, w) of each stage for an image of ``img_size`` (H, W)."""
    h, w = img_size
    return [(h // (4 * 2**i), w // (4 * 2**i)) for i in range(num_stages)]


def stored_img_size(state_dict: dict[str, Tensor]) -> Size | None:
    """Return the image size (H, W) for which a HorNet's filters are stored.

    Returns:
        The size, a multiple of the stride of the first stage with filters; None without filters.
    """
    for name, stage, weight in _filters(state_dict, ""):
        h, w = stored_size(weight, name)
        return h * 4 * 2**stage, w * 4 * 2**stage
    return None


def stored_size(weight: Tensor, name: str) -> Size:
    """Return the map size (h, w) of a stored filter (dim, h, w // 2 + 1, 2).

    The half spectrum does not tell an even from an odd w. The released filters are square, so that
    a w equal to h is taken; where none is, the even one.

    Raises:
        InputError: If the filter is of another form.
    """
    if weight.ndim != 4 or weight.shape[3] != 2 or not weight.numel():
        raise InputError(
            f"the filter {name} has the shape {tuple(weight.shape)}, not (dim, h, w // 2 + 1, 2)"
        )
    h, half = weight.shape[1:3]
    return h, h if h // 2 + 1 == half else max(2 * (half - 1), 1)


def _filters(state_dict: dict[str, Tensor], prefix: str) -> Iterator[tuple[str, int, Tensor]]:
    """Yield name, index of the stage, and weight of each global filter."""
    for key, weight in state_dict.items():
        if key.startswith(prefix) and (match := FILTER.fullmatch(key[len(prefix) :])):
            yield key, int(match[1]), weight
