"""Losses and gradients that are not finite."""

import pytest

from gfnet_dense.checkpoints import read_checkpoint
from gfnet_dense.errors import InputError
from tests.toy import toy_runner


def is_finite(model):
    return all(t.isfinite().all() for t in model.state_dict().values())


def test_a_step_that_is_not_finite_is_left_out(tmp_path):
    runner = toy_runner(tmp_path, max_iters=16, broken=[3])
    runner.train()
    assert is_finite(runner.model)
    assert runner.optim_wrapper.optimizer.state_dict()["state"][0]["step"] < 16  # some left out
    read_checkpoint(tmp_path / "iter_16.pth")  # which refuses weights that are not finite


def test_finite_loss_with_a_gradient_that_is_not(tmp_path):
    runner = toy_runner(tmp_path, model=dict(infinite_gradient_at=3))
    runner.train()
    assert is_finite(runner.model)
    assert runner.optim_wrapper.optimizer.state_dict()["state"][0]["step"] == 7


@pytest.mark.parametrize(
    "what, culprit",
    [
        ("data", "data_preprocessor (BaseDataPreprocessor)"),
        ("weights", "norm (BatchNorm1d)"),
        ("gradient", "none of the modules"),
    ],
)
def test_training_stops_when_it_stays_so(what, culprit, tmp_path):
    runner = toy_runner(tmp_path, max_iters=16)
    step = runner.model.train_step

    def breaking(data, optim_wrapper):
        if runner.iter == 4 and what == "data":  # the next ones
            runner.train_dataloader.dataset.broken = range(16)
        if runner.iter == 5 and what == "weights":
            runner.model.norm.weight.data[2] = float("nan")
        if runner.iter >= 5 and what == "gradient":
            runner.model.infinite_gradient_at = runner.model.steps + 1
        return step(data, optim_wrapper)

    runner.model.train_step = breaking
    with pytest.raises(InputError) as error:
        runner.train()
    text = str(error.value)
    assert "stopped at iteration 8: " in text and "3 times in a row" in text
    assert "at a learning rate of 0.0" in text and str(tmp_path / "iter_4.pth") in text
    assert culprit in text
    assert [p.name for p in tmp_path.glob("*.pth")] == ["iter_4.pth"]


def test_a_checkpoint_that_was_due_comes_later(tmp_path):
    runner = toy_runner(tmp_path, max_iters=8, max_keep_ckpts=-1)
    step = runner.model.train_step

    def breaking(data, optim_wrapper):
        if runner.iter == 3:
            data = {"inputs": [x / 0 for x in data["inputs"]]}
        return step(data, optim_wrapper)

    runner.model.train_step = breaking
    runner.train()
    names = {p.name for p in tmp_path.glob("*.pth")}
    assert names == {"iter_2.pth", "iter_5.pth", "iter_6.pth", "iter_8.pth"}
