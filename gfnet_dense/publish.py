"""Checkpoints for others: weights alone, under a name that tells them apart; between formats."""

import hashlib
import json
import os
import re
from pathlib import Path

import torch
from torch import Tensor

from .checkpoints import describe_arch, read_checkpoint, unwrap
from .errors import InputError
from .files import replace
from .models.base import stage_grids
from .models.loading import adapt_state_dict, stored_grid
from .models.resample import Size, check_resize_mode

SUFFIXES = (".pth", ".safetensors")
KEPT_META = ("cfg", "dataset_meta", "epoch", "iter", "mmengine_version")


def publish(source: Path, target: Path) -> Path:
    """Write the weights of a training checkpoint, without the state of the optimizer.

    Args:
        source: What ``tools/train.py`` saved.
        target: ``name.pth`` or ``name.safetensors``.

    Returns:
        The file: ``name-`` and the first 8 digits of its SHA-256 before the suffix, as OpenMMLab
        names them.

    Raises:
        InputError: If the source is no checkpoint of a model, or for another suffix.
    """
    _check_suffix(target)
    content = read_checkpoint(source)
    if not isinstance(content.get("state_dict"), dict):
        raise InputError(f"{source} is no checkpoint of a training: it has no state_dict")
    meta = content.get("meta", {})
    meta = {key: meta[key] for key in KEPT_META if key in meta and _is_json(meta[key])}
    return save(content["state_dict"], meta, target, with_hash=True)


def convert(
    source: Path, target: Path, to: str, img_size: int | Size | None, filter_resize: str
) -> Path:
    """Write the backbone of a file in the official form or in ours, for another image size.

    Args:
        source: An official file, or a checkpoint of ours.
        target: ``*.pth`` or ``*.safetensors``.
        to: ``official``: the authors' names, one final norm, in ``{'model': ...}``; their
            classifier stays if the source has one. ``ours``: a state dict of :class:`.GFNet` or
            :class:`.IsotropicGFNet`.
        img_size: For which filters and position embedding are resized; None: as they are.
        filter_resize: See :func:`.resample.resize_filter`.

    Returns:
        ``target``.

    Raises:
        InputError: If the source holds no GFNet, or lacks what the form needs.
    """
    _check_suffix(target)
    check_resize_mode(filter_resize)
    state_dict = unwrap(read_checkpoint(source))
    arch, grid = describe_arch(state_dict), stored_grid(state_dict)
    if arch is None or grid is None:
        raise InputError(f"{source} holds no GFNet")
    _, depths = arch
    isotropic = "patch_embed.proj.weight" in state_dict
    strides = [16] if isotropic else [4 * 2**i for i in range(len(depths))]
    if img_size is None:
        img_size = tuple(strides[0] * n for n in grid)
    last_norm = f"norm{(depths[0] if isotropic else len(depths)) - 1}"
    head = {k: v for k, v in state_dict.items() if k.startswith("head.")}
    grids = stage_grids(img_size, strides)
    adapt_state_dict(state_dict, "", grids, last_norm, filter_resize)
    if to == "official":
        state_dict = _as_official(state_dict, last_norm, source) | head
    return save(state_dict, {}, target, key="model" if to == "official" else "state_dict")


def _as_official(state_dict: dict[str, Tensor], last_norm: str, source: Path) -> dict[str, Tensor]:
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


def save(
    state_dict: dict[str, Tensor],
    meta: dict,
    target: Path,
    key: str = "state_dict",
    with_hash: bool = False,
) -> Path:
    """Write weights, whole or not at all.

    Args:
        state_dict: The weights.
        meta: JSON-able values, which a .safetensors file holds as one JSON text.
        target: ``*.pth`` or ``*.safetensors``.
        key: Under which the weights are in a .pth file.
        with_hash: Put the beginning of the file's SHA-256 into the name.

    Returns:
        The file.
    """
    # Of a slice torch.save would write the whole; safetensors refuses shared memory.
    state_dict = {k: v.detach().cpu().clone().contiguous() for k, v in state_dict.items()}
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        if target.suffix == ".safetensors":
            from safetensors.torch import save_file

            save_file(state_dict, part, metadata={"key": key, "meta": json.dumps(meta)})
        else:
            torch.save({key: state_dict, "meta": meta} if meta else {key: state_dict}, part)
        if with_hash:
            digest = hashlib.sha256()
            with part.open("rb") as file:
                while block := file.read(2**20):
                    digest.update(block)
            target = target.with_name(f"{target.stem}-{digest.hexdigest()[:8]}{target.suffix}")
        replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    return target


def _is_json(value) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def _check_suffix(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise InputError(f"a checkpoint is written as {' or '.join(SUFFIXES)}, got {path}")
