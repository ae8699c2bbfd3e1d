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

    Filters are resized to the grids of the model. The head of a classifier stays, with the norm of
    the pooled map in front of it, which is none of the norms of the outputs: the model has neither.

    Args:
        state_dict: Weights; only keys that begin with ``prefix`` are touched.
        prefix: Prefix of the model's keys, such as ``'backbone.'``.
        grids: Map size (h, w) of each stage of the model.
        filter_resize: Mode of :func:`.filter_resize.resize_filter`.

    Raises:
        InputError: For a filter of another form.
    """
    sources = stored_sizes(state_dict, prefix)
    for key, stage, weight in list(_filters(state_dict, prefix)):
        if stage < len(grids):
            source, (h, w) = sources[stage], grids[stage]
            if source != (h, w):
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
    for stage, (h, w) in stored_sizes(state_dict).items():
        return h * 4 * 2**stage, w * 4 * 2**stage
    return None


def stored_sizes(state_dict: dict[str, Tensor], prefix: str = "") -> dict[int, Size]:
    """Return the map size (h, w) for which the filters of each stage are stored, by its index.

    See :func:`likely_sizes`.

    Raises:
        InputError: If a filter is of another form, or two of a stage are of different sizes.
    """
    shapes: dict[int, Size] = {}
    for name, stage, weight in _filters(state_dict, prefix):
        if weight.ndim != 4 or weight.shape[3] != 2 or not weight.numel():
            raise InputError(
                f"the filter {name} has the shape {tuple(weight.shape)}, not (dim, h, w // 2 + 1, "
                "2)"
            )
        shape = (weight.shape[1], weight.shape[2])
        if shapes.setdefault(stage, shape) != shape:
            raise InputError(f"the filter {name} is for other maps than those before it")
    return likely_sizes(shapes)


def likely_sizes(shapes: dict[int, Size]) -> dict[int, Size]:
    """Return the map sizes (h, w) of half spectra (h, w // 2 + 1), by the index of the stage.

    Each half spectrum fits two widths. It is half of the width of the stage before, if that fits;
    else the one equal to h, as in the released files; where none is, the even one.
    """
    sizes: dict[int, Size] = {}
    for stage, (h, half) in sorted(shapes.items()):
        before_h, before_w = sizes.get(stage - 1, (0, 0))
        choices = [before_w // 2] if before_h // 2 == h else []
        choices += [h, max(2 * (half - 1), 1)]
        sizes[stage] = h, next(w for w in choices if w // 2 + 1 == half)
    return sizes


def _filters(state_dict: dict[str, Tensor], prefix: str) -> Iterator[tuple[str, int, Tensor]]:
    """Yield name, index of the stage, and weight of each global filter."""
    for key, weight in state_dict.items():
        if key.startswith(prefix) and (match := FILTER.fullmatch(key[len(prefix) :])):
            yield key, int(match[1]), weight
