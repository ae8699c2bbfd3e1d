"""Checkpoints of a training that is interrupted at a bad moment."""

import shutil
from pathlib import Path

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook

from gfnet_dense.checkpoint.safe_reader import read_checkpoint
from gfnet_dense.engine.hooks import checkpoint_hook
from gfnet_dense.engine.runner.preparation import _check_local, _set_start, prepare_training
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
    """Interrupt a training before a file of this name is written."""
    save = runner.save_checkpoint

    def stopping(out_dir, filename, *args, **kwargs):
        if filename == name:
            raise Stopped
        save(out_dir, filename, *args, **kwargs)

    runner.save_checkpoint = stopping
    with pytest.raises(Stopped):
        runner.train()


ACCUMULATING = dict(optim_wrapper=dict(accumulative_counts=4), interval=3)
RUNS = {  # settings, name of the last checkpoint, names of the checkpoints to resume from
    "iterations": (dict(max_iters=12), "iter_12", ["iter_2", "iter_4", "iter_6"]),
    "epochs": (dict(max_epochs=3), "epoch_3", ["epoch_1", "epoch_2"]),
    "workers": (dict(max_epochs=3, num_workers=2), "epoch_3", ["epoch_2"]),
    "not shuffled": (dict(max_iters=12, shuffle=False), "iter_12", ["iter_6"]),
    # Checkpoints are due at 3, 6, 9, and written after the next step, at multiples of four.
    "accumulating": (dict(max_iters=16, **ACCUMULATING), "iter_16", ["iter_4", "iter_8"]),
    "averaging": (dict(max_iters=12, hooks=[dict(type="EMAHook")]), "iter_12", ["iter_4"]),
}


@pytest.mark.parametrize("kind", RUNS)
def test_resumed_training_ends_in_the_same_state_as_an_uninterrupted_one(kind, tmp_path):
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
    """Interrupt a training once a file of this name is written and named in last_checkpoint."""
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


def test_last_checkpoint_is_kept_until_the_next_is_complete(tmp_path):
    stop_at(toy_runner(tmp_path), "iter_4.pth")
    assert names(tmp_path) == ["iter_2.pth"]


def test_best_checkpoint_is_kept_until_the_next_is_complete(tmp_path):
    """With this metric and seed, later checkpoints are better, which the first assertion checks."""
    settings = dict(val=True, save_best="mean", rule="greater")
    toy_runner(tmp_path / "all", **settings).train()
    assert names(tmp_path / "all", "best*") == ["best_mean_iter_8.pth"]
    stop_at(toy_runner(tmp_path / "stopped", **settings), "best_mean_iter_8.pth")
    assert names(tmp_path / "stopped") == ["best_mean_iter_4.pth", "iter_8.pth"]


def test_each_of_several_best_checkpoints_is_kept_until_the_next_is_complete(tmp_path):
    settings = dict(val=True, save_best=["mean", "negative"], rule="greater")
    stop_at(toy_runner(tmp_path, **settings), "best_mean_iter_8.pth")
    expected = ["best_mean_iter_4.pth", "best_negative_iter_4.pth", "iter_8.pth"]
    assert names(tmp_path) == expected


def test_a_figure_that_a_validation_lacks_does_not_end_the_training(tmp_path):
    """A detector that finds nothing at first has no AP, while another evaluator has figures."""
    settings = dict(val=True, save_best=["bbox", "mean"], rule="greater")
    runner = toy_runner(tmp_path, **settings)
    runner.train()
    assert names(tmp_path, "best*") == ["best_mean_iter_8.pth"]
    log = next(tmp_path.rglob("*.log")).read_text()
    assert "the validation has no bbox, by which save_best chooses the best checkpoint" in log


def test_a_figure_of_no_evaluator_is_refused_before_the_training(tmp_path):
    runner = toy_runner(tmp_path, val=True, save_best="coco/bbox_mAP", rule="greater")
    runner.val_loop.evaluator.metrics[0].prefix = "pascal_voc"
    with pytest.raises(InputError, match="is coco/bbox_mAP, but .* begin with pascal_voc/: set"):
        runner.train()
    assert runner.iter == 0
    runner = toy_runner(tmp_path / "b", val=True, save_best="voc/mean", rule="greater")
    runner.val_loop.evaluator.metrics[0].prefix = "voc"
    runner.train()
    assert names(tmp_path / "b", "best*") == ["best_voc_mean_iter_8.pth"]


def test_resumed_training_removes_old_checkpoints_that_a_killed_one_left(tmp_path, monkeypatch):
    def stopping(path):
        raise Stopped

    monkeypatch.setattr(checkpoint_hook, "_remove", stopping)
    with pytest.raises(Stopped):
        toy_runner(tmp_path).train()
    monkeypatch.undo()
    assert names(tmp_path) == ["iter_2.pth", "iter_4.pth"]
    toy_runner(tmp_path, resume=tmp_path / "iter_4.pth").train()
    assert names(tmp_path) == ["iter_8.pth"]


def test_resuming_in_a_copied_work_dir_leaves_the_original_unchanged(tmp_path):
    settings = dict(val=True, save_best="mean", rule="greater")
    toy_runner(tmp_path / "a", max_iters=4, **settings).train()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    path, _ = newest_checkpoint(tmp_path / "b")
    assert path == tmp_path / "b" / "iter_4.pth"
    toy_runner(tmp_path / "b", resume=path, **settings).train()
    assert names(tmp_path / "a") == ["best_mean_iter_4.pth", "iter_4.pth"]
    assert names(tmp_path / "b") == ["best_mean_iter_8.pth", "iter_8.pth"]


def test_a_new_training_ignores_checkpoints_of_an_earlier_one_in_its_work_dir(tmp_path):
    toy_runner(tmp_path).train()
    stop_at(toy_runner(tmp_path), "iter_2.pth")
    assert names(tmp_path) == ["iter_8.pth"]
    assert newest_checkpoint(tmp_path) is None
    stop_after(toy_runner(tmp_path, max_keep_ckpts=-1), "iter_2.pth")
    path, _ = newest_checkpoint(tmp_path)
    assert path.name == "iter_2.pth"


def test_resume_without_a_checkpoint_starts_from_load_from(tmp_path, capsys):
    cfg = ConfigDict(model={}, work_dir=str(tmp_path), load_from="weights.pth")
    prepare_training(cfg, resume=True, amp=None)
    assert not cfg.resume and cfg.load_from == "weights.pth"
    assert "starts anew" in capsys.readouterr().err
    toy_runner(tmp_path, max_iters=2).train()
    prepare_training(cfg, resume=True, amp=None)
    assert cfg.resume and Path(cfg.load_from) == tmp_path / "iter_2.pth"
    assert cfg.randomness.seed == 1


def test_resume_with_the_default_hooks_of_mmengine(tmp_path):
    cfg = Config(dict(work_dir=str(tmp_path), default_hooks=None))
    _check_local(cfg)
    _set_start(cfg)
    assert not cfg.resume


def test_checkpoints_with_custom_out_dir_and_file_names_are_found(tmp_path):
    hook = dict(out_dir=str(tmp_path / "big"), filename_tmpl="step-{}.pth")
    toy_runner(tmp_path / "run", **hook).train()
    assert names(tmp_path / "big" / "run") == ["step-8.pth"]
    for text in (str(tmp_path / "big/run/step-8.pth"), ""):
        (tmp_path / "run" / "last_checkpoint").write_text(text)
        path, _ = newest_checkpoint(tmp_path / "run", **hook)
        assert path == tmp_path / "big" / "run" / "step-8.pth"


def test_resumed_training_makes_up_for_a_missed_validation(tmp_path):
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
    """mmengine's LogProcessor prints keys that begin with the name of a phase."""
    assert not any(key.startswith(("train", "val", "test")) for key in (VALIDATED, NOT_FINITE))


def test_newest_checkpoint_follows_last_checkpoint_and_skips_broken_files(tmp_path):
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
        ("", "iter_10.pth"),  # the training was killed while it wrote last_checkpoint
        ("iter_4.pth", "iter_4.pth"),  # a new training in the folder of an old one
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
        ("optimizer", "state", {}, None),  # an optimizer without state, such as plain SGD
        (
            "optimizer",
            "param_groups",
            [],
            "0 groups with 0 parameters, the config's 1 groups with 6",
        ),
        ("optimizer", "param_groups", {}, "the optimizer is not what the config makes"),
    ],
)
def test_resume_states_that_do_not_fit_the_config_are_rejected(part, key, value, message, tmp_path):
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


def test_optimizer_state_of_another_shape_is_rejected(tmp_path):
    toy_runner(tmp_path, max_iters=4).train()
    content = torch.load(tmp_path / "iter_4.pth", weights_only=False)
    content["optimizer"]["state"][0]["exp_avg"] = torch.zeros(3)
    torch.save(content, tmp_path / "iter_4.pth")
    with pytest.raises(InputError, match="exp_avg of parameter 0 does not fit it"):
        toy_runner(tmp_path, resume=tmp_path / "iter_4.pth").train()


def test_forged_path_of_the_best_checkpoint_removes_no_file(tmp_path):
    """The path of the best checkpoint to replace is read from a checkpoint, which may be forged."""
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


class _ValidationsHook(Hook):
    """Hook that records the iterations at which validations begin."""

    def __init__(self):
        self.places = []

    def before_val(self, runner):
        self.places.append(runner.iter)


def validations_of_a_training_resumed(folder, at, val_begin):
    """Interrupt a training of 8 iterations before its validation at ``at``, and resume it.

    Returns:
        The iterations at which validations of the resumed training begin.
    """
    first_runner = toy_runner(folder, val=True, max_keep_ckpts=-1)
    first_runner._train_loop["val_begin"] = val_begin
    stop_after(first_runner, f"iter_{at}.pth")
    resumed = toy_runner(folder, resume=folder / f"iter_{at}.pth", val=True)
    resumed._train_loop["val_begin"] = val_begin
    hook = _ValidationsHook()
    resumed.register_hook(hook)
    resumed.train()
    return hook.places


def test_resuming_before_val_begin_runs_no_validation_at_once(tmp_path):
    assert validations_of_a_training_resumed(tmp_path, 4, val_begin=5) == [8]


@pytest.mark.parametrize("val_begin", [1, 4])
def test_resuming_at_or_after_val_begin_makes_up_for_a_missed_validation(val_begin, tmp_path):
    assert validations_of_a_training_resumed(tmp_path, 4, val_begin) == [4, 8]


def test_resuming_between_validations_runs_no_validation_at_once(tmp_path):
    assert validations_of_a_training_resumed(tmp_path, 2, val_begin=1) == [4, 8]
