"""Settings of a training that its checkpoints record: optimizers, schedules, processes, images.

mmengine's checkpoints hold the current values of optimizers and schedulers. Whether a value was set
or has been reached in training cannot be told from them: some optimizers keep their progress among
their options.
"""

from collections import Counter
from typing import Any

from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch import Tensor

from .state_keys import SETTINGS

# State of mmengine's schedulers that changes in training, or follows from the optimizer's options.
# Seen in onedl-mmengine 0.10.12.
REACHED = {
    "last_step", "_global_step", "_last_value", "base_values", "verbose",
    "best", "cooldown_counter", "num_bad_epochs",
}  # fmt: skip


def optim_wrappers(runner: Runner) -> dict[str, OptimWrapper]:
    """Return the optimizer wrappers of a training by name; the name of a lone one is empty."""
    wrapper = runner.optim_wrapper
    return dict(wrapper.items()) if isinstance(wrapper, OptimWrapperDict) else {"": wrapper}


def schedulers(runner: Runner) -> dict[str, list]:
    """Return the schedulers of each optimizer wrapper by its name."""
    given = runner.param_schedulers
    by_name = given if isinstance(given, dict) else {"": given or []}
    return {name: list(by_name.get(name, ())) for name in optim_wrappers(runner)}


def settings_of(runner: Runner) -> dict[str, Any]:
    """Return the settings of a training as plain data.

    Args:
        runner: Its optimizers and schedulers are built and have not made a step.

    Returns:
        A dict with the number of ``processes`` and ``images``, and under ``optimizers`` for each
        optimizer by name its ``type``, the options of its parameter ``groups``, and the
        ``schedulers``.
    """
    own = schedulers(runner)
    return dict(
        processes=runner.world_size,
        images=len(runner.train_dataloader.dataset),
        optimizers={
            name: dict(
                type=type(wrapper.optimizer).__name__,
                groups=[group_options(group) for group in wrapper.optimizer.param_groups],
                schedulers=[
                    dict(type=type(each).__name__, **scheduler_options(each.state_dict()))
                    for each in own[name]
                ],
            )
            for name, wrapper in optim_wrappers(runner).items()
        },
    )


def recorded_settings(meta: dict) -> dict[str, Any]:
    """Return the settings in the ``meta`` of a checkpoint; without a record an empty dict.

    Raises:
        ValueError: If they are damaged.
    """
    recorded = _plain(meta.get(SETTINGS))
    if recorded is not None and not _is_record(recorded):
        raise ValueError("its record of the settings is damaged")
    return recorded or {}


def settings_in(checkpoint: dict, wrappers: dict[str, OptimWrapper]) -> dict[str, Any]:
    """Return the settings of a training as far as they can be told from the states it has saved.

    Checkpoints of other libraries and of earlier versions have no record.

    Args:
        checkpoint: The checkpoint; its ``optimizer`` has been checked.
        wrappers: See :func:`optim_wrappers`.
    """
    optimizers = {}
    for name, wrapper in wrappers.items():
        state = checkpoint["optimizer"].get(name, {}) if name else checkpoint["optimizer"]
        states = checkpoint.get("param_schedulers")
        states = states.get(name) if isinstance(states, dict) else states
        options = [group_options(group) for group in state["param_groups"]]
        if not type(wrapper.optimizer).__module__.startswith("torch.optim"):
            # Its other options may be values that it has reached.
            options = [{key: group[key] for key in ("lr",) if key in group} for group in options]
        if any(each.get("param_name") == "momentum" for each in states or ()):
            options = [{k: v for k, v in group.items() if k != "betas"} for group in options]
        optimizers[name] = dict(
            groups=options, schedulers=[scheduler_options(each) for each in states or ()]
        )
    return dict(optimizers=optimizers)


def group_options(group: dict) -> dict[str, Any]:
    """Return the options of a parameter group; for those that are scheduled, the initial values."""
    options = {}
    for key, value in group.items():
        if key not in ("params", "param_names") and not key.startswith("initial_"):
            options[key] = _plain(group.get(f"initial_{key}", value))
    return options


def scheduler_options(state: dict) -> dict[str, Any]:
    """Return what the config decides in the state of a scheduler."""
    return {key: _plain(value) for key, value in state.items() if key not in REACHED}


def drop_functions(states: Any) -> None:
    """Remove functions from states of schedulers, in place: OneCycle's are no data.

    Loading a state keeps the functions that the scheduler was built with.
    """
    for state in states.values() if isinstance(states, dict) else states or ():
        if isinstance(state, list):
            drop_functions(state)
        else:
            for key in [key for key, value in state.items() if callable(value)]:
                del state[key]


def _plain(value: Any) -> Any:
    """Return a setting as plain data, equal for equal settings."""
    if isinstance(value, Counter):
        return sorted(value.elements())
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, Tensor):
        return value.tolist()
    if callable(value):
        return getattr(value, "__name__", str(value))
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)


def _is_record(node: Any) -> bool:
    """Return whether recorded settings have the structure that :func:`settings_of` gives them."""
    if not isinstance(node, dict) or not isinstance(node.get("optimizers"), dict):
        return False
    lists = [
        each.get(key) if isinstance(each, dict) else None
        for each in node["optimizers"].values()
        for key in ("groups", "schedulers")
    ]
    return all(
        isinstance(items, list) and all(isinstance(item, dict) for item in items) for items in lists
    )
