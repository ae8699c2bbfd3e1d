"""Checking what a checkpoint holds beside weights, before a training goes on with it.

PyTorch and mmengine take most of it as it comes, and fail iterations later.
"""

from collections import Counter
from numbers import Number

from mmengine.logging import HistoryBuffer
from mmengine.optim import OptimWrapper
from mmengine.runner import BaseLoop, EpochBasedTrainLoop
from torch import Tensor

from gfnet_dense.engine.state_keys import NOT_FINITE, VALIDATED

PARTS = {"meta", "message_hub", "optimizer"}  # of the checkpoint of a training


def check_progress(meta: dict, loop: BaseLoop) -> None:
    """Raise ValueError unless ``meta`` tells how far a training was, within the loop's end."""
    for key in ("epoch", "iter"):
        if type(meta.get(key)) is not int or meta[key] < 0:
            raise ValueError(f"its {key} is {meta.get(key)!r}")
    for key, kind in (("seed", int), ("dataset_meta", dict)):
        if not isinstance(meta.get(key), (kind, type(None))):
            raise ValueError(f"its {key} is a {type(meta[key]).__name__}")
    # With another number of GPUs an epoch has another number of iterations.
    key = "epoch" if isinstance(loop, EpochBasedTrainLoop) else "iter"
    end = loop.max_epochs if key == "epoch" else loop.max_iters
    if meta[key] > end:
        raise ValueError(f"it is of {key} {meta[key]}, the config trains {end}")


def check_like(given, own, where: str, extra: bool = False) -> None:
    """Raise ValueError unless a state can take the place of one's own.

    Args:
        given: The state of a checkpoint.
        own: The one of the object that is to take it.
        where: What error messages call it.
        extra: Whether dicts may have further keys.
    """
    if isinstance(own, Counter):
        fits = isinstance(given, dict) and all(isinstance(n, Number) for n in given.values())
    elif isinstance(own, dict):
        fits = isinstance(given, dict) and (extra or set(given) <= set(own))
        for key in set(own) & set(given) if fits else ():
            check_like(given[key], own[key], f"{where}.{key}", extra)
    elif isinstance(own, (list, tuple)):
        fits = isinstance(given, (list, tuple)) and len(given) == len(own)
        for i, pair in enumerate(zip(given, own, strict=True)) if fits else ():
            check_like(*pair, f"{where}.{i}", extra)
    elif isinstance(own, Tensor):
        fits = isinstance(given, Tensor) and given.shape == own.shape
    elif isinstance(own, Number):
        fits = isinstance(given, Number) and abs(given) < 2**53  # not NaN either
    elif isinstance(own, str):
        fits = given == own
    else:
        fits = own is None or isinstance(given, type(own))
    if not fits:
        raise ValueError(f"{where} is not what the config makes it")


def check_optimizer(given: dict, wrapper: OptimWrapper) -> None:
    """Raise ValueError unless the state of an optimizer belongs to its parameters."""
    own = wrapper.state_dict()
    states = given.pop("state", None) if isinstance(given, dict) else None
    own.pop("state")
    check_like(given, own, "optimizer", extra=True)
    for group, own_group in zip(given.get("param_groups", ()), own["param_groups"], strict=True):
        if not {"lr", "params"} <= set(group):
            raise ValueError("the optimizer's parameters have no learning rate")
        for key, value in own_group.items():  # an older PyTorch had fewer
            group.setdefault(key, value)
    parameters = [p for group in wrapper.optimizer.param_groups for p in group["params"]]
    numbers = [i for group in given["param_groups"] for i in group["params"]]
    by_number = dict(zip(numbers, parameters, strict=True))
    if not isinstance(states, dict) or not set(states) <= set(by_number):
        raise ValueError("the optimizer's state is not of its parameters")
    kinds = {}  # of the values by their name: all parameters have those of the first one
    for number, state in states.items():
        parameter = by_number[number]
        if not isinstance(state, dict) or set(state) != set(next(iter(states.values()))):
            raise ValueError(f"the optimizer's state of parameter {number} is not whole")
        for key, value in state.items():
            shape, dtype = getattr(value, "shape", ()), getattr(value, "dtype", None)
            kind = (type(value), dtype, parameter.ndim > 0 and shape == parameter.shape)
            if parameter.ndim > 0 and kinds.setdefault(key, kind) != kind:
                raise ValueError(f"the optimizer's {key} of parameter {number} is of another kind")
            if not isinstance(value, (Tensor, Number)) or shape not in ((), parameter.shape):
                raise ValueError(f"the optimizer's {key} of parameter {number} does not fit it")
    given["state"] = states


def check_hub(hub: dict) -> None:
    """Raise ValueError unless mmengine's message hub holds what is used of it."""
    kinds = {"log_scalars": HistoryBuffer, "runtime_info": object, "resumed_keys": bool}
    for name, kind in kinds.items():
        part = hub.get(name)
        if not isinstance(part, dict) or not all(isinstance(each, kind) for each in part.values()):
            raise ValueError(f"message_hub.{name} is not whole")
    for key, value in hub["runtime_info"].items():
        if not isinstance(key, str):
            raise ValueError(f"message_hub has the key {key!r}")
        if key.startswith("best_score") or key in (VALIDATED, NOT_FINITE):
            fits = isinstance(value, Number)
        elif key.startswith("best_ckpt") or key == "last_ckpt":
            fits = isinstance(value, str)
        elif key == "keep_ckpt_ids":
            fits = isinstance(value, list) and all(type(each) is int for each in value)
        else:
            fits = True
        if not fits:
            raise ValueError(f"message_hub.{key} is {value!r:.50}")
