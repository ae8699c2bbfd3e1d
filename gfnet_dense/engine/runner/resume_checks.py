"""Checks of the training state in a checkpoint (all but its weights) before it is resumed.

PyTorch and mmengine accept most wrong states, and fail some iterations later.
"""

import cmath
import copy
import inspect
from collections import Counter
from numbers import Number
from typing import Any

from mmengine.logging import HistoryBuffer
from mmengine.optim import OptimWrapper
from mmengine.runner import BaseLoop, EpochBasedTrainLoop
from torch import Tensor, nn, zeros_like
from torch.optim import SGD, Adam, AdamW

from gfnet_dense.engine.state_keys import NOT_FINITE, REQUESTED, VALIDATED

PARTS = {"meta", "message_hub", "optimizer"}  # keys that a checkpoint needs to be resumed from
KNOWN = (SGD, Adam, AdamW)  # optimizers whose state holds numbers and tensors like the parameter


def check_progress(meta: dict, loop: BaseLoop) -> None:
    """Raise ValueError unless ``meta`` has a valid epoch and iteration, at most the loop's end."""
    for key in ("epoch", "iter"):
        if type(meta.get(key)) is not int or meta[key] < 0:
            raise ValueError(f"its {key} is {meta.get(key)!r}")
    for key, kind in (("seed", int), ("dataset_meta", dict)):
        if not isinstance(meta.get(key), (kind, type(None))):
            raise ValueError(f"its {key} is a {type(meta[key]).__name__}")
    # A loop of epochs has no fixed number of iterations: it depends on the number of GPUs.
    key = "epoch" if isinstance(loop, EpochBasedTrainLoop) else "iter"
    end = loop.max_epochs if key == "epoch" else loop.max_iters
    if meta[key] > end:
        raise ValueError(f"it is of {key} {meta[key]}, the config trains {end}")


def check_like(given: Any, own: Any, where: str, extra: bool = False) -> None:
    """Raise ValueError unless a state is of the same structure as the state it will replace.

    Dicts have the same keys or fewer, sequences the same length, tensors the same shape; texts are
    equal, other values are of the same type. A value that replaces None may be anything.

    Args:
        given: State in the checkpoint: nested dicts, lists, tensors, numbers and texts.
        own: Current state of the object that will load it.
        where: Name of the state in the error message.
        extra: Whether dicts in ``given`` may have keys that ``own`` lacks.
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
        # NaN is refused too. Number declares no methods, so mypy does not know its abs.
        fits = isinstance(given, Number) and abs(given) < 2**53  # type: ignore[arg-type]
    elif isinstance(own, str):
        fits = given == own
    else:
        fits = own is None or isinstance(given, type(own))
    if not fits:
        raise ValueError(f"{where} is not what the config makes it")


def check_optimizers(given: dict, wrappers: dict[str, OptimWrapper], classes: dict) -> None:
    """Raise ValueError unless the states of all optimizers fit their parameters.

    Args:
        given: The state in the checkpoint.
        wrappers: The wrappers that will load it by name, see :func:`.settings.optim_wrappers`.
        classes: Names of the optimizer classes in the checkpoint, as far as they are known.
    """
    if "" not in wrappers and (not isinstance(given, dict) or set(given) != set(wrappers)):
        raise ValueError(f"its optimizers are not those of the config: {', '.join(wrappers)}")
    for name, wrapper in wrappers.items():
        now = type(wrapper.optimizer).__name__
        if classes.get(name, now) != now:
            raise ValueError(f"its optimizer is {classes[name]}, the config's {now}")
        check_optimizer(given[name] if name else given, wrapper)


def check_optimizer(given: dict, wrapper: OptimWrapper) -> None:
    """Raise ValueError unless the state of an optimizer fits its parameters.

    Options of a parameter group that the state lacks are added to it in place, with their current
    values: a state that an older PyTorch wrote has fewer. The state of each parameter is checked in
    full for the optimizers of :data:`KNOWN`. Others may keep anything: their numbers are finite,
    and whether the state fits decides the optimizer.

    Args:
        given: The state in the checkpoint.
        wrapper: The wrapper whose optimizer will load it.
    """
    own = wrapper.state_dict()
    if not isinstance(given, dict) or not isinstance(given.get("param_groups"), list):
        raise ValueError("the optimizer is not what the config makes it")
    _check_groups(given["param_groups"], own["param_groups"])
    unknown = {"state", "param_groups"}  # keys whose values are not compared here
    if _is_pytorchs(wrapper.optimizer):
        _check_options(given["param_groups"], own["param_groups"], type(wrapper.optimizer))
    else:
        unknown.add("base_param_settings")
    for key in (own.keys() & given.keys()) - unknown:
        check_like(given[key], own[key], f"optimizer.{key}", extra=True)
    for group, own_group in zip(given["param_groups"], own["param_groups"], strict=True):
        for key, value in own_group.items():
            group.setdefault(key, value)
    parameters = [p for group in wrapper.optimizer.param_groups for p in group["params"]]
    numbers = [i for group in given["param_groups"] for i in group["params"]]
    by_number = dict(zip(numbers, parameters, strict=True))
    states = given.get("state")
    if not isinstance(states, dict) or not set(states) <= set(by_number):
        raise ValueError("the optimizer's state is not of its parameters")
    for number, state in states.items():
        if not _is_finite(state):
            raise ValueError(f"the optimizer's state of parameter {number} is not finite")
    if type(wrapper.optimizer) in KNOWN:
        _check_states(states, by_number)


def check_step(given: dict, wrapper: OptimWrapper) -> None:
    """Raise ValueError if options need an entry of the state that a checkpoint does not have.

    Such are the maxima that ``amsgrad=True`` of Adam keeps. For each group an optimizer of the same
    class makes a step with a parameter of zeros. Only optimizers of PyTorch are tried.

    Args:
        given: The state in the checkpoint, checked, with the options that it will have.
        wrapper: The wrapper whose optimizer will load it.
    """
    if not _is_pytorchs(wrapper.optimizer):
        return
    pairs = zip(given["param_groups"], wrapper.optimizer.param_groups, strict=True)
    for group, own_group in pairs:
        numbers = zip(group["params"], own_group["params"], strict=True)
        found = [(given["state"][n], p) for n, p in numbers if given["state"].get(n)]
        if not found:
            continue
        state, parameter = found[0]
        tried = nn.Parameter(zeros_like(parameter))
        tried.grad = zeros_like(tried)
        optimizer = type(wrapper.optimizer)([{**group, "params": [tried]}])
        groups = [{**group, "params": [0]}]
        optimizer.load_state_dict(dict(state={0: copy.deepcopy(state)}, param_groups=groups))
        try:
            optimizer.step()
        except KeyError as e:
            raise ValueError(
                f"its optimizer has no {e.args[0]}, which the config's options need"
            ) from e


def _is_pytorchs(optimizer: Any) -> bool:
    return type(optimizer).__module__.startswith("torch.optim")


def _check_options(given: list[dict], own: list[dict], cls: type) -> None:
    """Raise ValueError unless the options of all groups are of the kind of the optimizer's own.

    The defaults of the class fit, too: that of ``fused`` is None.
    """
    defaults = {key: each.default for key, each in inspect.signature(cls).parameters.items()}
    for i, (group, own_group) in enumerate(zip(given, own, strict=True)):
        for key in group.keys() & own_group.keys():
            if isinstance(group[key], Tensor) or group[key] != defaults.get(key, ...):
                where = f"optimizer.param_groups.{i}.{key}"
                check_like(group[key], own_group[key], where, extra=True)


def _check_groups(given: list, own: list[dict]) -> None:
    """Raise ValueError unless groups have the same numbers of parameters, and learning rates."""
    if not all(isinstance(each, dict) and isinstance(each.get("params"), list) for each in given):
        raise ValueError("optimizer.param_groups is not what the config makes it")
    counts, own_counts = ([len(group["params"]) for group in side] for side in (given, own))
    if counts != own_counts:
        sides = (f"{len(each)} groups with {sum(each)} parameters" for each in (counts, own_counts))
        raise ValueError(f"its optimizer has {next(sides)}, the config's {next(sides)}")
    if not all({"lr", "params"} <= set(group) for group in given):
        raise ValueError("the optimizer's parameters have no learning rate")


def _check_states(states: dict, by_number: dict[int, Tensor]) -> None:
    """Raise ValueError unless all parameters have the same kind of state, which fits them."""
    # By name of a value: type, dtype, and whether it has the parameter's shape. The first
    # parameter decides, all others have to be like it.
    kinds: dict[str, tuple[type, Any, bool]] = {}
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


def _is_finite(node: Any) -> bool:
    """Return whether all numbers in nested containers are finite."""
    if isinstance(node, dict):
        return all(_is_finite(each) for each in node.values())
    if isinstance(node, (list, tuple)):
        return all(_is_finite(each) for each in node)
    if isinstance(node, Tensor):
        return bool(node.isfinite().all())
    return not isinstance(node, (float, complex)) or cmath.isfinite(node)


def check_hub(hub: dict) -> None:
    """Raise ValueError unless the state of mmengine's message hub has valid parts and values."""
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
        elif key.startswith("best_ckpt") or key in ("last_ckpt", REQUESTED):
            fits = isinstance(value, str)
        elif key == "keep_ckpt_ids":
            fits = isinstance(value, list) and all(type(each) is int for each in value)
        else:
            fits = True
        if not fits:
            raise ValueError(f"message_hub.{key} is {value!r:.50}")
