"""Converting the weights of a backbone between the official format and ours."""

import re
from pathlib import Path

from mmengine.logging import print_log
from torch import Tensor

from gfnet_dense.models.utils.filter_resize import check_resize_mode
from gfnet_dense.models.utils.state_dict import (
    adapt_state_dict,
    describe_arch,
    stage_grids,
    stored_grid,
)
from gfnet_dense.models.utils.stem import stem_channels
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.types import Size

from .contents import GFNET_NAMES, find_weights
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
            norm, and the classification head if the source has it. ``ours`` for a state dict of
            :class:`.GFNet` or :class:`.IsotropicGFNet`.
        img_size: Image size, int or (H, W), to which filters and position embedding are resized;
            None to keep their size.
        filter_resize: Mode of :func:`.resize_filter`.

    Returns:
        ``target``.

    Raises:
        InputError: For an argument that is not accepted, or a source that is no GFNet or lacks
            weights that the format needs.
    """
    check_suffix(target)
    check_resize_mode(filter_resize)
    weights = find_weights(read_checkpoint(source), source, GFNET_NAMES)
    state_dict = weights.state_dict
    arch, grid = describe_arch(state_dict), stored_grid(state_dict)
    if arch is None or grid is None:
        raise InputError(f"{source} holds no GFNet")
    _, depths = arch
    isotropic = "patch_embed.proj.weight" in state_dict
    strides = [16] if isotropic else [4 * 2**i for i in range(len(depths))]
    if img_size is None:
        img_size = (strides[0] * grid[0], strides[0] * grid[1])
    last_norm = f"norm{(depths[0] if isotropic else len(depths)) - 1}"
    head = {k: v for k, v in state_dict.items() if k.startswith("head.")}
    grids = stage_grids(img_size, strides)
    adapt_state_dict(state_dict, "", grids, last_norm, filter_resize)
    if to == "official":
        state_dict = _as_official(state_dict, last_norm, source) | head
    notes = list(weights.notes)
    if (channels := stem_channels(state_dict)) not in (None, 3):
        notes.append(f"the stem stays for images of {channels} bands, official models have 3")
    if notes:
        print_log("; ".join([source.name, *notes]), logger="current")
    return save(state_dict, {}, target, key="model" if to == "official" else "state_dict")


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
