"""Converting the weights of a backbone between the official format and ours."""

import re
from pathlib import Path

from mmengine.logging import print_log
from torch import Tensor

from gfnet_dense.models.utils.arch import Arch
from gfnet_dense.models.utils.families import FIRST_NAMES, describe_arch
from gfnet_dense.models.utils.filter_resize import check_resize_mode
from gfnet_dense.models.utils.hornet_state_dict import adapt_hornet, hornet_grids
from gfnet_dense.models.utils.state_dict import adapt_state_dict, stage_grids, stored_grid
from gfnet_dense.models.utils.stem import stem_channels
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.types import Size

from .contents import find_weights
from .publish import check_suffix, save
from .safe_reader import read_checkpoint


def convert(
    source: Path, target: Path, to: str, img_size: int | Size | None, filter_resize: str
) -> Path:
    """Write the backbone of a checkpoint in the official format or in ours, resized if wanted.

    Args:
        source: An official checkpoint, or one of ours.
        target: File to write, ``*.pth`` or ``*.safetensors``.
        to: ``official`` for ``{'model': ...}`` with the names of the official release: one final
            norm (GFNets), and the classification head if the source has it. ``ours`` for a state
            dict of :class:`.GFNet`, :class:`.IsotropicGFNet` or :class:`.HorNet`.
        img_size: Image size, int or (H, W), to which filters and position embedding are resized;
            None to keep their size.
        filter_resize: Mode of :func:`.resize_filter`.

    Returns:
        ``target``.

    Raises:
        InputError: For an argument that is not accepted, or a source that is no such backbone or
            lacks weights that the format needs.
    """
    check_suffix(target)
    check_resize_mode(filter_resize)
    weights = find_weights(read_checkpoint(source), source, FIRST_NAMES)
    state_dict = weights.state_dict
    arch = describe_arch(state_dict)
    if arch is None:
        raise InputError(f"{source} holds no GFNet or HorNet")
    to_official = to == "official"
    if arch.kind == "GFNet":
        state_dict = _adapt_gfnet(state_dict, arch, to_official, img_size, filter_resize, source)
    else:
        state_dict = _adapt_hornet(state_dict, arch, to_official, img_size, filter_resize)
    notes = list(weights.notes)
    if (channels := stem_channels(state_dict)) not in (None, 3):
        notes.append(f"the stem stays for images of {channels} bands, official models have 3")
    if arch.kind == "HorNet-7x7" and img_size is not None:
        notes.append("a HorNet without global filters has nothing to resize: its weights stay")
    if notes:
        print_log("; ".join([source.name, *notes]), logger="current")
    return save(state_dict, {}, target, key="model" if to_official else "state_dict")


def _adapt_gfnet(
    state_dict: dict[str, Tensor],
    arch: Arch,
    to_official: bool,
    img_size: int | Size | None,
    filter_resize: str,
    source: Path,
) -> dict[str, Tensor]:
    """Return the weights of a GFNet in the form and for the image size wanted."""
    grid = stored_grid(state_dict)
    if grid is None:
        raise InputError(f"{source} holds no filters of the first block of a GFNet")
    isotropic = "patch_embed.proj.weight" in state_dict
    strides = [16] if isotropic else [4 * 2**i for i in range(len(arch.depths))]
    if img_size is None:
        img_size = (strides[0] * grid[0], strides[0] * grid[1])
    last_norm = f"norm{(arch.depths[0] if isotropic else len(arch.depths)) - 1}"
    head = {k: v for k, v in state_dict.items() if k.startswith("head.")}
    adapt_state_dict(state_dict, "", stage_grids(img_size, strides), last_norm, filter_resize)
    return _as_official(state_dict, last_norm, source) | head if to_official else state_dict


def _adapt_hornet(
    state_dict: dict[str, Tensor],
    arch: Arch,
    to_official: bool,
    img_size: int | Size | None,
    filter_resize: str,
) -> dict[str, Tensor]:
    """Return the weights of a HorNet in the form and for the image size wanted.

    The release gives a backbone the same names as we do; a classifier has a norm and a head more.
    """
    classifier = {k: v for k, v in state_dict.items() if k.startswith(("norm.", "head."))}
    if img_size is not None:
        (size,) = stage_grids(img_size, [1])
        adapt_hornet(state_dict, "", hornet_grids(size, len(arch.depths)), filter_resize)
    kept = {k: v for k, v in state_dict.items() if k not in classifier}
    return kept | classifier if to_official else kept


def _as_official(state_dict: dict[str, Tensor], last_norm: str, source: Path) -> dict[str, Tensor]:
    """Rename the last norm to the official ``norm`` and leave out the other output norms."""
    official = {}
    for name, tensor in state_dict.items():
        module, _, parameter = name.rpartition(".")
        if module == last_norm:
            official[f"norm.{parameter}"] = tensor
        elif not re.fullmatch(r"norm\d+", module):
            official[name] = tensor
    if "norm.weight" not in official:
        raise InputError(f"{source} has no norm behind the last stage, which the official form has")
    return official
