"""Checkpoints of a training that stops at a bad moment."""

import shutil
from pathlib import Path

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.hooks import Hook

from gfnet_dense.checkpoint.safe_reader import read_checkpoint
from gfnet_dense.engine.hooks import checkpoint_hook as resume
from gfnet_dense.engine.runner.preparation import prepare_training
from gfnet_dense.engine.runner.resuming import newest_checkpoint
from gfnet_dense.engine.state_keys import NOT_FINITE, VALIDATED
from gfnet_dense.utils.errors import InputError
from tests.torture.test_kills import differences, state_of
from tests.toy import toy_runner


def names(folder, pattern="*.pth"):
    return sorted(path.name for path in folder.glob(pattern))


class Stopped(Exception):
    pass


def stop_at(runner, name):
    """Let a training stop before a file of this name is written."""
    save = runner.save_checkpoint

    def stopping(out_dir, filename, *args, **kwargs):
        if filename == name:
            raise Stopped
        save(out_dir, filename, *args, **kwargs)

    runner.save_checkpoint = stopping
    with pytest.raises(Stopped):
        runner.train()


ACCUMULATING = dict(optim_wrapper=dict(accumulative_counts=4), interval=3)
RUNS = {  # settings, the last checkpoint, those to resume from
    "iterations": (dict(max_iters=12), "iter_12", ["iter_2", "iter_4", "iter_6"]),
    "epochs": (dict(max_epochs=3), "epoch_3", ["epoch_1", "epoch_2"]),
    "workers": (dict(max_epochs=3, num_workers=2), "epoch_3", ["epoch_2"]),
    "not shuffled": (dict(max_iters=12, shuffle=False), "iter_12", ["iter_6"]),
    # Due at 3, 6, 9; written when the window of four is full.
    "accumulating": (dict(max_iters=16, **ACCUMULATING), "iter_16", ["iter_4", "iter_8"]),
    "averaging": (dict(max_iters=12, hooks=[dict(type="EMAHook")]), "iter_12", ["iter_4"]),
}


@pytest.mark.parametrize("kind", RUNS)
def test_resumed_training_ends_as_a_whole_one(kind, tmp_path):
    settings, last, starts = RUNS[kind]
    toy_runner(tmp_path / "whole", max_keep_ckpts=-1, val=True, **settings).train()
    expected = state_of(tmp_path / "whole" / f"{last}.pth")
    for start in starts:
        folder = tmp_path / start
        stop_after(toy_runner(folder, val=True, **settings), f"{start}.pth")
        assert names(folder) == [f"{start}.pth"]
        toy_runner(folder, resume=folder / f"{start}.pth", val=True, **settings).train()
        assert not differences(expected, state_of(folder / f"{last}.pth"))
        assert names(folder) == [f"{last}.pth"]


def stop_after(runner, name):
    """Let a training stop once a file of this name is written, and named as the last one."""
    runner.register_hook(_StopHook(name), priority="LOWEST")
    with pytest.raises(Stopped):
        runner.train()


class _StopHook(Hook):
    def __init__(self, name):
        self.name = name

    def after_train_iter(self, runner, *args, **kwargs):
        if (Path(runner.work_dir) / self.name).exists():
            raise Stopped

    after_train_epoch = after_train_iter


def test_the_last_checkpoint_stays_until_the_next_is_whole(tmp_path):
    stop_at(toy_runner(tmp_path), "iter_4.pth")
    assert names(tmp_path) == ["iter_2.pth"]


def test_the_best_checkpoint_stays_until_the_next_is_whole(tmp_path):
    """Later ones are better for this metric and seed, as the first lines make sure."""
    settings = dict(val=True, save_best="mean", rule="greater")
    toy_runner(tmp_path / "all", **settings).train()
    assert names(tmp_path / "all", "best*") == ["best_mean_iter_8.pth"]
    stop_at(toy_runner(tmp_path / "stopped", **settings), "best_mean_iter_8.pth")
    assert names(tmp_path / "stopped") == ["best_mean_iter_4.pth", "iter_8.pth"]


def test_each_of_several_best_checkpoints_stays_until_the_next_is_whole(tmp_path):
    settings = dict(val=True, save_best=["mean", "negative"], rule="greater")
    stop_at(toy_runner(tmp_path, **settings), "best_mean_iter_8.pth")
    expected = ["best_mean_iter_4.pth", "best_negative_iter_4.pth", "iter_8.pth"]
    assert names(tmp_path) == expected


def test_what_a_killed_training_could_not_remove_goes_when_it_is_resumed(tmp_path, monkeypatch):
    def stopping(path):
        raise Stopped

    monkeypatch.setattr(resume, "_remove", stopping)
    with pytest.raises(Stopped):
        toy_runner(tmp_path).train()
    monkeypatch.undo()
    assert names(tmp_path) == ["iter_2.pth", "iter_4.pth"]
    toy_runner(tmp_path, resume=tmp_path / "iter_4.pth").train()
    assert names(tmp_path) == ["iter_8.pth"]


def test_a_copied_folder_is_a_training_of_its_own(tmp_path):
    settings = dict(val=True, save_best="mean", rule="greater")
    toy_runner(tmp_path / "a", max_iters=4, **settings).train()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    path, _ = newest_checkpoint(tmp_path / "b")
    assert path == tmp_path / "b" / "iter_4.pth"
    toy_runner(tmp_path / "b", resume=path, **settings).train()
    assert names(tmp_path / "a") == ["best_mean_iter_4.pth", "iter_4.pth"]
    assert names(tmp_path / "b") == ["best_mean_iter_8.pth", "iter_8.pth"]


def test_a_training_started_anew_does_not_go_on_with_an_old_one(tmp_path):
    toy_runner(tmp_path).train()
    stop_at(toy_runner(tmp_path), "iter_2.pth")
    assert names(tmp_path) == ["iter_8.pth"]
    assert newest_checkpoint(tmp_path) is None
    stop_after(toy_runner(tmp_path, max_keep_ckpts=-1), "iter_2.pth")
    path, _ = newest_checkpoint(tmp_path)
    assert path.name == "iter_2.pth"


def test_nothing_to_resume_from_is_a_start_from_load_from(tmp_path, capsys):
    cfg = ConfigDict(model={}, work_dir=str(tmp_path), load_from="weights.pth")
    prepare_training(cfg, resume=True, amp=False)
    assert not cfg.resume and cfg.load_from == "weights.pth"
    assert "starts anew" in capsys.readouterr().err
    toy_runner(tmp_path, max_iters=2).train()
    prepare_training(cfg, resume=True, amp=False)
    assert cfg.resume and Path(cfg.load_from) == tmp_path / "iter_2.pth"
    assert cfg.randomness.seed == 1


def test_checkpoints_in_another_folder_under_another_name(tmp_path):
    hook = dict(out_dir=str(tmp_path / "big"), filename_tmpl="step-{}.pth")
    toy_runner(tmp_path / "run", **hook).train()
    assert names(tmp_path / "big" / "run") == ["step-8.pth"]
    for text in (str(tmp_path / "big/run/step-8.pth"), ""):
        (tmp_path / "run" / "last_checkpoint").write_text(text)
        path, _ = newest_checkpoint(tmp_path / "run", **hook)
        assert path == tmp_path / "big" / "run" / "step-8.pth"


def test_a_validation_that_was_missed_is_made_up_for(tmp_path):
    settings = dict(val=True, save_best="mean", rule="greater")
    toy_runner(tmp_path / "all", **settings).train()
    stop_at(toy_runner(tmp_path / "stopped", **settings), "best_mean_iter_8.pth")
    start = tmp_path / "stopped" / "iter_8.pth"
    toy_runner(tmp_path / "stopped", resume=start, **settings).train()
    assert names(tmp_path / "stopped") == ["best_mean_iter_8.pth", "iter_8.pth"]
    for name in ("best_mean_iter_8.pth", "iter_8.pth"):
        hubs = [read_checkpoint(tmp_path / f / name)["message_hub"] for f in ("all", "stopped")]
        infos = [hub["runtime_info"] for hub in hubs]
        assert infos[0]["best_score"] == infos[1]["best_score"]
        assert infos[1][VALIDATED] == 8


def test_no_key_in_the_message_hub_is_printed_as_a_metric():
    """mmengine's LogProcessor prints those that begin with the name of a phase."""
    assert not any(key.startswith(("train", "val", "test")) for key in (VALIDATED, NOT_FINITE))


def test_newest_checkpoint(tmp_path):
    assert newest_checkpoint(tmp_path) is None
    for i in (2, 4, 10):
        torch.save({"meta": {"iter": i}}, tmp_path / f"iter_{i}.pth")
    torch.save({}, tmp_path / "best_mIoU_iter_10.pth")
    last = tmp_path / "last_checkpoint"

    def found():
        path, content = newest_checkpoint(tmp_path)
        assert content["meta"]["iter"] == int(path.stem.partition("_")[2])
        return path.name

    assert found() == "iter_10.pth"  # written last
    for text, expected in (
        ("", "iter_10.pth"),  # killed while it was written
        ("iter_4.pth", "iter_4.pth"),  # a training that started anew over an old one
        ("/of/another/machine/iter_2.pth", "iter_2.pth"),
        ("iter_99.pth", "iter_10.pth"),
    ):
        last.write_text(text)
        assert found() == expected
    last.write_text("iter_10.pth")
    content = (tmp_path / "iter_10.pth").read_bytes()
    (tmp_path / "iter_10.pth").write_bytes(content[: len(content) // 2])
    assert found() == "iter_4.pth"
    for name in ("iter_2.pth", "iter_4.pth"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputError, match="of 3 checkpoints in .* none can be read"):
        newest_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "part, key, value, message",
    [
        ("meta", "iter", "x", "its iter is 'x'"),
        ("meta", "iter", 10**12, "it is of iter 1000000000000, the config trains 8"),
        ("meta", "epoch", None, "its epoch is None"),
        ("message_hub", "log_scalars", None, "message_hub.log_scalars is not whole"),
        ("optimizer", "state", {}, None),  # as of an optimizer that keeps nothing
        ("optimizer", "param_groups", [], "optimizer.param_groups is not what the config makes"),
    ],
)
def test_states_that_do_not_fit_are_one_sentence(part, key, value, message, tmp_path):
    toy_runner(tmp_path, max_iters=4).train()
    content = torch.load(tmp_path / "iter_4.pth", weights_only=False)
    content[part][key] = value
    torch.save(content, tmp_path / "iter_4.pth")
    runner = toy_runner(tmp_path, resume=tmp_path / "iter_4.pth")
    if message is None:
        runner.train()
        return
    with pytest.raises(InputError, match="iter_4.pth cannot be resumed from") as error:
        runner.train()
    assert message in str(error.value)


def test_a_state_of_another_shape(tmp_path):
    toy_runner(tmp_path, max_iters=4).train()
    content = torch.load(tmp_path / "iter_4.pth", weights_only=False)
    content["optimizer"]["state"][0]["exp_avg"] = torch.zeros(3)
    torch.save(content, tmp_path / "iter_4.pth")
    with pytest.raises(InputError, match="exp_avg of parameter 0 does not fit it"):
        toy_runner(tmp_path, resume=tmp_path / "iter_4.pth").train()


def test_a_planted_path_removes_nothing(tmp_path):
    """What a checkpoint says of the best one so far is removed when there is a better one."""
    settings = dict(val=True, save_best="mean", rule="greater")
    toy_runner(tmp_path / "run", max_iters=4, **settings).train()
    precious = [tmp_path / "folder" / "file", tmp_path / "run" / "notes.txt"]
    for path in precious:
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    for planted in (precious[0].parent, precious[0], precious[1]):
        content = torch.load(tmp_path / "run" / "iter_4.pth", weights_only=False)
        content["message_hub"]["runtime_info"] |= dict(best_ckpt=str(planted), best_score=-9.0)
        torch.save(content, tmp_path / "planted.pth")
        runner = toy_runner(
            tmp_path / "run", max_iters=8, resume=tmp_path / "planted.pth", **settings
        )
        runner.train()
        assert (tmp_path / "run" / "best_mean_iter_8.pth").exists()
        assert all(path.exists() for path in precious)
        toy_runner(tmp_path / "run", max_iters=4, **settings).train()
