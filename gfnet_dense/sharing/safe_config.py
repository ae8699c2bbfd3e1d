"""Checking a config of somebody else, before anything of it is built.

mmengine's registries import and call whatever a ``type`` names (``os.system``), mmcv evaluates the
type of ``nms`` as Python, and parts of models and pipelines read files and addresses that the
config names, some by unpickling; a file backend may even import a module from a folder. So a config
is accepted only if

- each type in it is a name that a library has registered, or one of :data:`OPERATORS`,
- it imports no modules,
- no ``metainfo`` of data is a string, since mmengine reads each as a file or an address,
- strings in the parts that are built (:data:`BUILT`) are plain words, no path, no address, no code,
  and none of them is that of a file (:data:`FILES`) or of a type that reads (:data:`READERS`),
- file backends in those parts are the local one, and
- the test pipeline has :data:`TRANSFORMS` alone, beside :data:`LOADERS`, which ``predict`` leaves
  out, at its top level.

Seen in onedl-mmengine 0.10.12, onedl-mmcv 2.3.6, onedl-mmsegmentation 1.4.2 and onedl-mmdetection
3.5.1.
"""

import io
import re
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from mmengine import registry as mmengine_registry
from mmengine.config import Config
from mmengine.registry import Registry

from gfnet_dense.registry import HEADS, SCOPE
from gfnet_dense.utils.config import (
    EXTRAS,
    check_sections,
    find_datasets,
    type_name,
    typed_configs,
)
from gfnet_dense.utils.errors import InputError

SCOPES = ("mmengine", "mmseg", "mmdet", "gfnet_dense")
# Keys of names that registries look up, the last two for trainings
TYPES = ("type", "constructor", "runner_type")
# Ends of the names of settings that choose a file backend; some of those import modules
BACKENDS = ("backend_args", "client_args")
# Settings that are read as files, by some types even if they are plain words; the first is
# unpickled from a file that is called pkl
FILES = ("class_weight", "checkpoint", "pretrained", "teacher_config", "teacher_ckpt")
# Keys of the parts of a config that load_model and predict build
BUILT = ("model", "pipeline")
# A string in those parts: a plain word; a dot is part of a number alone, as in "regnetx_3.2gf".
WORD = re.compile(r"(?:[\w-]|(?<=\d)\.(?=\d))*")
# Words by which mmcv and mmdetection choose functions and layers that no registry has
OPERATORS = {
    "nms", "soft_nms", "RoIAlign", "RoIPool", "SimpleRoIAlign", "DeformRoIPoolPack",
    "ModulatedDeformRoIPoolPack", "conv", "interpolation_conv", "last_conv", "dilation", "offset",
}  # fmt: skip
# Registered types that fetch or read files by plain words, most from the Hugging Face hub
READERS = {
    "Pretrained", "PretrainedInit", "TIMMBackbone", "BertModel", "ATSSVLFusionHead", "VPD",
    "RandomSamplingNegPos", "AppearanceFreeLink", "Detectron2Wrapper", "GLIP", "GroundingDINO",
}  # fmt: skip
# Transforms of test pipelines that load what predict is given
LOADERS = {"LoadImageFromFile", "LoadImageBands", "LoadAnnotations", "LoadPanopticAnnotations"}
# The last transform of a pipeline, for predict to take its output
PACKERS = {"PackSegInputs", "PackDetInputs"}
# Transforms of test pipelines that work on images in memory
TRANSFORMS = PACKERS | {
    "Resize", "FixScaleResize", "FixShapeResize", "ResizeShortestEdge", "ResizeToMultiple",
    "SegRescale", "ShrinkToFit", "Pad", "CenterCrop", "RandomCenterCropPad", "RandomCrop",
    "RandomFlip", "Normalize", "Rerange", "CLAHE", "AdjustGamma", "RGB2Gray",
}  # fmt: skip
# What mmsegmentation does with the image of a test; slide_flip is of estimators of depth
MODES = ("whole", "slide", "slide_flip")


def check_config(config: Any, source: str | Path) -> None:
    """Refuse a config unless building its model and its test pipeline runs known code alone.

    Args:
        config: A whole config as plain data.
        source: Where it comes from, for messages.

    Raises:
        InputError: If the config is incomplete, holds anything that is not known to be harmless, or
            cannot predict.
    """
    if not isinstance(config, dict) or not {"model", "test_dataloader"} <= set(config):
        raise InputError(f"{source} is no whole config: it has no model and data")
    try:
        _Check(config.get("default_scope")).check(config, "")
        check_sections(Config(config))
        _check_test(config)
    except RecursionError:
        raise InputError(f"{source} was refused: it is nested too deeply") from None
    except KeyError as e:  # of mmengine, for a name that it reserves
        raise InputError(f"{source} was refused: {e.args[0]}") from None
    except InputError as e:
        raise InputError(f"{source} was refused: {e}") from None


def _check_test(config: dict[str, Any]) -> None:
    """Refuse a config whose model cannot predict, or whose test pipeline may read files."""
    model, data = config["model"], config["test_dataloader"]
    if not isinstance(model.get("backbone"), dict):
        raise InputError("its model has no backbone")
    datasets = find_datasets(data["dataset"]) if data else []
    if not datasets or "pipeline" not in datasets[0]:
        raise InputError("it has no pipeline for tests")
    _check_pipeline(datasets[0]["pipeline"])
    std = (model.get("data_preprocessor") or {}).get("std")
    if isinstance(std, (list, tuple)) and 0 in std:
        raise _refusal("model.data_preprocessor.std", f"{std!r}, and pixels are divided by it")
    if "decode_head" in model:
        _check_windows(model.get("test_cfg", {}))


def _check_pipeline(pipeline: list[Any] | tuple[Any, ...]) -> None:
    """Refuse a test pipeline unless it changes loaded images in memory, and packs them.

    Loaders within other transforms are refused, since those can give them any path (``KeyMapper``).
    """
    for i, transform in enumerate(pipeline):
        if not isinstance(transform, dict) or "type" not in transform:
            raise _refusal(f"pipeline.{i} for tests", f"{transform!r}: it takes a dict with a type")
        names = [(type_name(transform), TRANSFORMS | LOADERS)]
        names += [(type_name(each), TRANSFORMS) for each in typed_configs(list(transform.values()))]
        # A type by another name, of ResizeShortestEdge
        chosen = (each.get("resize_type", "Resize") for each in typed_configs(transform))
        names += [(str(name), TRANSFORMS) for name in chosen]
        for name, accepted in names:
            if name not in accepted:
                raise _refusal(
                    f"pipeline.{i} for tests",
                    f"of the type {name!r}, and a shared model has: {', '.join(sorted(accepted))}",
                )
    if not pipeline or type_name(pipeline[-1]) not in PACKERS:
        raise InputError(f"the pipeline for tests does not end in {' or '.join(sorted(PACKERS))}")


def _check_windows(test_cfg: dict[str, Any]) -> None:
    """Refuse a ``test_cfg`` of a segmentor by which images are not covered by windows."""
    mode = test_cfg.get("mode", "whole")
    if mode not in MODES:
        raise _refusal("model.test_cfg.mode", f"{mode!r}, accepted are {', '.join(MODES)}")
    sizes = [test_cfg.get(key) for key in ("stride", "crop_size")]
    are_sizes = all(
        isinstance(size, (list, tuple)) and len(size) == 2 and all(type(v) is int for v in size)
        for size in sizes
    )
    if mode != "whole" and not (
        are_sizes and all(1 <= s <= c for s, c in zip(*sizes, strict=True))
    ):
        raise InputError(
            f"model.test_cfg has the mode {mode}, stride={sizes[0]!r} and crop_size={sizes[1]!r}: "
            "they take (h, w) in pixels, the stride between 1 and the crop"
        )


class _Check:
    """The check of one config.

    Args:
        scope: Its ``default_scope``.
    """

    def __init__(self, scope: Any):
        self.names: dict[str, set[str]] = {}  # registered names by scope, found when needed
        self.scope = self._known_scope(scope, "default_scope")

    def check(self, node: Any, place: str, is_built: bool = False) -> None:
        """Check a part of the config, and all in it.

        Args:
            node: The part.
            place: Its keys, joined by dots.
            is_built: Whether it is within one of :data:`BUILT`.

        Raises:
            InputError: If something is refused.
        """
        if isinstance(node, dict):
            for key, value in node.items():
                where = f"{place}.{key}" if place else str(key)
                if key in TYPES:
                    self._check_type(value, where, is_built)
                elif key == "_scope_":
                    self._known_scope(value, where)
                elif key == "metainfo":
                    self._check_metainfo(value, where, is_built)
                elif is_built and str(key).endswith(BACKENDS):
                    if value is not None and value != {"backend": "local"}:
                        raise _refusal(where, f"{value!r}, and a shared config reads local files")
                elif is_built and key in FILES and isinstance(value, str):
                    raise _refusal(where, f"{value!r}, the name of a file")
                elif key in ("custom_imports", "_base_"):
                    if value:
                        raise _refusal(where, f"{value!r}: a shared config reads no other files")
                else:
                    self.check(value, where, is_built or key in BUILT)
        elif isinstance(node, (list, tuple)):
            for i, each in enumerate(node):
                self.check(each, f"{place}.{i}", is_built)
        elif is_built and isinstance(node, str) and node in READERS:
            raise _refusal(place, f"{node!r}, which reads files or addresses of its own")
        elif is_built and isinstance(node, str) and not WORD.fullmatch(node):
            raise _refusal(
                place,
                f"{node!r}, which may be a file, an address or code: strings of the model and of "
                "pipelines are plain words in a shared config",
            )
        elif not isinstance(node, (str, int, float, type(None))):
            raise _refusal(place, f"a {type(node).__name__}, no data")

    def _check_metainfo(self, value: Any, place: str, is_built: bool) -> None:
        for key, each in value.items() if isinstance(value, dict) else [("", value)]:
            if isinstance(each, str):
                raise _refusal(
                    f"{place}.{key}".rstrip("."),
                    f"{each!r}, which mmengine reads as a file or an address: names are written "
                    "as lists in a shared config",
                )
        self.check(value, place, is_built)

    def _check_type(self, value: Any, place: str, is_built: bool) -> None:
        match = re.fullmatch(r"(?:(\w+)\.)?(\w+)", value) if isinstance(value, str) else None
        if match is None:
            raise _refusal(place, f"{value!r}, no name that a library has registered")
        scope, name = match.groups()
        if is_built and name in READERS:
            raise _refusal(place, f"{value!r}, which reads files or addresses of its own")
        if scope is not None:
            known = name in self._registered(self._known_scope(scope, place))
        else:
            known = name in OPERATORS or name in self._registered(self.scope)
            for other in SCOPES:
                with suppress(InputError):  # a library that is not installed
                    known = known or name in self._registered(other)
        if not known:
            raise _refusal(
                place,
                f"{value!r}, no name that {scope or 'a library'} has registered; code of its "
                "author's own cannot be shared with a model",
            )

    def _known_scope(self, scope: Any, place: str) -> str:
        if not isinstance(scope, str) or scope not in SCOPES:
            raise _refusal(place, f"of the library {scope!r}, accepted are {', '.join(SCOPES)}")
        return scope

    def _registered(self, scope: str) -> set[str]:
        """Return all names that a library has registered.

        Raises:
            InputError: If the library is not installed.
        """
        if scope not in self.names:
            try:
                with redirect_stdout(io.StringIO()):  # datasets print the packages they lack
                    self.names[scope] = _names(scope)
            except ImportError as e:
                extra = f": install the extra {EXTRAS[scope]}" if scope in EXTRAS else ""
                raise InputError(f"it needs {scope}, which cannot be imported ({e}){extra}") from e
        return self.names[scope]


def _refusal(place: str, reason: str) -> InputError:
    return InputError(f"{place} is {reason}")


def _names(scope: str) -> set[str]:
    # The heads are registered once their module is imported, which needs mmsegmentation.
    return {name for name, _ in _entries(scope)} | set(HEADS if scope == SCOPE else ())


def _entries(scope: str) -> Iterator[tuple[str, Any]]:
    """Yield the names in the registries of a library, and what is registered by them."""
    import_module(f"{scope}.registry")
    for root in list(vars(mmengine_registry).values()):
        if isinstance(root, Registry):
            registry = root if root.scope == scope else root.children.get(scope)
            if registry is not None:
                registry.import_from_location()
                yield from registry.module_dict.items()


def registered_name(kind: Any) -> str | None:
    """Return the ``scope.Name`` under which a class or function is registered, None without one."""
    scope = str(getattr(kind, "__module__", "")).partition(".")[0]
    # mmcv's and PyTorch's are registered by mmcv and mmengine in the registries of mmengine.
    scope = scope if scope in SCOPES else "mmengine"
    return next((f"{scope}.{name}" for name, each in _entries(scope) if each is kind), None)
