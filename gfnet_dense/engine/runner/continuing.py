"""Continuing a training under a config that differs from the checkpoint's.

One rule holds: the checkpoint gives weights, the state of the optimizer and the progress; the
config decides about everything else, as if it had been so from the start. Differences are listed.
"""

import warnings
from collections.abc import Iterable, Iterator
from typing import Any

from mmengine.hooks import EMAHook
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner

from gfnet_dense.engine.settings import (
    REACHED,
    optim_wrappers,
    recorded_settings,
    schedulers,
    settings_in,
    settings_of,
)
from gfnet_dense.engine.state_keys import AVERAGES
from gfnet_dense.utils.config_diff import ABSENT, diff_configs

from .config_text import parse_config_text
from .epochs import place_in_epochs
from .resume_checks import check_hub, check_like, check_optimizers, check_progress, check_step

# What is read of a config's text. The rest of a config are the parts from which these are made,
# places of files, and what is compared by its effect: optimizer and schedules.
SECTIONS = (
    "model", "data_preprocessor", "train_dataloader", "val_dataloader", "val_evaluator", "val_cfg",
    "train_cfg", "optim_wrapper", "default_hooks", "custom_hooks", "randomness", "env_cfg",
)  # fmt: skip
BY_EFFECT = ("optim_wrapper.optimizer", "optim_wrapper.paramwise_cfg", "randomness.seed")
# Options that mmengine's schedulers derive from ``end`` and others.
DERIVED = {"total_iters", "total_steps", "_schedule_phases", "cumulative_periods", "min_values"}
# Settings of PyTorch's GradScaler; its scale is progress.
SCALER = ("growth_factor", "backoff_factor", "growth_interval")
MOST_LINES = 30  # differences that are listed


def fit(checkpoint: dict, runner: Runner) -> list[str]:
    """Check that a checkpoint can be resumed from, and give it the config's settings, in place.

    Args:
        checkpoint: A checkpoint with the keys :data:`.resume_checks.PARTS`.
        runner: Its loop, optimizers and schedulers are built and have not made a step.

    Returns:
        A line for each difference between the checkpoint and the config, with both values.

    Raises:
        ValueError: If the training cannot go on from the checkpoint under this config.
    """
    check_progress(checkpoint["meta"], runner.train_loop)
    check_hub(checkpoint["message_hub"])
    wrappers = optim_wrappers(runner)
    recorded = recorded_settings(checkpoint["meta"])
    classes = {name: each.get("type") for name, each in recorded.get("optimizers", {}).items()}
    check_optimizers(checkpoint["optimizer"], wrappers, classes)
    lines = _adopt_place(checkpoint["meta"], runner.train_loop)
    lines += _adopt_settings(checkpoint, runner, recorded or settings_in(checkpoint, wrappers))
    if "param_schedulers" in checkpoint and runner.param_schedulers is not None:
        own = {
            name: [each.state_dict() for each in some] for name, some in schedulers(runner).items()
        }
        check_like(checkpoint["param_schedulers"], own.get("", own), "param_schedulers")
    averages = [any(isinstance(each, EMAHook) for each in runner.hooks), AVERAGES in checkpoint]
    if averages[0] != averages[1]:
        lines.append(
            _line(
                "averages of the weights", *("kept" if each else "none" for each in averages[::-1])
            )
        )
    return lines + list(_text_differences(checkpoint["meta"].get("cfg"), runner.cfg.pretty_text))


def describe(name: str, lines: list[str]) -> str:
    """Return the message about the differences between the checkpoint ``name`` and the config."""
    more = [f"and {len(lines) - MOST_LINES} more"] if len(lines) > MOST_LINES else []
    return "\n  ".join(
        [
            f"the config differs from that of {name}: weights, state of the optimizer and progress "
            "are those of the checkpoint, the config decides about the rest",
            *lines[:MOST_LINES],
            *more,
        ]
    )


def _adopt_settings(checkpoint: dict, runner: Runner, before: dict) -> list[str]:
    """Give a checkpoint, with the settings ``before``, the config's; return the differences."""
    lines, settings, found_parts = [], settings_of(runner), set(checkpoint)
    for key in ("processes", "images"):
        if key in before and before[key] != settings[key]:
            lines.append(_line(f"number of {key}", before[key], settings[key]))
    for name, wrapper in optim_wrappers(runner).items():
        old, now = before["optimizers"].get(name, {}), settings["optimizers"][name]
        state = checkpoint["optimizer"][name] if name else checkpoint["optimizer"]
        options = list(_group_differences(old.get("groups", []), now["groups"]))
        schedule = list(_schedule_differences(old.get("schedulers", []), now["schedulers"]))
        found = [*_merged(options, len(now["groups"])), *(line for _, line in schedule)]
        lines += [f"{name}.{line}" if name else line for line in found]
        changed = {key for key, *_ in options}
        scheduled = {str(each.get("param_name")) for each in now["schedulers"]}
        # CheckpointHook(save_param_scheduler=False) leaves their states out.
        is_missing = bool(now["schedulers"]) and "param_schedulers" not in found_parts
        if schedule or changed & scheduled or is_missing:
            changed |= _adopt_schedule(checkpoint, runner, name, changed & scheduled, schedule)
        if changed:
            _adopt_options(state, wrapper.state_dict(), changed)
            check_step(state, wrapper)
        lines += _adopt_scaler(state, wrapper.state_dict())
    return lines


def _adopt_place(meta: dict, loop: BaseLoop) -> list[str]:
    if not isinstance(loop, EpochBasedTrainLoop):
        return []
    before = meta["epoch"], meta["iter"]
    length = len(loop.dataloader)
    meta["epoch"], meta["iter"] = now = place_in_epochs(*before, length)
    if now[0] > loop.max_epochs:
        raise ValueError(f"it is of epoch {now[0]}, the config trains {loop.max_epochs}")
    if before == now:
        return []
    place = "epoch {}, iteration {}".format
    return [_line(f"place, of {length} iterations in an epoch now", place(*before), place(*now))]


def _group_differences(old: list[dict], now: list[dict]) -> Iterator[tuple[str, Any, Any]]:
    """Yield (option, value before, value now) for the options that both have, group by group."""
    for before, after in zip(old, now, strict=False):
        for key in after:
            if key in before and before[key] != after[key]:
                yield key, before[key], after[key]


def _merged(found: list[tuple[str, Any, Any]], count: int) -> Iterator[str]:
    """Yield a line for each option that differs, with the values of the first group."""
    for option in dict.fromkeys(key for key, *_ in found):
        values = [(old, new) for key, old, new in found if key == option]
        where = f", in {len(values)} of {count} groups of parameters" if count > 1 else ""
        yield _line(option, *values[0]) + where


def _schedule_differences(old: list[dict], now: list[dict]) -> Iterator[tuple[int, str]]:
    """Yield (index of the scheduler, line) for each difference; the index is -1 for all of them."""
    names = [[str(each.get("type", "unnamed")) for each in side] for side in (old, now)]
    alike = [
        b.get("type", a["type"]) == a["type"] and a.keys() - b.keys() <= {"type"}
        for b, a in zip(old, now, strict=False)
    ]
    if len(old) != len(now) or not all(alike):
        yield -1, _line("schedules", *(", ".join(side) or "none" for side in names))
        return
    for i, (before, after) in enumerate(zip(old, now, strict=True)):
        found = [each for each in diff_configs(before, after) if ABSENT not in each[1:]]
        told = [each for each in found if each[0].partition(".")[0] not in DERIVED]
        for key, a, b in told or found:
            yield i, _line(f"schedule {i}, {after['type']}: {key.lstrip('_')}", a, b)


def _adopt_schedule(
    checkpoint: dict, runner: Runner, name: str, options: set[str], differences: list
) -> set[str]:
    """Give a checkpoint the state that the config's schedulers would have reached, in place.

    Returns:
        Options of the parameter groups whose values have changed with it.
    """
    own = schedulers(runner)[name]
    states: Any = checkpoint.get("param_schedulers")
    states = states.get(name) if isinstance(states, dict) else states
    waiting = {i for i, each in enumerate(own) if getattr(each, "need_val_args", False)}
    if waiting and states is None:
        raise ValueError("its schedules are missing, and one depends on the validations so far")
    if waiting and {i for i, _ in differences} <= waiting and not options:
        # Only what happens at the next validations differs. The states have as many entries.
        for i in waiting:
            now = own[i].state_dict()
            states[i].update({key: now[key] for key in now if key not in REACHED})
        return set()
    if waiting:
        differs = differences[0][1] if differences else ", ".join(sorted(options))
        raise ValueError(
            f"its schedule differs ({differs}), and a {type(own[min(waiting)]).__name__} cannot be "
            "computed for another schedule, since it depends on the validations so far"
        )
    loop, meta = runner.train_loop, checkpoint["meta"]
    is_epochs = isinstance(loop, EpochBasedTrainLoop)
    replay(own, meta["epoch"], meta["iter"], len(loop.dataloader) if is_epochs else None)
    reached = [each.state_dict() for each in own]
    if name:
        checkpoint["param_schedulers"] = {**checkpoint.get("param_schedulers", {}), name: reached}
    else:
        checkpoint["param_schedulers"] = reached
    olds = {each.get("param_name") for each in states or ()}
    return {each.param_name for each in own} | {str(each) for each in olds}


def replay(own: Iterable[Any], epoch: int, iteration: int, length: int | None = None) -> None:
    """Step schedulers as a training up to an iteration would have stepped them.

    mmengine's schedulers compute a value from the one before, so there is no shorter way.

    Args:
        own: Schedulers that have made no step.
        epoch: Number of complete epochs.
        iteration: Number of iterations.
        length: Number of iterations in an epoch; None for a loop that counts iterations alone.
    """
    by_iteration = [each for each in own if not each.by_epoch]
    by_epoch = [each for each in own if each.by_epoch]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no step of the optimizer comes before these
        for done in range(1, iteration + 1):
            for scheduler in by_iteration:
                scheduler.step()
            if length and done % length == 0 and done // length <= epoch:
                for scheduler in by_epoch:
                    scheduler.step()


def _adopt_options(state: dict, own: dict, changed: set[str]) -> None:
    """Give the parameter groups in the state of an optimizer the options of its own state."""
    pairs = list(zip(state["param_groups"], own["param_groups"], strict=True))
    if "base_param_settings" in state and "base_param_settings" in own:
        pairs.append((state["base_param_settings"], own["base_param_settings"]))
    keys = changed | {f"initial_{key}" for key in changed}
    if "momentum" in changed:
        keys.add("betas")  # mmengine's momentum schedulers set both
    for group, own_group in pairs:
        for key in keys:
            group.pop(key, None)
            if key in own_group:
                group[key] = own_group[key]


def _adopt_scaler(state: dict, own: dict) -> list[str]:
    given, now = state.get("loss_scaler"), own.get("loss_scaler")
    if not isinstance(given, dict) or not isinstance(now, dict):
        sides = ["none" if each is None else "one" for each in (given, now)]
        return [_line("loss scaler", *sides)] if sides[0] != sides[1] else []
    found = [key for key in SCALER if key in given and key in now and given[key] != now[key]]
    lines = [_line(f"loss scaler: {key}", given[key], now[key]) for key in found]
    given.update({key: now[key] for key in found})
    return lines


def _text_differences(old: object, new: str) -> Iterator[str]:
    """Yield a line for each difference of two configs beyond optimizer and schedules."""
    before, after = parse_config_text(old), parse_config_text(new)
    if not before or not after:
        return
    old_parts, new_parts = (
        {k: v for k, v in side.items() if k in SECTIONS} for side in (before, after)
    )
    for side in (old_parts, new_parts):  # where a config has none, --resume sets the checkpoint's
        randomness = side.get("randomness")
        if isinstance(randomness, dict) and not randomness.keys() - {"seed"}:
            del side["randomness"]
    for key, a, b in diff_configs(old_parts, new_parts):
        if not key.startswith(BY_EFFECT):
            yield _line(key, a, b)


def _line(what: str, old: object, new: object) -> str:
    return f"{what}: {_short(old)} in the checkpoint, {_short(new)} now"


def _short(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
