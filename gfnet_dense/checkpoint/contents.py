"""Finding the weights in the content of a checkpoint file, by whichever trainer it was written.

Trainers keep the weights under several keys, and wrappers put parts into their names. Where the
names of the model are known, they decide what is a wrapper and what belongs to the model.

The private ``_metadata`` of PyTorch's state dicts, with the versions of modules, is used here, as
seen in PyTorch 2.6 to 2.13.
"""

import re
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from gfnet_dense.utils.errors import InputError

from .old_forms import check_detector, describe_origin, in_new_form

# Parts of names that wrappers add anywhere: torch.compile, FSDP, activation checkpointing, Fabric
WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"}
PARALLEL = "module"  # added by DataParallel, DistributedDataParallel and averaged models
ANYWHERE = {*WRAPPERS, PARALLEL}
OWNERS = {"model", "net", "network"}  # attributes in which other trainers keep the model
# Names of averaged weights, as a key of the file or a part of a name
AVERAGED = re.compile(r"(^|_)(ema|swa)(_|$)|averaged?(_|$)|^shadow", re.IGNORECASE)
# Names of the numbers of updates that averaged models of mmengine and PyTorch keep
COUNTERS = {"steps", "n_averaged", "num_updates"}
# Keys of the state of a training, which holds tensors that are no weights
STATE = re.compile(
    r"optimi[sz]er|optim(_|$)|scheduler|scaler|(^|_)rng|message_hub|^meta$|^loops$|hyper_?param",
    re.IGNORECASE,
)
MIN_FIT = 0.1  # least share of the names of a model in weights that belong to it
MAX_DEPTH = 4  # levels of dicts in which weights are looked for


@dataclass(frozen=True)
class Weights:
    """Weights found in a checkpoint.

    Attributes:
        state_dict: Tensors by name, without the parts that wrappers have added, and with the
            names of the model where the file has those of an older form.
        meta: The ``meta`` of the file, with ``dataset_meta`` in the present form; may be empty.
        left_out: Names of the other tensors beside them, such as those of the heads if the backbone
            is wanted.
        notes: What was chosen and what not, for a report, such as ``names without module.``.
    """

    state_dict: dict[str, Tensor]
    meta: dict[str, Any]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Candidate:
    """Tensors below a prefix in one dict of a file.

    Attributes:
        place: Keys that lead to the dict, joined by dots.
        prefix: Prefix of the names, with a dot at its end, or empty.
        tensors: Tensors by their names behind the prefix.
        left_out: Names of the tensors that are not below the prefix.
        count: Number of names that the model has, or number of tensors if it is not known.
        removed: Parts that wrappers have added to the names.
    """

    place: str
    prefix: str
    tensors: dict[str, Tensor]
    left_out: tuple[str, ...]
    count: int
    removed: tuple[str, ...]

    @property
    def label(self) -> str:
        return f"{self.place}.{self.prefix}".strip(".") or "the top level"

    @property
    def is_averaged(self) -> bool:
        return any(AVERAGED.search(part) for part in f"{self.place}.{self.prefix}".split("."))

    @property
    def rank(self) -> tuple[bool, bool, bool]:
        """Order of preference: plain weights, ``state_dict``, the model itself."""
        parts = set(self.prefix.split(".")) - {""}
        return (
            self.is_averaged,
            self.place.rpartition(".")[2] not in ("", "state_dict"),
            not parts <= {*OWNERS, PARALLEL, "backbone"},
        )


def find_weights(
    content: dict[str, Any],
    path: str | Path,
    expected: Collection[str] = (),
    prefix: str | None = None,
) -> Weights:
    """Return the weights in the content of a checkpoint file.

    They may be the whole content, or below any keys (``state_dict``, ``model``,
    ``model_state_dict``, ``module``, ``net``, ``params``, ...). Parts that wrappers add to names
    are removed: ``module.``, ``_orig_mod.``, those of FSDP and of activation checkpointing, and a
    common prefix such as ``model.``. Where ``expected`` is known, the names that fit it decide, and
    names of an older form become those, see :mod:`.old_forms`. Averaged weights (EMA) are taken if
    there are no others that fit.

    Args:
        content: Content of the file.
        path: The file, for messages.
        expected: Names of the model's tensors; empty if the model is not known.
        prefix: Part of the model whose weights are wanted, such as ``teacher.backbone``, with or
            without a dot at its end; if None, it is found.

    Raises:
        InputError: If there are no weights, none below ``prefix``, two sets of weights that fit
            equally well, or a detector of mmdetection 1.x.
    """
    sets = list(_sets(content))
    if not sets:
        keys = ", ".join(map(repr, list(content)[:5])) or "nothing"
        raise InputError(f"{path} holds no weights, no tensors by name: its keys are {keys}")
    if prefix is not None:
        candidates = [c for place, tensors in sets for c in _below(place, tensors, prefix)]
        if not candidates:
            raise InputError(f"{path} holds no tensor whose name begins with {prefix}")
    else:
        candidates = [c for place, tensors in sets for c in _fitting(place, tensors, expected)]
        # Names such as norm1.weight are in blocks of many models.
        candidates = [c for c in candidates if c.count >= MIN_FIT * len(expected)]
    is_known = bool(candidates)
    meta, doubts = _meta(content)
    is_foreign = not {"mmengine_version", "mmcv_version"} & set(meta)
    if not is_known:
        candidates = [_whole(place, tensors, is_foreign) for place, tensors in sets]
    candidates.sort(key=lambda c: (c.rank, -c.count))
    best = max(c.count for c in candidates)
    close = [c for c in candidates if 2 * c.count >= best]
    chosen, others = close[0], close[1:]
    for other in others:
        alike = other.rank == chosen.rank and (other.count == chosen.count or not is_known)
        if alike:
            raise InputError(
                f"{path} holds several sets of weights that fit alike, {chosen.label} and "
                f"{other.label}: name one as the prefix of init_cfg=dict(type='Pretrained', "
                "checkpoint=..., prefix=...), or save a file with that one alone"
            )
    check_detector(meta, expected or chosen.tensors, path)
    state_dict, second, changes = in_new_form(chosen.tensors, expected)
    notes = (*_notes(chosen, others, not is_foreign), *describe_origin(meta), *changes, *doubts)
    return Weights(state_dict, meta, (*chosen.left_out, *second), notes)


def _sets(node: Any, place: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield (place, tensors by name) for each dict in the content of a file that holds tensors."""
    if not isinstance(node, dict) or not all(isinstance(key, str) for key in node):
        return
    tensors = OrderedDict((k, v) for k, v in node.items() if isinstance(v, Tensor))
    if tensors:
        if isinstance(metadata := getattr(node, "_metadata", None), dict):
            tensors._metadata = {  # type: ignore[attr-defined]
                module: each
                for module, each in metadata.items()
                if isinstance(module, str)
                and isinstance(each, dict)
                and isinstance(each.get("version"), int)
            }
        yield place, tensors
    if depth < MAX_DEPTH:
        seen: list[Any] = []  # the same dict under two keys counts once
        for key, value in node.items():
            if not STATE.search(key) and not any(value is other for other in seen):
                seen.append(value)
                yield from _sets(value, f"{place}.{key}".lstrip("."), depth + 1)


def _fitting(
    place: str, tensors: dict[str, Tensor], expected: Collection[str]
) -> Iterator[_Candidate]:
    """Yield a candidate for every prefix below which names are as expected."""
    own = {plain: name for name, plain in _plain_names(expected, ANYWHERE).items()}
    names = _plain_names(tensors, ANYWHERE)
    votes: Counter[str] = Counter()
    for name in names.values():
        parts = name.split(".")
        for i in range(len(parts)):
            if ".".join(parts[i:]) in own:
                votes["".join(f"{part}." for part in parts[:i])] += 1
    weights = {n: p for n, p in names.items() if p in own or not _is_counter(p, tensors[n])}
    for prefix, count in votes.items():
        yield _candidate(place, prefix, tensors, weights, count, own)


def _below(place: str, tensors: dict[str, Tensor], prefix: str) -> Iterator[_Candidate]:
    """Yield the candidate below a prefix of the names, or of the place and the names."""
    names = _plain_names(tensors, ANYWHERE)
    prefix = f"{prefix.removesuffix('.')}."
    plain = "".join(f"{part}." for part in prefix.split(".")[:-1] if part not in ANYWHERE)
    choices = [prefix, plain, _common_owner(names.values()) + plain]
    choices += [p.removeprefix(f"{place}.") for p in (prefix, plain) if p.startswith(f"{place}.")]
    for choice in choices:
        found = _candidate(place, choice, tensors, names)
        if found.tensors:
            yield found
            return


def _whole(place: str, tensors: dict[str, Tensor], is_foreign: bool) -> _Candidate:
    """Return all tensors of a dict, without wrappers, for a model that is not known.

    In a file of mmengine, ``model.`` belongs to the model: mmengine's trainer adds no such part. At
    the front of any name, ``module.`` is removed, as mmengine's loader does.
    """
    names = _plain_names(tensors, WRAPPERS)
    bare = {name: re.sub(rf"^({PARALLEL}\.)+", "", plain) for name, plain in names.items()}
    if len(set(bare.values())) == len(bare):
        names = bare
    weights = {n: p for n, p in names.items() if not _is_counter(p, tensors[n])}
    prefix = _common_owner(weights.values(), {PARALLEL, *(OWNERS if is_foreign else ())})
    return _candidate(place, prefix, tensors, weights)


def _candidate(
    place: str,
    prefix: str,
    tensors: dict[str, Tensor],
    names: dict[str, str],
    count: int | None = None,
    own: dict[str, str] | None = None,
) -> _Candidate:
    """Return the tensors below a prefix, by their names behind it.

    Args:
        place: See :class:`_Candidate`.
        prefix: Prefix of the plain names.
        tensors: Tensors by their names in the file.
        names: Plain names by names in the file; tensors that it lacks are no weights.
        count: Number of names that the model has; if None, of those that are found.
        own: Names in the model by plain names.
    """
    behind = {n: p.removeprefix(prefix) for n, p in names.items() if p.startswith(prefix)}
    found = OrderedDict((own.get(p, p) if own else p, tensors[n]) for n, p in behind.items())
    left_out = tuple(plain for name, plain in names.items() if name not in behind)
    removed = {
        part for name, plain in names.items() if name != plain
        for part in set(name.split(".")) - set(plain.split("."))
    }  # fmt: skip
    if hasattr(tensors, "_metadata"):  # versions of modules, of outer ones first
        plain_modules = {
            module: "".join(f"{part}." for part in module.split(".") if part not in {*removed, ""})
            for module in tensors._metadata
        }
        found._metadata = {  # type: ignore[attr-defined]
            plain.removeprefix(prefix).removesuffix("."): tensors._metadata[module]
            for module, plain in plain_modules.items() if plain.startswith(prefix)
        }  # fmt: skip
    count = len(found) if count is None else count
    return _Candidate(
        place, prefix, found, left_out, count, tuple(f"{p}." for p in sorted(removed, reverse=True))
    )


def _is_counter(name: str, tensor: Tensor) -> bool:
    return name in COUNTERS and tensor.numel() == 1


def _plain_names(names: Collection[str], wrappers: Collection[str]) -> dict[str, str]:
    """Return each name without the parts in ``wrappers``, or all as they are if two became one."""
    plain = {n: ".".join(part for part in n.split(".") if part not in wrappers) for n in names}
    return plain if len(set(plain.values())) == len(plain) else {n: n for n in names}


def _common_owner(names: Collection[str], owners: Collection[str] = (*OWNERS, PARALLEL)) -> str:
    """Return the longest prefix of owners that all names have, such as ``module.model.``."""
    prefix = ""
    while names:
        parts = {name.removeprefix(prefix).partition(".")[0] for name in names}
        if len(parts) != 1 or not parts <= set(owners):
            break
        prefix += f"{parts.pop()}."
    return prefix


def _notes(chosen: _Candidate, others: list[_Candidate], is_mmengine: bool) -> tuple[str, ...]:
    notes = []
    key = chosen.place.rpartition(".")[2]
    if chosen.is_averaged and key == "ema_state_dict" and is_mmengine:
        notes.append("weights of ema_state_dict, where mmengine's EMAHook keeps those not averaged")
    elif chosen.is_averaged:
        notes.append(f"EMA weights ({chosen.label})")
    elif key not in ("", "state_dict", "model"):
        notes.append(f"weights of {chosen.place}")
    parts = [f"{part}." for part in chosen.prefix.split(".") if part not in ("", "backbone")]
    if removed := list(dict.fromkeys([*chosen.removed, *parts])):
        notes.append(f"names without {', '.join(removed)}")
    for other in others:
        if is_mmengine and other.place == "ema_state_dict" and chosen.place == "state_dict":
            notes.append("averaged by mmengine's EMAHook")
        else:
            kind = "EMA weights are there as well" if other.is_averaged else "also there"
            notes.append(f"{kind}, not used: {other.label}")
    return tuple(notes)


def _meta(content: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the ``meta`` of a file, and notes; its ``dataset_meta`` has classes, or is absent.

    mmsegmentation 0.x and mmdetection 2.x keep CLASSES and PALETTE in ``meta`` itself, the palette
    of a dataset without one as a random array.
    """
    meta = content.get("meta", {})
    if not isinstance(meta, dict):
        return {}, ()
    given = meta.get("dataset_meta") or {k: meta[k] for k in ("CLASSES", "PALETTE") if k in meta}
    dataset_meta = {
        str(key).lower(): value.tolist() if isinstance(value, np.ndarray) else value
        for key, value in (given.items() if isinstance(given, dict) else ())
    }
    if isinstance(dataset_meta.get("classes"), str):
        dataset_meta["classes"] = (dataset_meta["classes"],)
    classes = dataset_meta.get("classes")
    if not isinstance(classes, (list, tuple)) or not classes:
        return {key: value for key, value in meta.items() if key != "dataset_meta"}, ()
    palette = dataset_meta.get("palette")
    doubts: tuple[str, ...] = ()
    if palette and not _is_palette(palette, len(classes)):
        del dataset_meta["palette"]
        doubts = ("its palette is not used, it has no RGB color for every class",)
    return {**meta, "dataset_meta": dataset_meta}, doubts


def _is_palette(palette: Any, num_classes: int) -> bool:
    """Return whether a palette has an RGB color, three integers in 0..255, for every class."""
    return isinstance(palette, (list, tuple)) and len(palette) >= num_classes and all(
        isinstance(color, (list, tuple))
        and len(color) == 3
        and all(type(value) is int and 0 <= value <= 255 for value in color)
        for color in palette
    )  # fmt: skip
