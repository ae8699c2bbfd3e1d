"""The check that the package of each experiment tracker in a config is installed."""

from importlib import import_module
from typing import Any

from mmengine.config import Config
from mmengine.registry import VISBACKENDS

from gfnet_dense.utils.errors import InputError

# By visualization backend of mmengine (0.10.12): the modules that it imports when a training
# begins, each with the package that has it.
PACKAGES = {
    "WandbVisBackend": {"wandb": "wandb"},
    "TensorboardVisBackend": {"torch.utils.tensorboard": "tensorboard"},
    "MLflowVisBackend": {"mlflow": "mlflow"},
    "ClearMLVisBackend": {"clearml": "clearml"},
    "NeptuneVisBackend": {"neptune": "neptune"},
    "DVCLiveVisBackend": {"dvclive": "dvclive", "pygit2": "pygit2"},
    "AimVisBackend": {"aim": "aim"},
}


def check_trackers(cfg: Config) -> None:
    """Check that the packages of the config's visualization backends can be imported.

    mmengine imports them late, and its error is the last line of a traceback
    (open-mmlab/mmocr#1439).

    Args:
        cfg: A whole config. Its ``visualizer`` may be missing, and its ``vis_backends`` one backend
            or a list of them.

    Raises:
        InputError: If a package is not installed, or cannot be imported.
    """
    visualizer = cfg.get("visualizer")
    backends = visualizer.get("vis_backends") if isinstance(visualizer, dict) else None
    for backend in backends if isinstance(backends, (list, tuple)) else [backends]:
        for name in _names(backend):
            for module, package in PACKAGES.get(name, {}).items():
                _check(name, module, package)


def _names(backend: Any) -> list[str]:
    """Return the names of a backend's class and its bases; none of what is no config."""
    kind = backend.get("type") if isinstance(backend, dict) else None
    cls = VISBACKENDS.get(kind) if isinstance(kind, str) else kind
    return [base.__name__ for base in cls.__mro__] if isinstance(cls, type) else []


def _check(name: str, module: str, package: str) -> None:
    try:
        import_module(module)
    except ImportError as e:
        absent = e.name is not None and e.name.partition(".")[0] == package
        raise InputError(
            f"{name} needs the package {package}, which "
            f"{'is not installed' if absent else f'cannot be imported ({e})'}: "
            f"pip install {package}, or take {name} out of the visualizer's vis_backends"
        ) from e
