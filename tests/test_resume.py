"""Checkpoints of a training that stops at a bad moment."""

import pytest
import torch

from gfnet_dense.checkpoints import read_checkpoint
from gfnet_dense.errors import InputError
from gfnet_dense.resume import newest_checkpoint
from tests.torture.test_kills import assert_same, state_of
from tests.toy import toy_runner


def names(folder, pattern="*.pth"):
    return sorted(path.name for path in folder.glob(pattern))


@pytest.mark.parametrize("at", [2, 4, 6])
def test_resumed_training_ends_as_a_whole_one(at, tmp_path):
    toy_runner(tmp_path / "whole", max_iters=8, max_keep_ckpts=-1, val=True).train()
    toy_runner(tmp_path / "half", max_iters=at, val=True).train()
    assert names(tmp_path / "half") == [f"iter_{at}.pth"]
    start = tmp_path / "half" / f"iter_{at}.pth"
    toy_runner(tmp_path / "half", max_iters=8, resume=start, val=True).train()
    whole, resumed = (state_of(tmp_path / name / "iter_8.pth") for name in ("whole", "half"))
    assert_same(whole, resumed)
    assert names(tmp_path / "half") == ["iter_8.pth"]


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
        assert infos[1]["validated_at"] == 8


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
