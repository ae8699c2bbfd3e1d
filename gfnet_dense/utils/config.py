"""Finding and reading config files, and finding the datasets in a config."""

import io
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path

from mmengine.config import Config, ConfigDict

from .errors import InputError

# In a clone this is a link to configs/, in an installed package it holds the files.
PACKAGED_CONFIGS = Path(__file__).parents[1] / ".mim" / "configs"

# Extras of this package that bring a library.
EXTRAS = {"mmseg": "seg", "mmdet": "det", "mmcv": "seg"}


def find_config(name: str | Path) -> Path:
    """Return the path of a config file.

    Args:
        name: Path of a file. In any working directory also the name of a config of this project:
            ``upernet_gfnet_ade20k`` or ``configs/upernet_gfnet_ade20k.py``.

    Raises:
        InputError: If there is no such file or config.
    """
    path = Path(name)
    if path.is_file():
        return path
    packaged = PACKAGED_CONFIGS / f"{path.name.removesuffix('.py')}.py"
    if str(path.parent) in (".", "configs") and packaged.is_file():
        return packaged
    raise InputError(
        f"the config {name} does not exist: give a file, or the name of a config of this project, "
        "such as upernet_gfnet_ade20k"
    )


def find_datasets(dataset: ConfigDict) -> list[ConfigDict]:
    """Return the innermost dataset configs inside wrappers such as ConcatDataset."""
    if "dataset" in dataset:
        return find_datasets(dataset["dataset"])
    if "datasets" in dataset:
        return [inner for outer in dataset["datasets"] for inner in find_datasets(outer)]
    return [dataset]


def read_config(path: str | Path) -> Config:
    """Return the mmengine Config of a file, and import the datasets of its library.

    Args:
        path: Path or name of a config, see :func:`find_config`.

    Raises:
        InputError: If the file is missing or broken, is only a part of a config, or needs packages
            that are not installed.
    """
    path = find_config(path)
    try:
        cfg = Config.fromfile(path)
        if not {"default_scope", "model", "test_dataloader"} <= set(cfg):
            raise InputError(
                f"{path} is a part of configs, not a whole one: it has no model and data"
            )
        with redirect_stdout(io.StringIO()):  # datasets print the optional packages they lack
            import_module(f"{cfg.default_scope}.datasets")
            if cfg.default_scope == "mmdet":
                import_module("mmdet.models")
    except InputError:
        raise
    except Exception as e:  # a config is a Python file, which can raise anything
        if isinstance(e, ModuleNotFoundError) and e.name in EXTRAS:
            raise InputError(
                f"{path} needs {e.name}, which is not installed: "
                f"pip install 'gfnet-dense[{EXTRAS[e.name]}]'"
            ) from None
        if isinstance(e, ImportError) and (import_error := _why_no_operators()):
            raise InputError(
                f"{path} needs mmcv with compiled operators, which cannot be imported "
                f"({import_error}): "
                "make install-det compiles them (some minutes, needs a C++ compiler)"
            ) from None
        reason = str(e).strip().splitlines()
        raise InputError(
            f"{path} cannot be read as a config: {type(e).__name__}: {reason[-1] if reason else ''}"
        ) from None
    return cfg


def _why_no_operators() -> str:
    """Return the error of importing mmcv's compiled operators, '' if there is none."""
    try:
        import_module("mmcv._ext")
    except ImportError as e:  # missing, or compiled for another version of torch
        return str(e)
    return ""


def merge_options(cfg: Config, options: dict | None) -> None:
    """Override settings of a config in place.

    Args:
        cfg: The config.
        options: Values by dotted key, such as ``model.test_cfg.mode``, from ``--cfg-options``.

    Raises:
        InputError: If a key does not fit the config.
    """
    if options is None:
        return
    try:
        cfg.merge_from_dict(options)
    except (TypeError, KeyError, IndexError) as e:
        raise InputError(f"--cfg-options do not fit the config: {e}") from None
