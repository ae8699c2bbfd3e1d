"""Publishing a checkpoint: its weights, config and classes, without the training state."""

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from mmengine.logging import print_log
from torch import Tensor

from gfnet_dense.utils import config_text
from gfnet_dense.utils.atomic_write import atomic_write
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.private import without_private

from .contents import find_weights
from .safe_reader import read_checkpoint

SUFFIXES = (".pth", ".safetensors")  # accepted for files to write
# Keys of mmengine's ``meta`` that are published.
KEPT_META = ("cfg", "dataset_meta", "epoch", "iter", "mmengine_version")


def publish(source: Path, target: Path) -> Path:
    """Write the weights of a checkpoint, without the state of the optimizer, and log a report.

    Parts that wrappers have added to names are removed, and averaged weights are published if
    there are no others, see :func:`.contents.find_weights`. The config is written without what is
    private, see :func:`.private.without_private`; one that is no plain data is left out.

    Args:
        source: Checkpoint that ``tools/train.py`` or another trainer saved.
        target: ``name.pth`` or ``name.safetensors``.

    Returns:
        Path of the file, ``name-DIGEST`` and the suffix, where DIGEST is the first 8 digits of its
        SHA-256, as in OpenMMLab's model zoos.

    Raises:
        InputError: If the source holds no weights or several sets of them, or for another suffix.
    """
    check_suffix(target)
    weights = find_weights(read_checkpoint(source), source)
    meta = weights.meta
    meta = {key: meta[key] for key in KEPT_META if key in meta and _is_json(meta[key])}
    notes: list[str] = []
    if "cfg" in meta:
        public, notes = _public_config(meta.pop("cfg"))
        meta |= {"cfg": public} if public is not None else {}
    parts = ", ".join(dict.fromkeys(name.partition(".")[0] for name in weights.state_dict))
    report = f"{source.name}: {len(weights.state_dict)} tensors are published, of {parts}"
    print_log("; ".join([report, *weights.notes]), logger="current")
    for note in notes:
        print_log(f"config in the file: {note}", logger="current")
    return save(weights.state_dict, meta, target, with_hash=True)


def _public_config(text: Any) -> tuple[str | None, list[str]]:
    """Return the text of a config to publish, None if it has to be left out, and notes."""
    try:
        config = config_text.parse(text, "the config")
    except InputError:  # whose message has a part of the text
        return None, ["it is left out, since it is no plain data, and may hold what is private"]
    public, notes = without_private(config)
    return config_text.write(public), notes


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
    if target.suffix == ".safetensors":
        data = safetensors.torch.save(state_dict, {"key": key, "meta": json.dumps(meta)})
    else:
        buffer = io.BytesIO()
        torch.save({key: state_dict, "meta": meta} if meta else {key: state_dict}, buffer)
        data = buffer.getvalue()
    if with_hash:
        digest = hashlib.sha256(data).hexdigest()[:8]
        target = target.with_name(f"{target.stem}-{digest}{target.suffix}")
    with atomic_write(target) as part:
        part.write_bytes(data)
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
