"""Sharing the checkpoint of a training: its config and its accuracy are read from its files."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import HistoryBuffer, print_log
from mmengine.model import BaseModel

from gfnet_dense.apis.loading import load_model
from gfnet_dense.checkpoint.download import fetch
from gfnet_dense.checkpoint.safe_reader import read_checkpoint
from gfnet_dense.utils.config_text import parse
from gfnet_dense.utils.errors import InputError
from gfnet_dense.visualization.curves import METRICS
from gfnet_dense.visualization.log_curves import read_log

from .config_json import portable
from .folder import load_without_data, save_pretrained
from .hub import check_id, client_module, upload
from .safe_config import check_config


def publish_folder(
    source: str | Path,
    folder: Path,
    config: str | None = None,
    image: Path | None = None,
    license: str | None = None,
    repo_id: str | None = None,
) -> Iterator[str]:
    """Write the folder of :func:`.folder.save_pretrained` for a checkpoint, and upload it.

    Args:
        source: Path or address of a checkpoint that ``tools/train.py`` saved.
        folder: See :func:`.folder.save_pretrained`, as ``image`` and ``license``.
        config: Path or name of its config; None for the text of it in the checkpoint, which is read
            as data.
        image: See there.
        license: See there.
        repo_id: ``USER/NAME`` on the Hugging Face hub; None for no upload.

    Yields:
        The places that are written: the folder, and the address of the page on the hub.

    Raises:
        InputError: If there is no config, if it is not of the checkpoint, and as
            :func:`.folder.save_pretrained` and :func:`.folder.push_to_hub`.
    """
    if repo_id is not None:
        check_id(repo_id)  # both before anything is fetched and run
        client_module()
    checkpoint = fetch(source)
    content = read_checkpoint(checkpoint)
    if config is not None:
        model = load_model(config, checkpoint)
    else:
        model = _by_stored_config(content.get("meta", {}), checkpoint)
    metrics = validation_of(content, checkpoint)
    if not metrics:
        print_log(
            f"neither {checkpoint.name} nor logs beside it tell the accuracy of these weights: the "
            "model card has none",
            logger="current",
        )
    written = save_pretrained(
        model, folder, image=image, license=license, metrics=metrics, name=repo_id
    )
    yield str(written)
    if repo_id is not None:
        yield upload(written, repo_id)


def _by_stored_config(meta: dict[str, Any], checkpoint: Path) -> BaseModel:
    """Return the model of a checkpoint by the text of its config, which is checked before."""
    source = f"the config in {checkpoint}"
    if not isinstance(meta.get("cfg"), str):
        raise InputError(f"{checkpoint} holds no config: give it as --config")
    try:
        config = parse(meta["cfg"], source)
    except InputError as e:
        raise InputError(f"{e}: give the config as --config") from None
    try:
        cfg = Config(config)
    except (KeyError, TypeError) as e:  # a name that mmengine reserves
        raise InputError(f"{source} is no config of mmengine ({e})") from None
    shared, _ = portable(cfg)
    check_config(shared, source)
    model = load_without_data(Config(shared), checkpoint)
    if not model.dataset_meta["classes"]:
        raise InputError(
            f"{checkpoint} names no classes, and the data of its own config are never read: give "
            "its config as --config"
        )
    model.cfg = cfg  # for the notes of what is left out
    return model


def validation_of(content: dict[str, Any], checkpoint: Path) -> dict[str, float]:
    """Return the accuracy of the weights in a checkpoint in percent, empty if it is not known.

    mmengine saves a checkpoint before the validation of the same iteration: the numbers in the file
    are of earlier weights, unless it is the best one so far, which is saved after its validation.
    For the others, the logs beside the file tell the validation of their iteration.

    Args:
        content: Content of the checkpoint.
        checkpoint: Its path, ``WORK_DIR/iter_160000.pth``.
    """
    meta, hub = content.get("meta", {}), content.get("message_hub", {})
    info, scalars = hub.get("runtime_info", {}), hub.get("log_scalars", {})
    best = re.search(r"_(iter|epoch)_(\d+)\.pth$", str(info.get("best_ckpt", "")))
    if best and meta.get(best[1]) == int(best[2]):
        return {
            label: round(float(scalars[name].current()) * factor, 4)
            for name, (label, factor) in METRICS.items()
            if isinstance(scalars.get(name), HistoryBuffer)
        }
    try:
        curves = read_log(checkpoint.resolve().parent).metrics
    except InputError:
        return {}
    step = meta.get("iter")
    return {label: round(curve[step], 4) for label, curve in curves.items() if step in curve}
