"""FiniteLossHook: steps that are not finite are skipped, or stop the training if they persist."""

import copy

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gfnet_dense.checkpoint.safe_reader import read_checkpoint
from gfnet_dense.engine.hooks.finite_loss_hook import (
    MATCHER_ERROR,
    FiniteLossHook,
    first_not_finite,
)
from gfnet_dense.utils.errors import InputError
from tests.conftest import needs_operators
from tests.toy import toy_runner


def is_finite(model):
    return all(t.isfinite().all() for t in model.state_dict().values())


def steps_of(runner):
    """Return the number of steps that the optimizer has made."""
    states = runner.optim_wrapper.optimizer.state_dict()["state"]
    return int(states[0]["step"]) if states else 0


def stop_message(runner):
    """Return the message with which a training stops."""
    with pytest.raises(InputError) as error:
        runner.train()
    return str(error.value)


def test_steps_on_infinite_inputs_are_skipped(tmp_path):
    runner = toy_runner(tmp_path, max_iters=16, broken=[3])
    runner.train()
    assert is_finite(runner.model)
    assert 0 < steps_of(runner) < 16  # some steps are skipped
    read_checkpoint(tmp_path / "iter_16.pth")  # raises for weights that are not finite


def test_steps_are_skipped_in_a_compiled_training_as_well(tmp_path):
    """mmengine's setting ``compile`` compiles the whole training step, optimizer included."""
    runner = toy_runner(tmp_path, model=dict(infinite_loss_at=[3]))
    runner.cfg.compile = dict(backend="aot_eager")
    runner.train()
    assert is_finite(runner.model) and steps_of(runner) == 7


@pytest.mark.parametrize("what", ["infinite_gradient_at", "infinite_loss_at"])
@pytest.mark.parametrize("clip_grad", [None, dict(type="value", clip_value=1.0)])
def test_step_is_skipped_if_only_its_loss_or_only_its_gradient_is_infinite(
    what, clip_grad, tmp_path
):
    """Clipping would turn an infinite gradient into a finite one."""
    settings = {} if clip_grad is None else dict(clip_grad=clip_grad)
    runner = toy_runner(tmp_path, model={what: [3]}, optim_wrapper=settings)
    runner.train()
    assert is_finite(runner.model) and steps_of(runner) == 7


@pytest.mark.parametrize("what", ["infinite_gradient_at", "infinite_loss_at"])
def test_a_skipped_step_changes_neither_weights_nor_running_statistics(what, tmp_path):
    runner = toy_runner(tmp_path, max_iters=2, model={what: [1, 2]})
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
def test_training_stops_after_three_nonfinite_steps_and_names_the_culprit(what, culprit, tmp_path):
    runner = toy_runner(tmp_path, max_iters=16)
    step = runner.model.train_step

    def breaking(data, optim_wrapper):
        if runner.iter == 4 and what == "data":  # all samples from now on
            runner.train_dataloader.dataset.broken = range(16)
        if runner.iter == 5 and what == "weights":
            runner.model.norm.weight.data[2] = float("nan")
        if runner.iter >= 5 and what == "gradient":
            runner.model.infinite_gradient_at = [runner.model.steps + 1]
        return step(data, optim_wrapper)

    runner.model.train_step = breaking
    text = stop_message(runner)
    assert "stopped at iteration 8: " in text and "3 times in a row" in text
    assert "at a learning rate of 0.0" in text and str(tmp_path / "iter_4.pth") in text
    assert culprit in text
    assert [p.name for p in tmp_path.glob("*.pth")] == ["iter_4.pth"]


def test_training_stops_if_each_accumulation_window_has_an_infinite_loss(tmp_path):
    """Only the second of four accumulated losses is not finite."""
    model = dict(infinite_loss_at=range(2, 99, 4))
    runner = toy_runner(
        tmp_path, max_iters=40, model=model, optim_wrapper=dict(accumulative_counts=4)
    )
    text = stop_message(runner)
    assert "stopped at iteration 12: " in text and steps_of(runner) == 0


def test_only_the_accumulation_window_with_an_infinite_loss_is_skipped(tmp_path):
    settings = dict(accumulative_counts=4)
    runner = toy_runner(
        tmp_path, max_iters=16, model=dict(infinite_loss_at=[6]), optim_wrapper=settings
    )
    runner.train()
    assert steps_of(runner) == 3 and is_finite(runner.model)


def test_running_statistics_are_finite_after_each_iteration_of_a_window(tmp_path):
    """Averages and validations read them between the steps; the window changes them not at all."""
    settings = dict(accumulative_counts=4)
    runner = toy_runner(tmp_path, broken=[3, 7, 11], shuffle=False, optim_wrapper=settings)
    step, mean = runner.model.train_step, runner.model.norm.running_mean
    seen = []

    def recording(data, optim_wrapper):
        seen.append(mean.clone())  # what the iteration before has left
        return step(data, optim_wrapper)

    runner.model.train_step = recording
    runner.train()
    assert steps_of(runner) == 0 and len(seen) == 8  # a bad batch in either window
    assert [each.equal(seen[0]) for each in [*seen, mean]] == [
        True, False, True, True, True, False, True, True, True,
    ]  # fmt: skip


class HostReads(TorchDispatchMode):
    """Count how often the program waits for the value of a tensor, which is costly on a GPU."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "settings, steps",
    [
        (dict(), 8),
        (dict(accumulative_counts=4), 2),
        (dict(accumulative_counts=4, type="ToyScaler"), 2),
        (dict(type="ToyScaler"), 8),
        (dict(type="ToyScaler", fixed_scale=512.0), 8),
        (dict(type="gfnet_dense.Bfloat16OptimWrapper"), 8),
    ],
)
def test_the_hook_waits_for_the_device_once_a_step(settings, steps, tmp_path):
    counts = []
    for is_watched in (True, False):
        folder = tmp_path / str(is_watched)
        runner = toy_runner(folder, optim_wrapper=dict(settings), interval=99)
        if not is_watched:  # counts what the log, the optimizer and the scaler read
            runner._hooks = [h for h in runner.hooks if not isinstance(h, FiniteLossHook)]
        with HostReads() as reads:
            runner.train()
        counts.append(reads.count)
    assert counts[0] - counts[1] == steps


def test_initial_overflows_of_a_loss_scaler_do_not_stop_the_training(tmp_path):
    """There are more overflows in a row than the hook tolerates of other steps."""
    settings = dict(type="ToyScaler", init_scale=2.0**127)
    model = dict(loss_weight=2.0**12)
    runner = toy_runner(tmp_path, max_iters=40, model=model, optim_wrapper=settings)
    runner.train()
    assert 0 < steps_of(runner) < 40 - 8 and is_finite(runner.model)


@pytest.mark.parametrize("fixed_scale", [None, 512.0])
def test_training_with_a_loss_scaler_stops_if_gradients_stay_infinite(fixed_scale, tmp_path):
    settings = dict(type="ToyScaler", fixed_scale=fixed_scale, init_scale=2.0**4)
    model = dict(infinite_gradient_at=range(5, 99))
    runner = toy_runner(tmp_path, max_iters=40, model=model, optim_wrapper=settings)
    text = stop_message(runner)
    assert "none of the modules" in text and steps_of(runner) == 4
    # A dynamic scaler first lowers its scale from 16 to 1.
    assert f"stopped at iteration {7 if fixed_scale else 11}: " in text


def test_training_stops_if_a_matcher_rejects_nonfinite_costs(tmp_path):
    """The query matching of Mask2Former and DINO raises an error before a loss is computed."""
    runner = toy_runner(tmp_path, max_iters=16, model=dict(matches=True))
    step = runner.model.train_step

    def breaking(data, optim_wrapper):
        if runner.iter == 5:
            runner.model.first.weight.data[2] = float("nan")
        return step(data, optim_wrapper)

    runner.model.train_step = breaking
    text = stop_message(runner)
    assert "stopped at iteration 6: what the head matches is not finite" in text
    assert "that of first (Linear)" in text and str(tmp_path / "iter_4.pth") in text


@needs_operators
@pytest.mark.parametrize("name", ["mask2former_gfnet-h-ti_ade20k", "dino-4scale_gfnet-h-ti_coco"])
def test_matchers_of_mask2former_and_dino_raise_the_error_that_the_hook_expects(name):
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


def test_checkpoint_due_at_a_skipped_step_is_written_after_the_next_step(tmp_path):
    model = dict(infinite_loss_at=[4])
    runner = toy_runner(tmp_path, max_iters=8, max_keep_ckpts=-1, model=model)
    runner.train()
    names = {p.name for p in tmp_path.glob("*.pth")}
    assert names == {"iter_2.pth", "iter_5.pth", "iter_6.pth", "iter_8.pth"}


def test_last_checkpoint_is_written_even_if_the_last_step_is_skipped(tmp_path):
    """The checkpoint holds the weights of the last finite step."""
    toy_runner(tmp_path / "iters", max_iters=8, model=dict(infinite_loss_at=[8])).train()
    assert [p.name for p in (tmp_path / "iters").glob("*.pth")] == ["iter_8.pth"]
    model = dict(infinite_loss_at=[8, 16])  # at the ends of epochs
    toy_runner(tmp_path / "epochs", max_epochs=2, model=model, max_keep_ckpts=-1).train()
    names = {p.name for p in (tmp_path / "epochs").glob("*.pth")}
    assert names == {"epoch_1.pth", "epoch_2.pth"}
