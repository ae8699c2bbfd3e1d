"""Losses and gradients that are not finite."""

import copy

import pytest
import torch

from gfnet_dense.checkpoint.safe_reader import read_checkpoint
from gfnet_dense.engine.hooks.finite_loss_hook import MATCHER_ERROR, first_not_finite
from gfnet_dense.utils.errors import InputError
from tests.conftest import needs_operators
from tests.toy import toy_runner


def is_finite(model):
    return all(t.isfinite().all() for t in model.state_dict().values())


def steps_of(runner):
    """How many steps the optimizer has made."""
    states = runner.optim_wrapper.optimizer.state_dict()["state"]
    return int(states[0]["step"]) if states else 0


def stopped(runner):
    """Return why a training stops."""
    with pytest.raises(InputError) as error:
        runner.train()
    return str(error.value)


def test_a_step_that_is_not_finite_is_left_out(tmp_path):
    runner = toy_runner(tmp_path, max_iters=16, broken=[3])
    runner.train()
    assert is_finite(runner.model)
    assert 0 < steps_of(runner) < 16  # some left out
    read_checkpoint(tmp_path / "iter_16.pth")  # which refuses weights that are not finite


@pytest.mark.parametrize("what", ["infinite_gradient_at", "infinite_loss_at"])
@pytest.mark.parametrize("clip_grad", [None, dict(type="value", clip_value=1.0)])
def test_loss_or_gradient_alone(what, clip_grad, tmp_path):
    """Also where clipping would make a finite gradient of an infinite one."""
    settings = {} if clip_grad is None else dict(clip_grad=clip_grad)
    runner = toy_runner(tmp_path, model={what: [3]}, optim_wrapper=settings)
    runner.train()
    assert is_finite(runner.model) and steps_of(runner) == 7


def test_nothing_changes_in_a_step_that_is_left_out(tmp_path):
    runner = toy_runner(tmp_path, max_iters=2, model=dict(infinite_loss_at=[1, 2]))
    before = copy.deepcopy(runner.model.state_dict())
    runner.train()
    for name, after in runner.model.state_dict().items():
        assert name.endswith("num_batches_tracked") or torch.equal(after, before[name]), name


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
            runner.model.infinite_gradient_at = [runner.model.steps + 1]
        return step(data, optim_wrapper)

    runner.model.train_step = breaking
    text = stopped(runner)
    assert "stopped at iteration 8: " in text and "3 times in a row" in text
    assert "at a learning rate of 0.0" in text and str(tmp_path / "iter_4.pth") in text
    assert culprit in text
    assert [p.name for p in tmp_path.glob("*.pth")] == ["iter_4.pth"]


def test_every_window_of_accumulated_gradients_is_spoilt(tmp_path):
    """By one loss of four, the second: the others are finite."""
    model = dict(infinite_loss_at=range(2, 99, 4))
    runner = toy_runner(
        tmp_path, max_iters=40, model=model, optim_wrapper=dict(accumulative_counts=4)
    )
    text = stopped(runner)
    assert "stopped at iteration 12: " in text and steps_of(runner) == 0


def test_one_spoilt_window_is_left_out(tmp_path):
    settings = dict(accumulative_counts=4)
    runner = toy_runner(
        tmp_path, max_iters=16, model=dict(infinite_loss_at=[6]), optim_wrapper=settings
    )
    runner.train()
    assert steps_of(runner) == 3 and is_finite(runner.model)


def test_a_loss_scaler_may_overflow_at_first(tmp_path):
    """More often in a row than steps may be bad."""
    settings = dict(type="ToyScaler", init_scale=2.0**127)
    model = dict(loss_weight=2.0**12)
    runner = toy_runner(tmp_path, max_iters=40, model=model, optim_wrapper=settings)
    runner.train()
    assert 0 < steps_of(runner) < 40 - 8 and is_finite(runner.model)


@pytest.mark.parametrize("fixed_scale", [None, 512.0])
def test_a_loss_scaler_does_not_hide_what_stays(fixed_scale, tmp_path):
    settings = dict(type="ToyScaler", fixed_scale=fixed_scale, init_scale=2.0**4)
    model = dict(infinite_gradient_at=range(5, 99))
    runner = toy_runner(tmp_path, max_iters=40, model=model, optim_wrapper=settings)
    text = stopped(runner)
    assert "none of the modules" in text and steps_of(runner) == 4
    # A scaler that adapts goes from 16 to 1 first.
    assert f"stopped at iteration {7 if fixed_scale else 11}: " in text


def test_a_matching_that_refuses_what_is_not_finite(tmp_path):
    """As that of queries in Mask2Former and DINO: an error comes before there is a loss."""
    runner = toy_runner(tmp_path, max_iters=16, model=dict(matches=True))
    step = runner.model.train_step

    def breaking(data, optim_wrapper):
        if runner.iter == 5:
            runner.model.first.weight.data[2] = float("nan")
        return step(data, optim_wrapper)

    runner.model.train_step = breaking
    text = stopped(runner)
    assert "stopped at iteration 6: what the head matches is not finite" in text
    assert "that of first (Linear)" in text and str(tmp_path / "iter_4.pth") in text


@needs_operators
@pytest.mark.parametrize("name", ["mask2former_gfnet-h-ti_ade20k", "dino-4scale_gfnet-h-ti_coco"])
def test_the_matchings_of_real_heads(name):
    from tests.test_no_labels import build, detection_samples, segmentation_samples

    model = build(name)
    samples = (detection_samples if "coco" in name else segmentation_samples)(num_labeled=2)
    inputs = [torch.randint(0, 256, (3, 128, 128), dtype=torch.uint8) for _ in samples]
    batch = {"inputs": inputs, "data_samples": samples}
    assert first_not_finite(model, batch) is None
    model.backbone.blocks[1][0].mlp.fc2.weight.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match=MATCHER_ERROR):
        model(**model.data_preprocessor(copy.deepcopy(batch), True), mode="loss")
    assert first_not_finite(model, batch) == "backbone.blocks.1.0.mlp.fc2 (Linear)"


def test_a_checkpoint_that_was_due_comes_later(tmp_path):
    model = dict(infinite_loss_at=[4])
    runner = toy_runner(tmp_path, max_iters=8, max_keep_ckpts=-1, model=model)
    runner.train()
    names = {p.name for p in tmp_path.glob("*.pth")}
    assert names == {"iter_2.pth", "iter_5.pth", "iter_6.pth", "iter_8.pth"}


def test_the_last_checkpoint_comes_in_any_case(tmp_path):
    """Its weights are those of the last step that was finite."""
    toy_runner(tmp_path / "iters", max_iters=8, model=dict(infinite_loss_at=[8])).train()
    assert [p.name for p in (tmp_path / "iters").glob("*.pth")] == ["iter_8.pth"]
    model = dict(infinite_loss_at=[8, 16])  # at the ends of epochs
    toy_runner(tmp_path / "epochs", max_epochs=2, model=model, max_keep_ckpts=-1).train()
    names = {p.name for p in (tmp_path / "epochs").glob("*.pth")}
    assert names == {"epoch_1.pth", "epoch_2.pth"}
