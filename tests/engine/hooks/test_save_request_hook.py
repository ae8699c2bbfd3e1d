"""Checkpoints on request, and trainings that are asked to stop at any place."""

from unittest.mock import Mock

import pytest
import torch
from mmengine.hooks import Hook

from gfnet_dense.engine.hooks.save_request_hook import SaveRequestHook, Stopped
from gfnet_dense.utils.errors import InputError
from tests.torture.test_kills import differences, state_of
from tests.toy import toy_runner


class AskHook(Hook):
    """Hook that asks at a place of the training, as a signal would."""

    def __init__(self, request, place, at, stop=True):
        self.request, self.at, self.stop = request, at, stop
        setattr(self, place, self.ask)

    def ask(self, runner, *args, **kwargs):
        if runner.iter == self.at:
            self.at = None  # once
            self.request(self.stop)


def asked(folder, place, at, stop=True, **settings):
    """Train until a request is answered, as the command does; return the names of checkpoints."""
    runner = toy_runner(folder, **settings)
    hook = SaveRequestHook()
    runner.register_hook(hook)
    runner.register_hook(AskHook(hook.request, place, at, stop), priority="NORMAL")
    if stop:
        with pytest.raises(Stopped):
            runner.train()
        hook.save_if_whole(runner)
    else:
        runner.train()
    return sorted(path.name for path in folder.glob("*.pth"))


PLACES = [  # place and iteration of a request to stop, name of the checkpoint that is saved
    ("before_train_iter", 4, "iter_5.pth"),
    ("after_train_iter", 4, "iter_5.pth"),
    ("before_val", 4, "iter_4.pth"),
    ("before_val_epoch", 4, "iter_4.pth"),
    ("before_val_iter", 4, "iter_4.pth"),
    ("after_val_iter", 4, "iter_4.pth"),
    ("after_val_epoch", 4, "iter_5.pth"),
    ("after_val", 4, "iter_5.pth"),
    ("before_train_iter", 0, "iter_1.pth"),
    ("after_train_iter", 9, "iter_10.pth"),
]
KINDS = {
    "iterations": dict(max_iters=10, interval=99),
    "averages": dict(max_iters=10, interval=99, hooks=[dict(type="EMAHook")]),
    "checkpoint there": dict(max_iters=10, interval=4),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The ends of uninterrupted trainings."""
    folder = tmp_path_factory.mktemp("whole")
    for kind, settings in KINDS.items():
        toy_runner(folder / kind, val=True, **settings).train()
    return {kind: state_of(folder / kind / "iter_10.pth") for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place, at, name", PLACES, ids=[f"{p}-{at}" for p, at, _ in PLACES])
def test_training_asked_to_stop_loses_no_iteration(place, at, name, kind, whole, tmp_path):
    settings = dict(val=True, **KINDS[kind])
    assert asked(tmp_path, place, at, **settings) == [name]
    assert (tmp_path / "last_checkpoint").read_text() == str(tmp_path / name)
    toy_runner(tmp_path, resume=tmp_path / name, **settings).train()
    assert not differences(whole[kind], state_of(tmp_path / "iter_10.pth"))


@pytest.mark.parametrize("at", [3, 7, 10, 15])
def test_training_of_epochs_asked_to_stop_loses_no_iteration(at, tmp_path):
    """The epochs have eight iterations. The checkpoint out of turn goes with the next epoch's."""
    schedule = [
        dict(type="PolyLR", by_epoch=False, end=99),
        dict(type="ExponentialLR", gamma=0.5),
    ]
    settings = dict(max_epochs=3, val=True, param_scheduler=schedule)
    toy_runner(tmp_path / "whole", **settings).train()
    folder = tmp_path / "asked"
    name = f"iter_{at + 1}.pth"
    assert name in asked(folder, "before_train_iter", at, **settings)
    toy_runner(folder, resume=folder / name, **settings).train()
    assert [path.name for path in folder.glob("*.pth")] == ["epoch_3.pth"]
    assert not differences(*(state_of(tmp_path / f / "epoch_3.pth") for f in ("whole", "asked")))


def test_request_before_the_first_iteration_stops_at_once(tmp_path):
    assert asked(tmp_path, "before_run", 0) == []


def test_checkpoint_on_request_is_saved_once_and_the_training_goes_on(tmp_path):
    settings = dict(max_iters=8, interval=99, max_keep_ckpts=-1)
    assert asked(tmp_path, "before_train_iter", 2, stop=False, **settings) == [
        "iter_3.pth", "iter_8.pth",
    ]  # fmt: skip


def test_checkpoint_on_request_counts_like_the_others(tmp_path):
    settings = dict(max_iters=8, interval=3, max_keep_ckpts=2)
    assert asked(tmp_path, "before_train_iter", 6, stop=False, **settings) == [
        "iter_7.pth", "iter_8.pth",
    ]  # fmt: skip


WAITS = {
    "accumulated gradients": (dict(optim_wrapper=dict(accumulative_counts=4)), "iter_8.pth"),
    "losses that are not finite": (dict(model=dict(infinite_loss_at=[6, 7])), "iter_8.pth"),
}


@pytest.mark.parametrize("what", WAITS)
def test_checkpoint_on_request_waits_for_a_state_that_is_whole(what, tmp_path):
    settings, name = WAITS[what]
    assert asked(tmp_path, "before_train_iter", 5, max_iters=12, interval=99, **settings) == [name]


def test_nothing_is_saved_if_an_iteration_is_broken_off(tmp_path):
    runner = toy_runner(tmp_path, max_iters=8, interval=99)
    hook = SaveRequestHook()
    runner.register_hook(hook)
    runner.register_hook(BreakHook())
    with pytest.raises(KeyboardInterrupt):
        runner.train()
    hook.save_if_whole(runner)
    assert not list(tmp_path.glob("*.pth"))


class BreakHook(Hook):
    def after_train_iter(self, runner, *args, **kwargs):
        if runner.iter == 5:
            raise KeyboardInterrupt


def test_an_error_while_saving_is_raised_and_leaves_no_file(tmp_path, monkeypatch):
    """The disk is full, or something cannot be pickled: mmengine's save fails in both ways."""
    errors = [(OSError(28, "No space left"), InputError), (ValueError("x"), ValueError)]
    for error, expected in errors:
        with monkeypatch.context() as patch:
            # A function here would count as the user's own code, whose errors stay what they are.
            patch.setattr(torch, "save", Mock(side_effect=error))
            with pytest.raises(expected, match="No space left|x"):
                toy_runner(tmp_path, max_iters=2).train()
        assert not list(tmp_path.glob("*.pth")) and not list(tmp_path.glob(".*.part"))
