"""Finding and reading config files, and finding the datasets in a config."""

import io
import json
import logging
import os
import traceback
from collections.abc import Iterator
from contextlib import redirect_stdout
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log
from mmengine.registry import Registry

from .errors import InputError
from .users_code import places_in_users_code

# In a clone this is a link to configs/, in an installed package it holds the files.
PACKAGED_CONFIGS = Path(__file__).parents[1] / ".mim" / "configs"

# Extras of this package that bring a library.
EXTRAS = {"mmseg": "seg", "mmdet": "det", "mmcv": "seg"}
OPERATORS = "mmcv._ext"  # the module of mmcv's compiled operators
CONFIG_SUFFIXES = {".json", ".py", ".yaml", ".yml"}  # that mmengine reads
LIBRARY = "gfnet-dense"  # library_name of a shared model, in its files and on the hub
# Files of a shared model, see gfnet_dense.save_pretrained
SHARED_CONFIG, SHARED_WEIGHTS = "config.json", "model.safetensors"


def find_config(name: str | Path) -> Path:
    """Return the path of a config file.

    Args:
        name: Path of a file. In any working directory also the name of a config of this project:
            ``upernet_gfnet_ade20k`` or ``configs/upernet_gfnet_ade20k.py``.

    Raises:
        InputError: If there is no such file or config, or if it is another file, such as a photo
            or a checkpoint, or of a shared model (:func:`gfnet_dense.save_pretrained`).
    """
    path = Path(name)
    if (folder := shared_folder(path)) is not None:
        kind = "a shared model" if path.is_dir() else "the config of a shared model"
        raise InputError(
            f"{name} is {kind}, which gfnet_dense.from_pretrained({str(folder)!r}), "
            "infer and export_onnx load; other commands take the config of the training, and "
            f"{folder / SHARED_WEIGHTS} as checkpoint"
        )
    if path.name == SHARED_WEIGHTS and path.is_file() and path.with_name(SHARED_CONFIG).is_file():
        raise InputError(f"{name} has the weights of a shared model: give the folder {path.parent}")
    order = "the order is CONFIG, then CHECKPOINT, then images and videos"
    if path.is_file() and path.suffix not in CONFIG_SUFFIXES:
        raise InputError(
            f"{name} is no config, which is a file *.py or the name of a config of this project: "
            f"{order}"
        )
    if path.is_file():
        return path
    stem = path.name.removesuffix(".py")
    names = packaged_configs()
    if str(path.parent) in (".", "configs") and stem in names:
        return PACKAGED_CONFIGS / f"{stem}.py"
    similar = get_close_matches(stem, names) or ["upernet_gfnet_ade20k"]
    is_other_file = path.suffix not in ("", *CONFIG_SUFFIXES)
    raise InputError(
        f"the config {name} does not exist: give a file, or the name of a config of this project, "
        f"such as {', '.join(similar)}{f'; {order}' if is_other_file else ''}"
    )


def shared_folder(path: str | Path) -> Path | None:
    """Return the folder of a shared model if a path is that folder or its config, else None.

    A folder is one if it holds one of its two files, also a damaged one, which is told by the
    function that loads it. A ``config.json`` may be any other config. A folder with the name of a
    config of this project has to be given as ``./NAME``.
    """
    if os.fspath(path) in packaged_configs():
        return None
    path = Path(path)
    if path.is_dir():
        files = (path / SHARED_CONFIG, path / SHARED_WEIGHTS)
        return path if any(file.is_file() for file in files) else None
    if path.name != SHARED_CONFIG or not path.with_name(SHARED_WEIGHTS).is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    is_ours = isinstance(content, dict) and content.get("library_name") == LIBRARY
    return path.parent if is_ours else None


def packaged_name(path: str | Path) -> str | None:
    """Return the name of the config of this project that a file is, or links to, else None."""
    path = Path(path).resolve()
    return path.stem if path.is_file() and path.parent == PACKAGED_CONFIGS.resolve() else None


def packaged_configs() -> list[str]:
    """Return the names of the configs of this project, sorted."""
    return sorted(path.stem for path in PACKAGED_CONFIGS.glob("*.py"))


def find_datasets(dataset: ConfigDict) -> list[ConfigDict]:
    """Return the innermost dataset configs inside wrappers such as ConcatDataset."""
    if "dataset" in dataset:
        return find_datasets(dataset["dataset"])
    if "datasets" in dataset:
        return [inner for outer in dataset["datasets"] for inner in find_datasets(outer)]
    return [dataset]


def typed_configs(node: Any) -> Iterator[dict]:
    """Yield the dicts with a ``type`` in a part of a config, also those inside of others.

    In a pipeline these are its transforms.
    """
    if isinstance(node, (list, tuple)):
        for each in node:
            yield from typed_configs(each)
    elif isinstance(node, dict):
        if "type" in node:
            yield node
        yield from typed_configs(list(node.values()))


def datasets_of(cfg: ConfigDict, *splits: str) -> Iterator[ConfigDict]:
    """Yield the innermost dataset configs of the dataloaders of some splits, 'train', 'val', ..."""
    for split in splits:
        loader = cfg.get(f"{split}_dataloader")
        if loader is not None:
            yield from find_datasets(loader["dataset"])


def is_remote(dataset: ConfigDict) -> bool:
    """Return whether a dataset, without wrappers, reads from a store that is no folder here.

    These are addresses such as ``s3://``, and file backends of mmengine other than the local one.
    """
    backend = (dataset.get("backend_args") or {}).get("backend", "local")
    prefixes = (dataset.get("data_prefix") or {}).values()
    places = (dataset.get("data_root"), dataset.get("ann_file"), *prefixes)
    return backend not in ("local", "disk") or any("://" in str(place) for place in places)


def evaluators_of(cfg: ConfigDict, split: str) -> list[ConfigDict]:
    """Return the configs of the evaluators of a split, one or several in the config."""
    evaluators = cfg.get(f"{split}_evaluator") or []
    return list(evaluators) if isinstance(evaluators, (list, tuple)) else [evaluators]


def type_name(settings: dict) -> str:
    """Return the name of the class that a config builds, without its scope; '' if it has none."""
    kind = settings.get("type", "")  # lazy configs hold the class itself
    return kind.rpartition(".")[2] if isinstance(kind, str) else kind.__name__


def registered_class(registry: Registry, settings: dict, scope: str) -> Any:
    """Return the class that a config builds, None if it is unknown.

    Args:
        registry: Registry of such classes.
        settings: A config with ``type``.
        scope: Library that registers a type without a scope: ``default_scope`` of the whole config.
    """
    kind = settings["type"]
    if not isinstance(kind, str):  # lazy configs hold the class itself
        return kind
    return registry.get(kind if "." in kind else f"{scope}.{kind}")


def read_config(path: str | Path) -> Config:
    """Return the mmengine Config of a file, and import its custom modules and its library.

    An error in a module of ``custom_imports`` stays as it is, with its traceback.

    Args:
        path: Path or name of a config, see :func:`find_config`.

    Raises:
        InputError: If the file is missing or broken, is only a part of a config, or needs packages
            or modules that are not found.
    """
    path = find_config(path)
    try:
        cfg = Config.fromfile(path, import_custom_modules=False)
    except Exception as e:  # a config is a Python file, which can raise anything
        raise InputError(missing_library(path, e) or _describe_defect(path, e)) from e
    if not {"model", "test_dataloader"} <= set(cfg):
        raise InputError(f"{path} is a part of configs, not a whole one: it has no model and data")
    check_sections(cfg)
    _import_custom_modules(path, cfg.get("custom_imports"))
    cfg.default_scope = cfg.get("default_scope") or _library_of(cfg.model)
    if cfg.default_scope is None:
        raise InputError(
            f"default_scope of {path} is not set, and the type of its model does not tell the "
            "library: set default_scope to mmseg or mmdet"
        )
    try:
        with redirect_stdout(io.StringIO()):  # datasets print the optional packages they lack
            import_module(f"{cfg.default_scope}.datasets")
            if cfg.default_scope == "mmdet":
                import_module("mmdet.models")
    except Exception as e:  # a broken installation can raise anything
        missing = missing_library(path, e)
        if missing is None and places_in_users_code(e):
            raise
        raise InputError(
            missing
            or f"the library {cfg.default_scope}, default_scope of {path}, cannot be imported: "
            f"{_on_one_line(e)}"
        ) from e
    return cfg


def _library_of(model: dict) -> str | None:
    """Return the OpenMMLab library of a model's class, None if it is unknown.

    Configs with lazy imports set ``default_scope=None``, since their types are classes.
    """
    kind = model.get("type", "")
    names = [kind] if isinstance(kind, str) else [base.__module__ for base in kind.__mro__]
    roots = (name.partition(".")[0] for name in names)
    return next((root for root in roots if root in ("mmseg", "mmdet")), None)


def _import_custom_modules(path: Path, settings: Any) -> None:
    """Import the modules that a config names in ``custom_imports``, as mmengine does.

    Args:
        path: The config, for the messages.
        settings: Its ``custom_imports``: None, or a dict of ``imports``, a module or a list of
            them, and ``allow_failed_imports``.

    Raises:
        InputError: If a module is not found, or the settings are of another form.
    """
    if not settings:
        return
    names = settings.get("imports", []) if isinstance(settings, dict) else None
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(
            f"custom_imports of {path} is {settings!r}: write dict(imports=['MODULE'])"
        )
    for name in names:
        try:
            import_module(name)
        except ImportError as e:
            if settings.get("allow_failed_imports"):
                reason = f"{name}, of custom_imports, is left out: {e}"
                print_log(reason, logger="current", level=logging.WARNING)
                continue
            if missing := missing_library(path, e):
                raise InputError(missing) from e
            if not isinstance(e, ModuleNotFoundError) or not f"{name}.".startswith(f"{e.name}."):
                raise  # the module was found, and fails itself
            raise InputError(
                f"custom_imports of {path} names the module {name}, which is neither installed nor "
                f"in a folder of PYTHONPATH ({os.environ.get('PYTHONPATH') or 'not set'}): set "
                "PYTHONPATH to the folder that holds it"
            ) from e


def _describe_defect(path: Path, error: Exception) -> str:
    """Return the sentence about an error in a config or its bases, with file and line."""
    # mmengine reads copies of the files, whose names say nothing: the names are those in the frames
    # of these functions of Config, as seen in onedl-mmengine 0.10.12.
    readers = ("_file2dict", "_parse_lazy_import")
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    files = [f.f_locals["filename"] for f in frames if f.f_code.co_name in readers]
    file, line = files[-1] if files else path, None
    reason = _on_one_line(error)
    syntax = next((e for e in (error.__context__, error) if isinstance(e, SyntaxError)), None)
    if syntax is not None:  # the first one has the number of the line
        line, reason = syntax.lineno, f"{type(syntax).__name__}: {syntax.msg}"
    elif places := places_in_users_code(error):
        file, line = places[-1]
    place = [os.path.normpath(file)] if Path(file).resolve() != path.resolve() else []
    place += [f"line {line}"] if line else []
    return f"{path} cannot be read as a config: {', '.join(place)}{': ' if place else ''}{reason}"


def _on_one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def missing_library(path: Path, error: BaseException | None) -> str | None:
    """Return the sentence about a library of :data:`EXTRAS` that an import did not find, if any.

    Args:
        path: The config that needs it.
        error: An error, whose causes are searched, too.
    """
    while error is not None:
        name = error.name if isinstance(error, ImportError) else None
        if name in EXTRAS:
            return (
                f"{path} needs {name}, which is not installed: "
                f"pip install 'gfnet-dense[{EXTRAS[name]}]'"
            )
        if name == OPERATORS:  # missing, or compiled for another version of torch
            return (
                f"{path} needs mmcv with compiled operators, which cannot be imported ({error}): "
                "make install-det compiles them (some minutes, needs a C++ compiler)"
            )
        error = error.__cause__ or error.__context__
    return None


def check_sections(cfg: ConfigDict) -> None:
    """Check the form of the sections that every command reads: the model and the dataloaders.

    Args:
        cfg: A whole config.

    Raises:
        InputError: If a section has another form than mmengine and its libraries need.
    """
    model = cfg.get("model")
    if not isinstance(model, dict):
        raise InputError(f"model in the config is {model!r}: it takes a dict")
    for key in ("data_preprocessor", "test_cfg") if "decode_head" in model else ():
        if not isinstance(model.get(key, {}), dict):
            raise InputError(f"model.{key} is {model[key]!r}: a segmentor needs a dict")
    for split in ("train", "val", "test"):
        name = f"{split}_dataloader"
        loader = cfg.get(name)
        if loader is None:
            continue
        if not isinstance(loader, dict):
            raise InputError(f"{name} in the config is {loader!r}: it takes a dict, or None")
        datasets = [loader.get("dataset")]
        while datasets:
            dataset = datasets.pop()
            if not isinstance(dataset, dict):
                raise InputError(f"a dataset of {name} is {dataset!r}: it takes a dict")
            if not isinstance(dataset.get("pipeline", []), (list, tuple)):
                raise InputError(
                    f"the pipeline of a dataset of {name} is {dataset['pipeline']!r}: it takes a "
                    "list of transforms"
                )
            inner = dataset.get("datasets", [])
            datasets += list(inner) if isinstance(inner, (list, tuple)) else [inner]
            datasets += [dataset["dataset"]] if "dataset" in dataset else []
