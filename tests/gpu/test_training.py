"""The runner on a GPU: mixed precision, losses that are not finite, resuming, processes."""

import functools
import os
import socket

import pytest
import torch
from mmengine.hooks import Hook
from torch import multiprocessing

from gfnet_dense.utils.errors import InputError
from tests.gpu.conftest import DEVICE
from tests.toy import toy_runner

# mmengine's wrapper, or its steps on a CPU
SCALER = dict(type="AmpOptimWrapper" if DEVICE == "cuda" else "ToyScaler")


def scaler(init_scale):
    """Return the settings of a loss scaler that begins at a scale."""
    scale = dict(init_scale=init_scale)
    return dict(SCALER, **(dict(loss_scale=scale) if DEVICE == "cuda" else scale))


# In float16 the gradients of this network overflow at mmengine's default of 2**16.
WITHOUT_OVERFLOW = scaler(2.0**8)
BFLOAT16 = dict(type="gfnet_dense.Bfloat16OptimWrapper")


def weights(runner):
    return {name: value.cpu() for name, value in runner.model.state_dict().items()}


def is_finite(runner):
    return all(value.isfinite().all() for value in weights(runner).values())


def steps_of(runner):
    states = runner.optim_wrapper.optimizer.state_dict()["state"]
    return int(states[0]["step"]) if states else 0


@pytest.mark.parametrize("wrapper", [SCALER, BFLOAT16, dict(SCALER, dtype="bfloat16")])
def test_training_in_mixed_precision_lowers_the_loss(device, wrapper, tmp_path):
    if device == "cpu":
        wrapper = {key: value for key, value in wrapper.items() if key != "dtype"}
    settings = dict(wrapper, optimizer=dict(type="AdamW", lr=0.05))
    runner = toy_runner(
        tmp_path, max_iters=60, optim_wrapper=settings, interval=99, param_scheduler=[]
    )
    seen, losses = set(), []
    runner.model.first.register_forward_hook(lambda module, args, y: seen.add(y.dtype))
    parse = runner.model.parse_losses
    runner.model.parse_losses = lambda each: losses.append(each["loss"].item()) or parse(each)
    runner.train()
    half = torch.bfloat16 if "bfloat16" in str(wrapper).lower() else torch.float16
    assert seen == {torch.float32 if wrapper["type"] == "ToyScaler" else half}
    assert {p.dtype for p in runner.model.parameters()} == {torch.float32} and is_finite(runner)
    assert sum(losses[-10:]) < sum(losses[:10]) / 2
    assert next(runner.model.parameters()).device.type == device


@pytest.mark.parametrize("wrapper", [dict(type="OptimWrapper"), WITHOUT_OVERFLOW, BFLOAT16])
@pytest.mark.parametrize("counts", [1, 4])
def test_steps_that_are_not_finite_change_nothing(device, wrapper, counts, tmp_path):
    settings = dict(wrapper, accumulative_counts=counts)
    runner = toy_runner(
        tmp_path, max_iters=16, model=dict(infinite_loss_at=[6]), optim_wrapper=settings
    )
    runner.train()
    assert steps_of(runner) == 16 // counts - 1 and is_finite(runner)


def test_overflows_of_the_loss_scaler_do_not_stop_the_training(device, tmp_path):
    """A CPU computes in float32 here, which overflows at 2**128, a GPU in float16, at 2**16."""
    scale, weight = (2.0**127, 2.0**12) if device == "cpu" else (2.0**28, 1.0)
    model = dict(loss_weight=weight)
    runner = toy_runner(tmp_path, max_iters=60, model=model, optim_wrapper=scaler(scale))
    runner.train()
    assert 0 < steps_of(runner) < 60 - 8 and is_finite(runner)


@pytest.mark.parametrize("wrapper", [dict(type="OptimWrapper"), WITHOUT_OVERFLOW, BFLOAT16])
def test_training_stops_if_gradients_stay_infinite(device, wrapper, tmp_path):
    model = dict(infinite_gradient_at=range(5, 99))
    runner = toy_runner(tmp_path, max_iters=60, model=model, optim_wrapper=dict(wrapper))
    with pytest.raises(InputError, match="none of the modules .* the last checkpoint"):
        runner.train()
    assert steps_of(runner) == 4 and is_finite(runner)


class NothingWaits(Hook):
    """Let nothing wait for the GPU from the loss to the decision about the step."""

    priority = "LOWEST"  # around what FiniteLossHook has put around these methods

    def __init__(self, context):
        self.context, self.ended = context, 0

    def before_train(self, runner):
        wrapper = runner.optim_wrapper
        update_params, step = wrapper.update_params, wrapper.step

        def watched(*args, **kwargs):
            self.context.__enter__()
            update_params(*args, **kwargs)

        def ends(**kwargs):
            self.context.__exit__()
            self.ended += 1
            step(**kwargs)

        wrapper.update_params, wrapper.step = watched, ends


def test_nothing_waits_between_loss_and_step(device, no_waiting, tmp_path):
    runner = toy_runner(tmp_path, max_iters=4)
    hook = NothingWaits(no_waiting)
    runner.register_hook(hook)
    try:
        runner.train()
    finally:
        no_waiting.__exit__()
    assert steps_of(runner) == hook.ended == 4


@pytest.mark.parametrize("wrapper", [dict(type="OptimWrapper"), SCALER, BFLOAT16])
def test_a_resumed_training_equals_the_whole(device, wrapper, tmp_path):
    whole = toy_runner(tmp_path / "a", max_iters=8, optim_wrapper=dict(wrapper))
    whole.train()
    toy_runner(tmp_path / "b", max_iters=4, optim_wrapper=dict(wrapper)).train()
    last = tmp_path / "b" / "iter_4.pth"
    resumed = toy_runner(tmp_path / "b", max_iters=8, optim_wrapper=dict(wrapper), resume=last)
    resumed.train()
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(resumed)[name], value, rtol=1e-4, atol=1e-5)


def test_a_deterministic_training_repeats_itself(device, tmp_path):
    runs = []
    try:
        for name in "ab":
            runner = toy_runner(tmp_path / name)
            runner.set_randomness(seed=1, deterministic=True)
            runner.train()
            runs.append(weights(runner))
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.deterministic = False
    assert all(torch.equal(runs[1][name], value) for name, value in runs[0].items())


def one_process(rank, folder, world, port):
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world), MASTER_PORT=str(port),
        MASTER_ADDR="127.0.0.1",
    )  # fmt: skip
    runner = toy_runner(
        folder, max_iters=8, launcher="pytorch", optim_wrapper=dict(BFLOAT16),
        model=dict(infinite_loss_at=[3] if rank == world - 1 else []),
    )  # fmt: skip
    assert torch.distributed.get_backend() == ("nccl" if DEVICE == "cuda" else "gloo")
    runner.train()
    assert steps_of(runner) == 7  # all skip the step that is bad in one process
    torch.save([p.detach().cpu() for p in runner.model.parameters()], folder / f"rank_{rank}.pt")
    os._exit(0)  # the shutdown of gloo may hang


@pytest.mark.parametrize("world", [1, 2])
def test_processes_train_the_same_weights(device, world, tmp_path):
    if device == "cuda" and torch.cuda.device_count() < world:
        pytest.skip(f"needs {world} GPUs")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")  # CUDA cannot be used in a fork
    run = functools.partial(one_process, folder=tmp_path, world=world, port=port)
    processes = [context.Process(target=run, args=(rank,)) for rank in range(world)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * world
    first, *others = (torch.load(tmp_path / f"rank_{rank}.pt") for rank in range(world))
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
