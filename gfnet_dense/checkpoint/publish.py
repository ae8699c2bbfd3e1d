"""Publishing a checkpoint: its weights, config and classes, without the training state."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gfnet_dense.utils.atomic_write import atomic_replace
from gfnet_dense.utils.errors import InputError

from .safe_reader import read_checkpoint

SUFFIXES = (".pth", ".safetensors")  # accepted for files to write
# Keys of mmengine's ``meta`` that are published.
KEPT_META = ("cfg", "dataset_meta", "epoch", "iter", "mmengine_version")


def publish(source: Path, target: Path) -> Path:
    """Write the weights of a training checkpoint, without the state of the optimizer.

    Args:
        source: Checkpoint that ``tools/train.py`` saved.
        target: ``name.pth`` or ``name.safetensors``.

    Returns:
        Path of the file, ``name-DIGEST`` and the suffix, where DIGEST is the first 8 digits of its
        SHA-256, as in OpenMMLab's model zoos.

    Raises:
        InputError: If the source is no checkpoint of a training, or for another suffix.
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
    meta: dict[str, Any],
    target: Path,
    key: str = "state_dict",
    with_hash: bool = False,
) -> Path:
    """Write weights to a file, completely or not at all.

    Args:
        state_dict: Weights.
        meta: Values that JSON can express. A .safetensors file stores them in its metadata, as one
            JSON text.
        target: ``*.pth`` or ``*.safetensors``; the folder is created.
        key: Key of the weights in the dict of a .pth file; a .safetensors file stores the key in
            its metadata.
        with_hash: Whether to append the first 8 digits of the file's SHA-256 to its name.

    Returns:
        Path of the file.
    """
    # torch.save would write the whole storage of a view, and safetensors refuses shared memory.
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


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def check_suffix(path: Path) -> None:
    """Raise InputError unless ``path`` has the suffix of a format that :func:`save` writes."""
    if path.suffix not in SUFFIXES:
        raise InputError(f"a checkpoint is written as {' or '.join(SUFFIXES)}, got {path}")
