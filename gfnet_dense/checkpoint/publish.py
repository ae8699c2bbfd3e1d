"""Publishing a checkpoint: weights, config and classes without the state of the training."""

import hashlib
import json
import os
from pathlib import Path

import torch
from torch import Tensor

from gfnet_dense.checkpoint.safe_reader import read_checkpoint
from gfnet_dense.utils.atomic_write import atomic_replace
from gfnet_dense.utils.errors import InputError

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
    check_suffix(target)
    content = read_checkpoint(source)
    if not isinstance(content.get("state_dict"), dict):
        raise InputError(f"{source} is no checkpoint of a training: it has no state_dict")
    meta = content.get("meta", {})
    meta = {key: meta[key] for key in KEPT_META if key in meta and _is_json(meta[key])}
    return save(content["state_dict"], meta, target, with_hash=True)


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
        atomic_replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    return target


def _is_json(value) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def check_suffix(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise InputError(f"a checkpoint is written as {' or '.join(SUFFIXES)}, got {path}")
