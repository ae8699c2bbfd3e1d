"""Folders with a trained model: its weights, its config as data, a model card and a picture."""

import copy
import fcntl
import json
import math
import os
import re
import secrets
import shutil
import tempfile
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from numbers import Real
from pathlib import Path
from typing import Any

import mmengine
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from mmengine.model import BaseModel
from safetensors import SafetensorError, safe_open

import gfnet_dense
from gfnet_dense.apis.loading import check_device, load_model, random_palette
from gfnet_dense.checkpoint.publish import save
from gfnet_dense.utils.atomic_write import atomic_write
from gfnet_dense.utils.config import LIBRARY
from gfnet_dense.utils.config import SHARED_CONFIG as CONFIG
from gfnet_dense.utils.config import SHARED_WEIGHTS as WEIGHTS
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.images import write_image

from .card import PICTURE, describe, text
from .config_json import decode, encode, portable
from .hub import check_id, client_module, download, upload
from .safe_config import check_config

CARD = "README.md"
FILES = (CONFIG, CARD, PICTURE, WEIGHTS)  # in the order in which they are put into a folder
OF_THE_HUB = (".cache", ".gitattributes")  # that `hf download --local-dir` adds
PART = f".{LIBRARY}-part-"  # start of the names of folders that are being written
# Kinds of characters (Unicode) that end lines, drive terminals, or cannot be written
CONTROLS = ("Cc", "Cs", "Zl", "Zp")


def save_pretrained(
    model: BaseModel,
    folder: str | Path,
    *,
    image: str | Path | None = None,
    license: str | None = None,
    metrics: Mapping[str, float] | None = None,
    name: str | None = None,
) -> Path:
    """Write a folder from which :func:`from_pretrained` makes the same model, also elsewhere.

    It holds the weights (``model.safetensors``), the whole config as data (``config.json``) and a
    model card (``README.md``), for which some predictions are timed here, in evaluation mode.
    Settings of one run, addresses of the weights that the training started from, and absolute paths
    are left out of the config; the card and the log say so. A new folder is written completely or
    not at all. An existing one gets the complete files one by one, the weights last. Savings into
    the same one wait for each other.

    Args:
        model: A segmentor or detector of :func:`gfnet_dense.load_model`, with its ``cfg`` and
            ``dataset_meta``, in float32, on any device and in any mode. It stays as it is.
        folder: New or empty, or one that this function wrote, which is replaced.
        image: An image file; a picture of its prediction is added (``prediction.jpg``).
        license: Identifier of the license as the Hugging Face hub knows it, such as ``apache-2.0``.
        metrics: Accuracy of the model by name, such as ``{"mIoU": 49.2}``, for the card.
        name: Argument of ``from_pretrained`` in the card: the id on the hub, ``USER/NAME``, or a
            folder; by default the name of this one.

    Returns:
        Path of the folder.

    Raises:
        InputError: If the model has no config and classes, or is not in float32, if its config
            needs code of one's own, if the folder cannot be made or holds anything else, or if the
            image cannot be read. All this is told before anything is predicted.
    """
    folder = Path(folder).expanduser().absolute()
    if name is not None and "/" in name:
        check_id(name)
    target = Path(os.path.realpath(folder))
    with _lock(target) as is_there:
        # Within an existing folder, which may be on another disk than its parent.
        part = (target if is_there else target.parent) / f"{PART}{secrets.token_hex(8)}"
        _check_target(target)
        try:
            _write(part, model, image, license, metrics, name or folder.name)
            _put(part, target)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return folder


def _write(
    part: Path,
    model: BaseModel,
    image: str | Path | None,
    license: str | None,
    metrics: Mapping[str, float] | None,
    name: str,
) -> None:
    """Write the files of :func:`save_pretrained` into a new folder, after all checks."""
    meta = dataset_meta_of(getattr(model, "dataset_meta", None), "the model's dataset_meta")
    meta = _with_palette(meta)
    cfg = getattr(model, "cfg", None)
    if not isinstance(cfg, Config):
        raise InputError("the model has no config: take a model of gfnet_dense.load_model")
    _check_dtype(model)
    metrics = _check_facts(image, license, {} if metrics is None else metrics)
    config, notes = portable(cfg)
    check_config(config, "the config of the model")
    content = dict(library_name=LIBRARY, version=gfnet_dense.__version__, config=config)
    config_text = encode(content)
    for note in notes:
        print_log(f"{CONFIG}: {note}", logger="current")
    # Copies: whatever runs below cannot change them.
    weights = {key: value.detach().cpu().clone() for key, value in model.state_dict().items()}
    with _evaluation(model):
        facts, picture = describe(model, meta, name, image, license, metrics, tuple(notes))
    stored = dict(dataset_meta=meta, mmengine_version=mmengine.__version__)
    save(weights, stored, part / WEIGHTS)
    for file, written in ((CONFIG, config_text), (CARD, text(facts))):
        with atomic_write(part / file) as temporary:
            temporary.write_text(written, encoding="utf-8")
    if picture is not None:
        write_image(picture, part / PICTURE)


def from_pretrained(
    folder_or_id: str | Path, device: str = "cpu", revision: str | None = None
) -> BaseModel:
    """Load a model from a folder of :func:`save_pretrained`, or from the Hugging Face hub.

    Nothing of the folder is executed: weights are read from a safetensors file, and a config that
    names anything but types that the libraries have registered is refused before anything of it is
    built. Its data sets are not built: the classes and their colors are stored with the weights.

    Args:
        folder_or_id: A folder; if there is none of this name, an id on the hub, such as
            ``USER/NAME``. Files of the hub are kept in its cache and not downloaded again.
        device: Name of a PyTorch device.
        revision: Branch, tag or commit on the hub; None for its main branch.

    Returns:
        The model, as :func:`gfnet_dense.load_model` returns it.

    Raises:
        InputError: If there is no such folder, id or device, if the hub cannot be reached, or if a
            file is missing, damaged or refused.
    """
    check_device(device)
    folder = Path(folder_or_id).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise InputError(f"{folder_or_id} is a folder here, which has no revisions")
    else:
        folder = download(str(folder_or_id), revision, FILES)
    cfg = shared_config(folder, folder_or_id)
    meta = dataset_meta_of(_stored_meta(folder / WEIGHTS), folder / WEIGHTS)
    count, colors = len(meta["classes"]), len(meta.get("palette") or [])
    if count != colors:
        raise InputError(
            f"{folder / WEIGHTS} has {count} classes and {colors} colors: a shared model has a "
            "color for each class"
        )
    model = load_without_data(cfg, folder / WEIGHTS, device)
    model.dataset_meta = {**meta, "palette": [tuple(color) for color in meta["palette"]]}
    return model


def load_without_data(cfg: Config, weights: Path, device: str = "cpu") -> BaseModel:
    """Load a model without building the data sets of its config, which may read and unpickle.

    Args:
        cfg: A config that :func:`.safe_config.check_config` accepted.
        weights: File of the weights.
        device: Name of a PyTorch device.

    Returns:
        The model, as :func:`gfnet_dense.load_model` returns it, with the classes and colors in the
        file: no classes if it names none, random colors if it has none.

    Raises:
        InputError: As :func:`gfnet_dense.load_model`.
    """
    harmless = copy.deepcopy(cfg)
    harmless.test_dataloader.dataset = dict(type=BaseDataset, metainfo=dict(classes=[]))
    model = load_model(harmless, weights, device)
    model.cfg = cfg
    return model


def shared_config(folder: Path, name: str | Path | None = None) -> Config:
    """Return the config of a shared model, which names registered types alone.

    Args:
        folder: The folder.
        name: How the user has given it, for messages; by default its path.

    Raises:
        InputError: If it or the weights are missing, if it cannot be read, is another file, or is
            refused.
    """
    for file in (CONFIG, WEIGHTS):
        if not (folder / file).is_file():
            raise InputError(
                f"{name or folder} holds no {file}: give a folder that save_pretrained or "
                "tools/publish_checkpoint.py wrote"
            )
    content = _read_config(folder / CONFIG)
    if content is None:
        raise InputError(f"{folder / CONFIG} is no config of {LIBRARY}")
    check_config(content, folder / CONFIG)
    return Config(content)


def push_to_hub(
    model: BaseModel,
    repo_id: str,
    *,
    image: str | Path | None = None,
    license: str | None = None,
    metrics: Mapping[str, float] | None = None,
    private: bool = False,
) -> str:
    """Upload a model to the Hugging Face hub, as the folder of :func:`save_pretrained`.

    The token is the one of ``hf auth login`` or of ``HF_TOKEN``. Files of the same names that the
    repository has are replaced by a new commit.

    Args:
        model: See :func:`save_pretrained`, as ``image``, ``license`` and ``metrics``.
        repo_id: ``USER/NAME``; it is created if the hub has none.
        image: See there.
        license: See there.
        metrics: See there.
        private: Whether a new repository can be seen by its owner alone.

    Returns:
        Address of the page on the hub.

    Raises:
        InputError: If it is no id, if ``huggingface_hub`` is not installed, if the hub cannot be
            reached or refuses the upload, and as :func:`save_pretrained`.
    """
    check_id(repo_id)  # both before the model is run
    client_module()
    with tempfile.TemporaryDirectory() as folder:
        written = save_pretrained(
            model, Path(folder, "model"),
            image=image, license=license, metrics=metrics, name=repo_id,
        )  # fmt: skip
        return upload(written, repo_id, private)


def _read_config(path: Path) -> Any:
    """Return the config in a ``config.json``, None if the file is not one of ours.

    Raises:
        InputError: If the file is not JSON.
    """
    try:
        content = decode(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as e:
        reason = " ".join(str(e).split())
        raise InputError(f"{path} cannot be read as JSON: {reason}") from None
    is_ours = isinstance(content, dict) and content.get("library_name") == LIBRARY
    return content.get("config") if is_ours else None


def _stored_meta(path: Path) -> Any:
    """Return ``dataset_meta`` in the metadata of a safetensors file.

    The metadata is read before the weights, for a file that is no safetensors file to be refused
    even if checkpoints with code are trusted.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return json.loads((file.metadata() or {})["meta"])["dataset_meta"]
    except (SafetensorError, OSError, ValueError, TypeError, LookupError, RecursionError) as e:
        raise InputError(
            f"{path} is no safetensors file with the classes of a model, or a damaged one ({e})"
        ) from None


def dataset_meta_of(meta: Any, source: str | Path) -> dict[str, Any]:
    """Return a ``dataset_meta``, if JSON can hold it, and files of one class a line its names.

    Args:
        meta: The ``dataset_meta``, or anything else.
        source: Where it comes from, for messages.

    Raises:
        InputError: If it has no names of classes, or a palette of another form.
    """
    if not isinstance(meta, dict) or not _are(str, meta.get("classes")) or not meta["classes"]:
        raise InputError(f"{source} has no names of classes: expected a list of strings")
    for name in meta["classes"]:
        if any(unicodedata.category(character) in CONTROLS for character in name):
            raise InputError(
                f"{source} has the class {ascii(name)}: a name is one line, without control "
                "characters"
            )
    palette = meta.get("palette") or []
    if not _are((list, tuple), palette) or not all(
        len(c) == 3 and all(type(v) is int and 0 <= v <= 255 for v in c) for c in palette
    ):
        raise InputError(f"{source} has a palette that is no list of RGB colors, 0..255")
    try:
        json.dumps(meta)
    except (TypeError, ValueError) as e:
        raise InputError(f"{source} cannot be written as JSON: {e}") from None
    return meta


def _are(kind: Any, values: Any) -> bool:
    return isinstance(values, (list, tuple)) and all(isinstance(each, kind) for each in values)


def _with_palette(meta: dict[str, Any]) -> dict[str, Any]:
    """Return a ``dataset_meta`` with a color for each class; those that lack are random."""
    count = len(meta["classes"])
    given = [list(color) for color in meta.get("palette") or []]
    return {**meta, "palette": (given + random_palette(count)[len(given) :])[:count]}


@contextmanager
def _evaluation(model: BaseModel) -> Iterator[None]:
    """Put a model into evaluation mode within the ``with`` block, then each module as it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        # By their own methods, which may set more; from the outside in, as each sets its parts.
        for module, mode in modes:
            module.train(mode)


def _check_dtype(model: BaseModel) -> None:
    """Raise InputError unless the parameters of a model have the dtype of the images."""
    for parameter in model.parameters():
        if parameter.is_floating_point() and parameter.dtype != torch.float32:
            raise InputError(
                f"the model has weights of {parameter.dtype}, and a shared model has torch.float32:"
                " call model.float() before"
            )


def _check_facts(image: Any, license: Any, metrics: Any) -> dict[str, float]:
    """Return the metrics as plain numbers.

    Raises:
        InputError: If they are no finite numbers by name, if the license is no identifier, or if
            the image is no path.
    """
    if image is not None and not isinstance(image, (str, Path)):
        raise InputError(f"image is the path of a file, got a {type(image).__name__}")
    is_id = isinstance(license, str) and re.fullmatch(r"[a-z0-9][a-z0-9.-]*", license)
    if license is not None and not is_id:
        raise InputError(
            f"a license is an identifier such as apache-2.0, mit or other, got {license!r}"
        )
    if not isinstance(metrics, Mapping):
        raise InputError(f"metrics are numbers by name, such as {{'mIoU': 49.2}}, got {metrics!r}")
    for key, value in metrics.items():
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
            raise InputError(f"a metric is a finite number, got {key} = {value!r}")
    return {str(key): float(value) for key, value in metrics.items()}


@contextmanager
def _lock(folder: Path) -> Iterator[bool]:
    """Let other savings into a folder wait within the ``with`` block; a new one has no lock.

    Yields:
        Whether the folder is there.
    """
    with ExitStack() as stack:
        with suppress(OSError):  # a new one, or one that _check_target refuses
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, descriptor)
            _wait_for(descriptor, folder)
        yield os.path.isdir(folder)


def _wait_for(descriptor: int, folder: Path) -> None:
    """Take the lock of an open folder, which ends when it is closed, or the process ends.

    Raises:
        OSError: On network file systems that have no locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print_log(f"another saving into {folder} is not over: waiting for it", logger="current")
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _check_target(folder: Path) -> None:
    """Check that a folder may be written: new, empty, or one that we wrote.

    Raises:
        InputError: If it cannot be made, or holds anything else.
    """
    try:
        if folder.is_file():
            raise InputError(
                f"{folder} is a file, and a shared model is a folder: give another name"
            )
        there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
        # Not in its place, where another saving would see it.
        with tempfile.TemporaryDirectory(dir=there, prefix=PART) as part:
            Path(part, folder.relative_to(there)).mkdir(parents=True, exist_ok=True)
        names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    except OSError as e:
        raise InputError(f"the folder {folder} cannot be written: {e.strerror or e}") from None
    names = [name for name in names if not name.startswith(PART) and name not in OF_THE_HUB]
    others = [name for name in names if name not in FILES]
    is_ours = CONFIG in names and _read_config(folder / CONFIG) is not None
    if others or (names and not is_ours):
        raise InputError(
            f"{folder} holds {(others or names)[0]}, which is not of a shared model: give a new "
            "or empty folder"
        )


def _put(part: Path, folder: Path) -> None:
    """Put a complete folder where none is, or its files into the one that is there."""
    if not folder.exists():
        try:
            os.rename(part, folder)
            return
        except OSError:
            if not folder.is_dir():
                raise
            # Another saving was faster.
    if part.parent == folder:
        _exchange(part, folder)
        return
    with _lock(folder):
        inside = folder / part.name
        os.rename(part, inside)
        try:
            _exchange(inside, folder)
        finally:
            shutil.rmtree(inside, ignore_errors=True)


def _exchange(part: Path, folder: Path) -> None:
    """Put the files of a folder within another one in the place of those of the other one.

    The other folder stays, since it may be a working directory, a link or a disk. Whenever this is
    interrupted, it has its old files, or no weights, and can be written again.
    """
    old = part / "old"
    old.mkdir()
    moves = [(folder / name, old / name) for name in reversed(FILES) if (folder / name).exists()]
    moves += [(part / name, folder / name) for name in FILES if (part / name).exists()]
    with ExitStack() as undo:
        for source, target in moves:
            os.replace(source, target)
            undo.callback(os.replace, target, source)
        undo.pop_all()
    for interrupted in folder.glob(f"{PART}*"):  # others that write here wait
        shutil.rmtree(interrupted, ignore_errors=True)
