"""Checks that the heads of a detector and the classes of its datasets fit, from the config alone.

With too many classes in its heads mmdetection trains and says nothing, with too few it ends in an
IndexError, perhaps after hours (open-mmlab/mmdetection#2781, #7804).
"""

from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.config import ConfigDict
from mmengine.registry import DATASETS

from gfnet_dense.datasets.coco.names import list_names
from gfnet_dense.utils.config import datasets_of, registered_class
from gfnet_dense.utils.errors import InputError

# Parts of a model whose num_classes is not that of the dataset: proposals have one class, stuff and
# tracked identities are counted apart.
OTHER_PARTS = {"rpn_head", "semantic_head", "reid", "head", "backbone", "neck"}


def check_detector_classes(cfg: ConfigDict, splits: tuple[str, ...]) -> None:
    """Check the class names of a detector's datasets, and that its heads have as many classes.

    Models that are told their classes by text (``language_model``) pass, as do datasets of videos
    and those that read their class names from files.

    Args:
        cfg: A whole config; those of other libraries than mmdetection pass.
        splits: Dataloaders to check, any of 'train', 'val', 'test'.

    Raises:
        InputError: If a head has another number of classes than a dataset, or if the classes of a
            dataset are invalid, or are not those of all others, also of its own split.
    """
    if cfg.get("default_scope") != "mmdet" or "language_model" in cfg.model:
        return
    named: list[tuple[str, list[str]]] = []
    for split in splits:
        for dataset in datasets_of(cfg, split):
            classes = thing_classes(dataset, cfg.default_scope)
            if classes is None:
                continue
            _check_heads(cfg.model, classes, f"the {split} dataset", _own_cure(dataset))
            named.append((split, classes))
            (first, expected), *_ = named
            if classes != expected:
                other = split if split != first else f"other {split}"
                raise InputError(
                    f"the classes of the {first} dataset are {list_names(expected)}, those of the "
                    f"{other} dataset {list_names(classes)}: set the same "
                    "metainfo=dict(classes=...) in both, in the same order"
                )


def find_class(dataset: ConfigDict, scope: str) -> Any:
    """Return the class of mmdetection that a dataset's config names, None for any other class.

    Args:
        dataset: Config of one dataset, without wrappers.
        scope: Library that registers its type.
    """
    cls, base = registered_class(DATASETS, dataset, scope), DATASETS.get("mmdet.BaseDetDataset")
    return cls if cls is not None and issubclass(cls, base) else None


def thing_classes(dataset: ConfigDict, scope: str) -> list[str] | None:
    """Return the names of the classes with boxes from a dataset's config, without building it.

    Args:
        dataset: Config of one dataset, without wrappers.
        scope: Library that registers its type.

    Returns:
        The names, None if the dataset reads them from its files.

    Raises:
        InputError: If ``metainfo.classes`` are not several different names.
    """
    cls = find_class(dataset, scope)
    if cls is None:
        return None
    given = dataset.get("metainfo")
    metainfo = cls._load_metainfo(given)
    classes = metainfo.get("thing_classes", metainfo.get("classes"))
    kind = cls.__name__
    if isinstance(classes, str):
        raise InputError(
            f"classes of {kind} is the text {classes!r}: a single class is written with a comma, "
            f"metainfo=dict(classes=({classes!r},))"
        )
    if not classes:
        if given and "classes" in given:
            raise InputError(
                f"{kind} needs class names, metainfo=dict(classes=('cat', 'dog')), got {classes!r}"
            )
        return None
    names = list(classes)
    for i, name in enumerate(names):
        if not isinstance(name, str) or name in names[:i]:
            what = "is no text" if not isinstance(name, str) else "is there twice"
            raise InputError(f"class names of {kind}: {name!r} {what}")
    return names


def _own_cure(dataset: ConfigDict) -> str:
    """Return what to do where a dataset has the classes of its type, since its config names none.

    Args:
        dataset: Config of one dataset, without wrappers.

    Returns:
        The cure, empty if the config names classes.
    """
    given = dataset.get("metainfo") or {}
    if "classes" in given or "thing_classes" in given:
        return ""
    kind = getattr(dataset["type"], "__name__", dataset["type"])
    other = next((key for key in given if key.lower() == "classes"), None)
    why = f"has {other} instead of classes" if other else "names no classes"
    return (
        f"these are the classes of {kind}, since its metainfo {why}: set "
        "metainfo=dict(classes=...) of this dataset to those of your data"
    )


def _check_heads(model: ConfigDict, classes: list[str], owner: str, own_cure: str = "") -> None:
    """Raise InputError if heads of a detector have another number of classes than a dataset.

    Args:
        model: Config of the detector.
        classes: Class names of the dataset.
        owner: Name of the dataset, for the message.
        own_cure: What to do first, if the classes are not those of the config.
    """
    wrong = {name: n for name, n in _numbers(model, "model") if n != len(classes)}
    if wrong:
        value = next(iter(wrong.values()))
        names = " and ".join(name for name, n in wrong.items() if n == value)
        shown = f"{', '.join(classes[:3])}{', ...' if len(classes) > 3 else ''}"
        raise InputError(
            f"{names} is {value}, but {owner} has {len(classes)} "
            f"class{'es' if len(classes) > 1 else ''} ({shown})"
            + (f"; {own_cure}, or num_classes to" if own_cure else ": set it to")
            + f" {len(classes)}"
        )
    for name, weights, number in _weights(model, "model"):
        if len(weights) not in (number, number + 1):  # with or without "no object"
            raise InputError(
                f"{name} has {len(weights)} weights, but there are {number} classes: set it to "
                f'[1.0] * {number} + [0.1], the last for "no object"'
            )


def _numbers(node: Any, name: str) -> Iterator[tuple[str, int]]:
    """Yield dotted key and value of every number of classes with boxes in a detector."""
    for key, value in _items(node):
        if key in ("num_classes", "num_things_classes"):
            yield f"{name}.{key}", value
        else:
            yield from _numbers(value, f"{name}.{key}".replace(".[", "["))


def _weights(node: Any, name: str) -> Iterator[tuple[str, Sequence[float], int]]:
    """Yield dotted key and value of every list ``class_weight``, with its head's classes."""
    if isinstance(node, dict) and isinstance(node.get("loss_cls"), dict):
        weights = node["loss_cls"].get("class_weight")
        if isinstance(weights, (list, tuple)):
            number = node.get("num_classes")
            if number is None:
                number = node.get("num_things_classes", 0) + node.get("num_stuff_classes", 0)
            yield f"{name}.loss_cls.class_weight", weights, number
    for key, value in _items(node):
        yield from _weights(value, f"{name}.{key}".replace(".[", "["))


def _items(node: Any) -> Iterator[tuple[str, Any]]:
    """Yield key and value of what is inside a part of a config, apart from OTHER_PARTS."""
    if isinstance(node, dict):
        yield from ((key, value) for key, value in node.items() if key not in OTHER_PARTS)
    elif isinstance(node, (list, tuple)):
        yield from ((f"[{i}]", value) for i, value in enumerate(node))
