"""Every optimizer of PyTorch, and two from outside, in a training that is resumed."""

import inspect

import pytest
import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS, OPTIMIZERS
from torch.optim import Optimizer

from gfnet_dense.utils.errors import InputError
from tests.engine.runner.test_continuing import AT, END, options_of, start, told
from tests.torture.test_kills import differences, state_of
from tests.toy import ToyNet, toy_runner


@OPTIMIZERS.register_module()
class Hybrid(Optimizer):
    """Momentum for matrices, none for vectors, and a step size that it keeps among its options."""

    def __init__(self, params, lr=0.01, momentum=0.9, reached=1.0):
        super().__init__(params, dict(lr=lr, momentum=momentum, reached=reached, history=[]))

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            group["reached"] *= 0.9
            group["history"] = [*group["history"][-2:], group["reached"]]
            for p in group["params"]:
                update = p.grad
                if p.ndim == 2:
                    state = self.state[p]
                    before = state.get("momentum", torch.zeros_like(p))
                    state["momentum"] = update = group["momentum"] * before + p.grad
                p -= group["lr"] * sum(group["history"]) * update


@OPTIMIZERS.register_module()
class EightBit(Optimizer):
    """Momentum in 8 bits, with a scale for each row and a dict in the state."""

    def __init__(self, params, lr=0.01, momentum=0.9):
        super().__init__(params, dict(lr=lr, momentum=momentum))

    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        for state in self.state.values():  # PyTorch makes floats of all tensors
            state["codes"] = state["codes"].to(torch.int8)

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                state, rows = self.state[p], p.grad.reshape(p.shape[0], -1)
                if state:
                    codes, scale = state["codes"].float(), state["more"]["scale"]
                    rows = rows + group["momentum"] * codes * scale
                scale = rows.abs().amax(1, keepdim=True).clamp(min=1e-12) / 127
                state["codes"] = (rows / scale).round().to(torch.int8)
                state["more"] = {"scale": scale, "steps": state.get("more", {}).get("steps", 0) + 1}
                p -= group["lr"] * rows.view_as(p)


@MODELS.register_module()
class Matrices(ToyNet):
    """A ToyNet whose parameters are all matrices, as torch.optim.Muon requires."""

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(8, affine=False)
        for layer in (self.first, self.last):
            layer.bias = None


CANNOT_TRAIN = {
    "LBFGS": "needs a closure that computes the loss again, which mmengine does not pass",
    "SparseAdam": "takes sparse gradients only, and no model here has any",
}
CLASSES = [
    name
    for name, each in vars(torch.optim).items()
    if inspect.isclass(each) and issubclass(each, Optimizer) and each is not Optimizer
]
OUTSIDE = {"Hybrid": "momentum of matrices only", "EightBit": "state in 8 bits"}


def settings_for(name):
    model = dict(type="Matrices") if name == "Muon" else {}
    # mmengine has the name Adafactor for the one of transformers.
    type_ = "TorchAdafactor" if name == "Adafactor" else name
    return dict(optim_wrapper=dict(optimizer=dict(type=type_, lr=0.01)), model=model)


@pytest.fixture(scope="module")
def rows():
    return {}


@pytest.mark.parametrize("name", [*sorted(CLASSES), *OUTSIDE])
def test_training_resumed_ends_in_the_state_of_an_uninterrupted_one(name, rows, tmp_path, capsys):
    settings = settings_for(name)
    if name in CANNOT_TRAIN:
        with pytest.raises((TypeError, RuntimeError)):
            toy_runner(tmp_path, **settings).train()
        rows[name] = CANNOT_TRAIN[name]
        return
    toy_runner(tmp_path / "whole", END, interval=AT, max_keep_ckpts=-1, **settings).train()
    path = tmp_path / "whole" / f"iter_{AT}.pth"
    toy_runner(tmp_path / "resumed", END, resume=path, interval=99, **settings).train()
    states = [state_of(tmp_path / run / f"iter_{END}.pth") for run in ("whole", "resumed")]
    assert not differences(*states)
    assert not told(capsys)
    rows[name] = "yes"


def test_table_of_optimizers(rows, check_table):
    if len(rows) < len(CLASSES) + len(OUTSIDE):
        pytest.skip("the tests of this file run together")
    assert {name for name, text in rows.items() if text != "yes"} == set(CANNOT_TRAIN)
    lines = [[f"torch.optim.{name}", rows[name]] for name in sorted(CLASSES)]
    lines += [[f"one from outside, {what}", rows[name]] for name, what in OUTSIDE.items()]
    check_table(
        "optimizers", [["optimizer", "resumed, the result is the same bit for bit"], *lines]
    )


def test_option_of_another_optimizer_follows_the_config_and_its_progress_the_checkpoint(
    tmp_path, capsys
):
    path = start(tmp_path, **settings_for("Hybrid"))
    reached = torch.load(path, weights_only=False)["optimizer"]["param_groups"][0]["reached"]
    capsys.readouterr()
    second = settings_for("Hybrid")
    second["optim_wrapper"]["optimizer"]["momentum"] = 0.5
    runner = toy_runner(tmp_path, AT + 1, resume=path, text=True, **second)
    assert options_of(runner)[AT][0][4] == 0.5
    (group,) = runner.optim_wrapper.optimizer.param_groups
    assert group["reached"] == reached * 0.9 and len(group["history"]) == 3
    assert "momentum: 0.9 in the checkpoint, 0.5 now" in told(capsys)


@pytest.mark.parametrize("name", ["Adam", "Hybrid", "EightBit"])
@pytest.mark.parametrize("value", [float("inf"), torch.tensor([1.0, float("inf")])])
def test_state_that_is_not_finite_is_refused(name, value, tmp_path):
    path = start(tmp_path, **settings_for(name))
    content = torch.load(path, weights_only=False)
    content["optimizer"]["state"][0]["momentum"] = value
    torch.save(content, path)
    with pytest.raises(InputError, match="state of parameter 0 is not finite"):
        toy_runner(tmp_path, resume=path, **settings_for(name)).train()


def test_state_of_unknown_parameters_is_refused(tmp_path):
    path = start(tmp_path, **settings_for("Hybrid"))
    content = torch.load(path, weights_only=False)
    content["optimizer"]["state"][99] = {}
    torch.save(content, path)
    with pytest.raises(InputError, match="the optimizer's state is not of its parameters"):
        toy_runner(tmp_path, resume=path, **settings_for("Hybrid")).train()


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class TwoOptimizers:
    """Optimizers of their own for two layers."""

    def __init__(self, optim_wrapper_cfg, paramwise_cfg=None):
        self.rates = optim_wrapper_cfg["rates"]

    def __call__(self, model):
        wrappers = {}
        for name, rate in self.rates.items():
            layers = [model.first] if name == "one" else [model.norm, model.last]
            parameters = [p for layer in layers for p in layer.parameters()]
            wrappers[name] = OptimWrapper(torch.optim.AdamW(parameters, lr=rate))
        return OptimWrapperDict(**wrappers)


@MODELS.register_module()
class TwoSteps(ToyNet):
    """A ToyNet that is trained by several optimizers."""

    def train_step(self, data, optim_wrapper):
        losses = self(**data, mode="loss")
        for wrapper in optim_wrapper.values():
            wrapper.zero_grad()
        losses["loss"].backward()
        for wrapper in optim_wrapper.values():
            wrapper.step()
        return losses


def two(**rates):
    wrapper = dict(constructor="TwoOptimizers", rates=rates, optimizer=None)
    return dict(optim_wrapper=wrapper, model=dict(type="TwoSteps"))


def test_training_with_several_optimizers_resumes(tmp_path, capsys):
    settings = two(one=0.01, other=0.02)
    toy_runner(tmp_path / "whole", 8, interval=AT, max_keep_ckpts=-1, **settings).train()
    path = tmp_path / "whole" / f"iter_{AT}.pth"
    toy_runner(tmp_path / "resumed", 8, resume=path, **settings).train()
    states = [state_of(tmp_path / run / "iter_8.pth") for run in ("whole", "resumed")]
    assert not differences(*states) and not told(capsys)

    changed = two(one=0.01, other=0.05)
    whole = toy_runner(tmp_path / "a", 8, **changed)
    whole.train()
    resumed = toy_runner(tmp_path / "b", 8, resume=path, **changed)
    resumed.train()
    rates = [runner.optim_wrapper.get_lr() for runner in (whole, resumed)]
    assert rates[0] == rates[1]
    assert told(capsys) == ["other.lr: 0.02 in the checkpoint, 0.05 now"]
    with pytest.raises(InputError, match="its optimizers are not those of the config: one, third"):
        toy_runner(tmp_path / "c", 8, resume=path, **two(one=0.01, third=0.02)).train()


# Options of PyTorch's optimizers by class: they can be switched when a training is resumed.
SWITCHED = [
    ("Adam", {}, dict(amsgrad=True), "max_exp_avg_sq"),
    ("Adam", dict(amsgrad=True), {}, None),
    ("Adam", {}, dict(fused=True), None),
    ("Adam", dict(fused=True), {}, None),
    ("Adafactor", {}, dict(eps=(1e-8, 1e-3)), None),
    ("RMSprop", {}, dict(centered=True), "grad_avg"),
    ("RMSprop", {}, dict(momentum=0.5), "momentum_buffer"),
    ("RMSprop", dict(momentum=0.5), {}, None),
    ("SGD", {}, dict(momentum=0.5), None),
    ("SGD", dict(momentum=0.5), dict(momentum=0.5, nesterov=True), None),
]


@pytest.mark.parametrize("name, before, now, missing", SWITCHED)
def test_option_that_is_switched_is_taken_or_refused_before_the_first_step(
    name, before, now, missing, tmp_path, capsys
):
    first, second = settings_for(name), settings_for(name)
    first["optim_wrapper"]["optimizer"] |= before
    second["optim_wrapper"]["optimizer"] |= now
    path = start(tmp_path, **first)
    capsys.readouterr()
    runner = toy_runner(tmp_path, AT + 1, resume=path, text=True, **second)
    if missing is None:
        runner.train()
        (changed,) = set(before.items()) ^ set(now.items())
        assert any(line.startswith(f"{changed[0]}: ") for line in told(capsys))
    else:
        with pytest.raises(InputError, match=f"its optimizer has no {missing}, which the config"):
            runner.train()


@pytest.mark.parametrize(
    "settings, message",
    [
        (
            dict(optim_wrapper=dict(optimizer=dict(type="Adamw"))),
            "type is Adamw, .*: is AdamW meant",
        ),
        (dict(optim_wrapper=dict(optimizer=dict(type="AdamW", lr=-1))), "Invalid learning rate"),
        (dict(optim_wrapper=dict(optimizer=dict(type="SGD", rate=1))), "argument 'rate'"),
        (dict(optim_wrapper=dict(accumulative_counts=0)), "accumulative_counts.*greater than"),
        (dict(max_iters="4k"), "train_cfg of the config cannot be built: "),
    ],
)
def test_optimizer_or_loop_that_cannot_be_built_is_told_in_a_sentence(settings, message, tmp_path):
    with pytest.raises(InputError, match=message):
        toy_runner(tmp_path, **settings).train()


@pytest.mark.skipif(torch.cuda.is_available(), reason="AmpOptimWrapper needs a GPU")
def test_mixed_precision_without_a_gpu_is_told_in_a_sentence(tmp_path):
    with pytest.raises(InputError, match="optim_wrapper of the config.*only available .* on gpu"):
        toy_runner(tmp_path, optim_wrapper=dict(type="AmpOptimWrapper")).train()


def test_loop_with_a_type_and_by_epoch_is_told_in_a_sentence(tmp_path):
    runner = toy_runner(tmp_path)
    runner._train_loop["by_epoch"] = False
    with pytest.raises(InputError, match="the train_cfg of the config.*Only one of `type` or"):
        runner.train()
