"""Trainings that are resumed with a config that differs from the checkpoint's."""

import re

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.registry import PARAM_SCHEDULERS

from gfnet_dense.checkpoint.safe_reader import read_checkpoint
from gfnet_dense.engine.runner import continuing
from gfnet_dense.engine.runner.config_text import parse_config_text
from gfnet_dense.engine.runner.epochs import place_in_epochs
from gfnet_dense.engine.runner.preparation import prepare_testing, prepare_training
from gfnet_dense.engine.state_keys import SETTINGS
from gfnet_dense.utils.config import read_config
from gfnet_dense.utils.config_diff import diff_configs
from gfnet_dense.utils.errors import InputError
from tests.conftest import ROOT
from tests.torture.test_kills import differences, state_of
from tests.toy import toy_runner

AT = 4  # iteration of the checkpoint
END = 10
POLY = dict(type="PolyLR", by_epoch=False, begin=0, end=END)
SHORT_POLY = POLY | dict(end=AT)
WARMUP = dict(type="LinearLR", by_epoch=False, begin=0, end=3, start_factor=0.1)
PLATEAU = dict(type="ReduceOnPlateauLR", monitor="mean", rule="greater", patience=0, end=99)


def adamw(**options):
    return dict(optimizer=dict(type="AdamW", lr=0.01) | options)


def wrapped(**options):
    return dict(optim_wrapper=adamw() | options)


def momentum(**options):
    return dict(optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.01, momentum=0.9) | options))


def multipliers(**options):
    return dict(optim_wrapper=adamw(weight_decay=0.01) | dict(paramwise_cfg=options))


class OptionsHook(Hook):
    """Hook that records the options of the optimizer at each iteration."""

    priority = "LOWEST"

    def __init__(self):
        self.at = {}

    def before_train_iter(self, runner, *args, **kwargs):
        groups = runner.optim_wrapper.optimizer.param_groups
        keys = ("lr", "weight_decay", "betas", "eps", "momentum", "nesterov")
        self.at[runner.iter] = [[group.get(key) for key in keys] for group in groups]


def start(folder, **settings):
    """Train to iteration AT, where checkpoints are written every second iteration."""
    first = dict(max_iters=AT, interval=99) | settings
    toy_runner(folder, text=True, **first).train()
    ends = [path for path in folder.glob("*.pth") if "best" not in path.name]
    return max(ends, key=lambda path: path.stat().st_mtime)


def options_of(runner):
    hook = OptionsHook()
    runner.register_hook(hook)
    runner.train()
    return hook.at


def told(capsys):
    """Return the lines about differences that were printed."""
    return [line[2:] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]


# What differs, settings of the first part of the training, of the second, and what is said.
TAKEN = [
    ("nothing", {}, {}, []),
    ("longer schedule", dict(param_scheduler=SHORT_POLY), dict(param_scheduler=POLY),
     ["schedule 0, PolyLR: end: 4 in the checkpoint, 10 now"]),
    ("shorter schedule", dict(param_scheduler=POLY), dict(param_scheduler=POLY | dict(end=6)),
     ["schedule 0, PolyLR: end: 10 in the checkpoint, 6 now"]),
    ("power", dict(param_scheduler=POLY), dict(param_scheduler=POLY | dict(power=2)),
     ["schedule 0, PolyLR: power: 1.0 in the checkpoint, 2 now"]),
    ("eta_min", dict(param_scheduler=POLY), dict(param_scheduler=POLY | dict(eta_min=0.001)),
     ["schedule 0, PolyLR: eta_min: 0 in the checkpoint, 0.001 now"]),
    ("warmup added", dict(param_scheduler=POLY), dict(param_scheduler=[WARMUP, POLY]),
     ["schedules: PolyLR in the checkpoint, LinearLR, PolyLR now"]),
    ("warmup longer", dict(param_scheduler=[WARMUP, POLY | dict(begin=3)]),
     dict(param_scheduler=[WARMUP | dict(end=6), POLY | dict(begin=6)]),
     ["schedule 0, LinearLR: end: 3 in the checkpoint, 6 now",
      "schedule 1, PolyLR: begin: 3 in the checkpoint, 6 now"]),
    ("type of schedule", dict(param_scheduler=POLY),
     dict(param_scheduler=dict(type="ExponentialLR", by_epoch=False, gamma=0.8)),
     ["schedules: PolyLR in the checkpoint, ExponentialLR now"]),
    ("schedule added", dict(param_scheduler=[]), dict(param_scheduler=POLY),
     ["schedules: none in the checkpoint, PolyLR now"]),
    ("schedule left out", dict(param_scheduler=POLY), dict(param_scheduler=[]),
     ["schedules: PolyLR in the checkpoint, none now"]),
    ("milestones", dict(param_scheduler=dict(type="MultiStepLR", by_epoch=False, milestones=[3])),
     dict(param_scheduler=dict(type="MultiStepLR", by_epoch=False, milestones=[2, 7])),
     ["schedule 0, MultiStepLR: end: 4 in the checkpoint, 10 now",
      "schedule 0, MultiStepLR: milestones: [3] in the checkpoint, [2, 7] now"]),
    ("learning rate", {}, dict(optim_wrapper=adamw(lr=0.02)),
     ["lr: 0.01 in the checkpoint, 0.02 now"]),
    ("weight decay", {}, dict(optim_wrapper=adamw(weight_decay=0.3)),
     ["weight_decay: 0.01 in the checkpoint, 0.3 now"]),
    ("betas", {}, dict(optim_wrapper=adamw(betas=(0.8, 0.9))),
     ["betas: [0.9, 0.999] in the checkpoint, [0.8, 0.9] now"]),
    ("eps", {}, dict(optim_wrapper=adamw(eps=1e-4)),
     ["eps: 1e-08 in the checkpoint, 0.0001 now"]),
    ("momentum", momentum(), momentum(momentum=0.5),
     ["momentum: 0.9 in the checkpoint, 0.5 now"]),
    ("scheduled momentum",
     dict(param_scheduler=dict(type="LinearMomentum", by_epoch=False, end=8, start_factor=0.5)),
     dict(param_scheduler=dict(type="LinearMomentum", by_epoch=False, end=12, start_factor=0.5)),
     ["schedule 0, LinearMomentum: end: 8 in the checkpoint, 12 now"]),
    ("multipliers of learning rates", multipliers(bias_lr_mult=1.0), multipliers(bias_lr_mult=2.0),
     ["lr: 0.01 in the checkpoint, 0.02 now, in 2 of 6 groups of parameters"]),
    ("multipliers of weight decay", multipliers(norm_decay_mult=1.0),
     multipliers(norm_decay_mult=0.0),
     ["weight_decay: 0.01 in the checkpoint, 0.0 now, in 2 of 6 groups of parameters"]),
    ("auto_scale_lr", {}, dict(auto_scale_lr=dict(enable=True, base_batch_size=1)),
     ["lr: 0.01 in the checkpoint, 0.02 now"]),
    ("batch size", {}, dict(batch_size=4),
     ["train_dataloader.batch_size: 2 in the checkpoint, 4 now"]),
    ("accumulation", {}, wrapped(accumulative_counts=2),
     ["optim_wrapper.accumulative_counts: nothing in the checkpoint, 2 now"]),
    ("implementation", {}, dict(optim_wrapper=adamw(foreach=True)),
     ["foreach: None in the checkpoint, True now"]),
    ("gradient clipping", {}, wrapped(clip_grad=dict(max_norm=0.1)),
     ["optim_wrapper.clip_grad: nothing in the checkpoint, {'max_norm': 0.1} now"]),
    ("number of images", {}, dict(dataset=dict(length=12)),
     ["number of images: 16 in the checkpoint, 12 now",
      "train_dataloader.dataset.length: nothing in the checkpoint, 12 now"]),
    ("data", {}, dict(dataset=dict(noise=2)),
     ["train_dataloader.dataset.noise: nothing in the checkpoint, 2 now"]),
    ("loss", {}, dict(model=dict(loss_weight=2.0)),
     ["model.loss_weight: nothing in the checkpoint, 2.0 now"]),
    ("loss scaler added", {}, wrapped(type="ToyScaler"),
     ["loss scaler: none in the checkpoint, one now",
      "optim_wrapper.type: nothing in the checkpoint, ToyScaler now"]),
    ("loss scaler left out", wrapped(type="ToyScaler"), {},
     ["loss scaler: one in the checkpoint, none now",
      "optim_wrapper.type: ToyScaler in the checkpoint, nothing now"]),
    ("loss scaler's growth", wrapped(type="ToyScaler"), wrapped(type="ToyScaler", growth=3.0),
     ["loss scaler: growth_factor: 2.0 in the checkpoint, 3.0 now",
      "optim_wrapper.growth: nothing in the checkpoint, 3.0 now"]),
    ("averages added", {}, dict(hooks=[dict(type="EMAHook")]),
     ["averages of the weights: none in the checkpoint, kept now",
      "custom_hooks: "]),
    ("averages left out", dict(hooks=[dict(type="EMAHook")]), {},
     ["averages of the weights: kept in the checkpoint, none now",
      "custom_hooks: "]),
    ("layer frozen", {}, dict(model=dict(frozen=True)),
     ["model.frozen: nothing in the checkpoint, True now"]),
    ("layer no longer frozen", dict(model=dict(frozen=True)), {},
     ["model.frozen: True in the checkpoint, nothing now"]),
    ("interval of validations", {}, dict(val_interval=3),
     ["train_cfg.val_interval: 4 in the checkpoint, 3 now"]),
    ("interval of checkpoints", {}, dict(interval=5),
     ["default_hooks.checkpoint.interval: 99 in the checkpoint, 5 now"]),
]  # fmt: skip


@pytest.fixture(scope="module")
def rows():
    """Return what happened, by what differs."""
    return {}


@pytest.mark.parametrize("what, first, second, lines", TAKEN, ids=[row[0] for row in TAKEN])
def test_config_decides_about_the_rest_of_a_resumed_training(
    what, first, second, lines, rows, tmp_path, capsys
):
    """Its options are at each iteration those of a training under the second config alone."""
    path = start(tmp_path / "run", **first)
    capsys.readouterr()
    resumed = toy_runner(
        tmp_path / "run", END, resume=path, text=True, **dict(interval=99) | second
    )
    found = options_of(resumed)
    whole = options_of(toy_runner(tmp_path / "whole", END, **dict(interval=99) | second))
    assert found == {i: whole[i] for i in range(AT, END)}
    said = told(capsys)
    expected = [*lines, "train_cfg.max_iters: 4 in the checkpoint, 10 now"]
    for line, begin in zip(sorted(said), sorted(expected), strict=True):
        assert line.startswith(begin)
        assert " in the checkpoint, " in line and line.endswith((" now", " groups of parameters"))
    told_briefly = [line for line in said if line.partition(":")[0] != "train_cfg.max_iters"]
    told_briefly = [
        re.sub(r"\[{.*", "... in the checkpoint, ... now", each) for each in told_briefly
    ]
    rows[what] = "; ".join(told_briefly) or "nothing is said, the end is the same bit for bit"


REFUSED = [
    ("fewer iterations than trained", {}, dict(max_iters=3),
     "it is of iter 4, the config trains 3"),
    ("fewer epochs than trained", dict(max_epochs=2), dict(max_epochs=1),
     "it is of epoch 2, the config trains 1"),
    ("another optimizer", {}, momentum(), "its optimizer is AdamW, the config's SGD"),
    ("an optimizer with the same state", {}, dict(optim_wrapper=adamw(type="Adam")),
     "its optimizer is AdamW, the config's Adam"),
    ("an option that needs further state", {}, dict(optim_wrapper=adamw(amsgrad=True)),
     "its optimizer has no max_exp_avg_sq, which the config's options need"),
    ("other groups of parameters", {}, multipliers(bias_lr_mult=2.0),
     "its optimizer has 1 groups with 6 parameters, the config's 6 groups with 6 parameters"),
    ("order of classes", dict(dataset=dict(classes=["disc", "blob"])),
     dict(dataset=dict(classes=["blob", "disc"])),
     "was trained for the classes disc, blob, in this order"),
    ("learning rate that waits for a plateau",
     dict(max_epochs=2, val=True, param_scheduler=PLATEAU),
     dict(max_epochs=4, val=True, param_scheduler=PLATEAU, optim_wrapper=adamw(lr=0.02)),
     "a ReduceOnPlateauLR cannot be computed for another schedule"),
]  # fmt: skip


@pytest.mark.parametrize("what, first, second, message", REFUSED, ids=[row[0] for row in REFUSED])
def test_training_is_not_resumed_where_the_config_cannot_decide(
    what, first, second, message, rows, tmp_path
):
    path = start(tmp_path, **first)
    with pytest.raises(InputError) as error:
        toy_runner(tmp_path, resume=path, text=True, **second).train()
    assert message in str(error.value) and path.name in str(error.value)
    rows[what] = f"refused: {message}"


# Schedulers of mmengine by the beginning of their names: two settings of each. Those of momentum
# and of other parameters take the same.
SCHEDULERS = {
    "Constant": (dict(factor=0.3, end=6), dict(factor=0.5, end=8)),
    "CosineAnnealing": (dict(T_max=8), dict(T_max=12, eta_min=1e-4)),
    "CosineRestart": (dict(periods=[3, 5], restart_weights=[1, 0.5], eta_min=0),
                      dict(periods=[2, 6], restart_weights=[1, 0.3], eta_min=0)),
    "Exponential": (dict(gamma=0.9), dict(gamma=0.8)),
    "Linear": (dict(start_factor=0.1, end=7), dict(start_factor=0.2, end=9)),
    "MultiStep": (dict(milestones=[2, 5]), dict(milestones=[3, 5], gamma=0.5)),
    "OneCycle": (dict(eta_max=0.05, total_steps=40), dict(eta_max=0.08, total_steps=50)),
    "Poly": (dict(end=12), dict(end=9, power=2)),
    "Step": (dict(step_size=2), dict(step_size=3, gamma=0.5)),
}  # fmt: skip
KINDS = {"LR": {}, "Momentum": {}, "ParamScheduler": dict(param_name="weight_decay")}
CASES = [
    (name, kind, clock)
    for name in SCHEDULERS
    for kind in KINDS
    if f"{name}{kind}" in PARAM_SCHEDULERS
    for clock in ("iterations", "epochs", "epochs as iterations")
    if clock == "iterations" or kind == "LR"
    if clock != "epochs as iterations" or name in ("MultiStep", "OneCycle", "Poly")
    if (name, kind) != ("OneCycle", "ParamScheduler")  # it takes the learning rate only
]


def test_all_schedulers_of_mmengine_are_tried():
    names = {n for n, each in PARAM_SCHEDULERS.module_dict.items() if "mmengine" in each.__module__}
    tried = {f"{name}{kind}" for name, kind, _ in CASES}
    plateau = {f"ReduceOnPlateau{kind}" for kind in KINDS}
    assert names - tried == plateau | {"OneCycleParamScheduler"}


@pytest.mark.parametrize("name, kind, clock", CASES, ids=["-".join(case) for case in CASES])
def test_schedule_of_the_config_holds_as_if_it_had_been_so_from_the_start(
    name, kind, clock, tmp_path
):
    """With the same schedule, the end is bit for bit that of an uninterrupted training."""
    by_epoch = clock != "iterations"
    length, last = (dict(max_epochs=4), "epoch_4") if by_epoch else (dict(max_iters=10), "iter_10")
    common = dict(type=f"{name}{kind}", by_epoch=by_epoch, end=99) | KINDS[kind]
    if clock == "epochs as iterations":
        common["convert_to_iter_based"] = True
    first, second = (dict(param_scheduler=common | each) for each in SCHEDULERS[name])
    small = dict(dataset=dict(length=6), interval=2)
    whole = toy_runner(tmp_path / "first", **length, **first, **small, max_keep_ckpts=-1)
    expected = {"first": options_of(whole)}
    path = tmp_path / "first" / ("epoch_2.pth" if by_epoch else "iter_4.pth")
    expected["second"] = options_of(toy_runner(tmp_path / "second", **length, **second, **small))
    iteration = read_checkpoint(path)["meta"]["iter"]
    for run, settings in (("first", first), ("second", second)):
        resumed = toy_runner(tmp_path / "resumed", **length, **settings, **small, resume=path)
        assert options_of(resumed) == {
            i: each for i, each in expected[run].items() if i >= iteration
        }
        states = [state_of(tmp_path / folder / f"{last}.pth") for folder in (run, "resumed")]
        if settings is second:
            states = [state["param_schedulers"] for state in states]
        assert not differences(*states)


def test_long_schedule_is_computed_in_seconds():
    """160,000 iterations in the schedules of our configs, with 20 groups of parameters."""
    parameters = [dict(params=[torch.nn.Parameter(torch.zeros(1))]) for _ in range(20)]
    wrapper = OptimWrapper(torch.optim.AdamW(parameters, lr=1e-4))
    warmup, poly = (dict(optimizer=wrapper, by_epoch=False) for _ in range(2))
    own = [
        PARAM_SCHEDULERS.build(dict(type="LinearLR", start_factor=0.1, end=1500, **warmup)),
        PARAM_SCHEDULERS.build(dict(type="PolyLR", begin=1500, end=160_000, **poly)),
    ]
    continuing.replay(own, 0, 80_000)
    (rate,) = {group["lr"] for group in wrapper.optimizer.param_groups}
    assert rate == pytest.approx(1e-4 * (1 - 78_500 / 158_499), rel=1e-6)


def test_only_the_next_validations_follow_other_settings_of_a_plateau(tmp_path, capsys):
    settings = dict(val=True, interval=99)
    first = start(tmp_path, max_epochs=2, param_scheduler=PLATEAU, **settings)
    before = read_checkpoint(first)["param_schedulers"][0]
    capsys.readouterr()
    resumed = toy_runner(
        tmp_path, max_epochs=3, resume=first, param_scheduler=PLATEAU | dict(patience=7),
        text=True, **settings,
    )  # fmt: skip
    resumed.register_hook(states := _StatesHook())
    resumed.train()
    assert "schedule 0, ReduceOnPlateauLR: patience: 0 in the checkpoint, 7 now" in told(capsys)
    assert states.first == before | dict(patience=7)
    assert before["best"] > -100


class _StatesHook(Hook):
    priority = "HIGHEST"  # before CheckpointHook makes up for a missed validation

    def before_train(self, runner):
        self.first = dict(runner.param_schedulers[0].state_dict())


def test_training_without_averages_goes_on_from_the_trained_weights(tmp_path):
    """mmengine puts the averages in place of the weights in the checkpoints of a training."""
    averaged = start(tmp_path / "averaged", hooks=[dict(type="EMAHook")])
    plain = start(tmp_path / "plain")
    assert differences(*(read_checkpoint(p)["state_dict"] for p in (averaged, plain)))
    for path in (averaged, plain):
        toy_runner(path.parent, 8, resume=path).train()
    assert not differences(*(state_of(path.with_name("iter_8.pth")) for path in (averaged, plain)))


@pytest.mark.parametrize("place, length, expected", [
    ((2, 16), 8, (2, 16)), ((2, 19), 8, (2, 19)), ((2, 24), 8, (2, 24)),
    ((2, 16), 4, (2, 8)), ((2, 16), 9, (2, 18)), ((0, 3), 8, (0, 3)), ((0, 19), 8, (2, 19)),
])  # fmt: skip
def test_place_at_which_epochs_go_on(place, length, expected):
    assert place_in_epochs(*place, length) == expected


LOOPS = [  # settings of both parts, place at which it goes on, iterations that are trained
    ("epochs of other length", dict(max_epochs=2), dict(max_epochs=4, batch_size=4), range(8, 16)),
    ("iterations, then epochs", dict(max_iters=12), dict(max_epochs=3), range(12, 24)),
    ("epochs, then iterations", dict(max_epochs=1), dict(max_iters=10), range(8, 10)),
]


@pytest.mark.parametrize("what, first, second, trained", LOOPS, ids=[row[0] for row in LOOPS])
def test_loop_of_the_config_goes_on_at_the_progress_of_the_checkpoint(
    what, first, second, trained, rows, tmp_path
):
    schedule = dict(param_scheduler=[POLY | dict(end=20), dict(type="ExponentialLR", gamma=0.5)])
    path = start(tmp_path / "run", **first | schedule)
    before = read_checkpoint(path)["meta"]
    found = options_of(toy_runner(tmp_path / "run", resume=path, **second, **schedule))
    expected = options_of(toy_runner(tmp_path / "whole", **second, **schedule))
    assert found == {i: expected[i] for i in trained}
    rows[what] = (
        f"after epoch {before['epoch']}, iteration {before['iter']}, it goes on with iteration "
        f"{trained[0] + 1} of {trained[-1] + 1}"
    )


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("at", [3, 8, 11, 16])
def test_training_resumed_within_an_epoch_ends_in_the_state_of_an_uninterrupted_one(
    at, num_workers, tmp_path
):
    """The epochs have eight iterations each."""
    settings = dict(max_epochs=3, by_epoch=False, num_workers=num_workers, max_keep_ckpts=-1)
    settings["param_scheduler"] = [POLY | dict(end=99), dict(type="ExponentialLR", gamma=0.5)]
    toy_runner(tmp_path / "whole", interval=at, **settings).train()
    resumed = toy_runner(
        tmp_path / "resumed", resume=tmp_path / f"whole/iter_{at}.pth", interval=99, **settings
    )
    resumed.train()
    states = [state_of(tmp_path / run / "iter_24.pth") for run in ("whole", "resumed")]
    assert not differences(*states)


def test_number_of_processes_is_told(rows, tmp_path, capsys):
    path = start(tmp_path)
    content = torch.load(path, weights_only=False)
    content["meta"][SETTINGS]["processes"] = 2
    torch.save(content, path)
    capsys.readouterr()
    toy_runner(tmp_path, AT, resume=path, text=True).train()
    out = capsys.readouterr().out
    line = "number of processes: 2 in the checkpoint, 1 now"
    assert f"  {line}\n" in out
    rows["number of processes"] = line


def test_end_of_a_training_without_anything_left_is_told(rows, tmp_path, capsys):
    path = start(tmp_path)
    capsys.readouterr()
    toy_runner(tmp_path, AT, interval=99, resume=path, text=True).train()
    out = capsys.readouterr().out
    line = "nothing is left to train"
    assert f"{line}: iter_4.pth is of the end that the config sets" in out and not told(capsys)
    rows["nothing, at the end of the training"] = line


@pytest.mark.parametrize("scheduler", [POLY, [WARMUP, POLY | dict(begin=3)]])
def test_schedule_whose_state_is_not_in_the_checkpoint_goes_on(scheduler, tmp_path):
    settings = dict(param_scheduler=scheduler, save_param_scheduler=False, interval=AT)
    toy_runner(tmp_path, AT, **settings).train()
    path = tmp_path / f"iter_{AT}.pth"
    found = options_of(toy_runner(tmp_path, END, resume=path, **settings))
    whole = options_of(toy_runner(tmp_path / "whole", END, **settings))
    assert found == {i: whole[i] for i in range(AT, END)}


def test_plateau_whose_state_is_not_in_the_checkpoint_is_refused(tmp_path):
    settings = dict(val=True, param_scheduler=PLATEAU, save_param_scheduler=False)
    toy_runner(tmp_path, max_epochs=1, **settings).train()
    with pytest.raises(InputError, match="its schedules are missing, and one depends on the valid"):
        toy_runner(tmp_path, max_epochs=2, resume=tmp_path / "epoch_1.pth", **settings).train()


@pytest.mark.parametrize("other", ["", "deterministic=True, "])
def test_seed_that_the_command_has_set_is_no_difference(other):
    """A config without a seed gets that of the checkpoint by --resume."""
    drawn, own = f"randomness = dict({other}seed=7)", f"randomness = dict({other})" if other else ""
    for texts in ((f"a = 1\n{own}", f"a = 1\n{drawn}"), (f"a = 1\n{drawn}", f"a = 1\n{own}")):
        assert list(continuing._text_differences(*texts)) == []


def test_seed_is_that_of_the_checkpoint(rows, tmp_path, capsys):
    start(tmp_path)
    cfg = ConfigDict(model={}, work_dir=str(tmp_path), randomness=dict(seed=7))
    prepare_training(cfg, resume=True, amp=None)
    line = "the seed is that of iter_4.pth, 1, not 7"
    assert line in capsys.readouterr().err and cfg.randomness.seed == 1
    rows["seed"] = line


@pytest.mark.parametrize("key, place", [
    ("work_dir", "s3://bucket/run"), ("default_hooks.checkpoint.out_dir", "petrel://bucket"),
])  # fmt: skip
def test_remote_folders_are_refused_before_anything_is_read(key, place, tmp_path):
    cfg = Config(dict(work_dir=str(tmp_path), default_hooks=dict(checkpoint={})))
    cfg.merge_from_dict({key: place})
    for prepare in (
        lambda: prepare_training(cfg, resume=True, amp=None),
        lambda: prepare_testing(cfg, "x.pth"),
    ):
        with pytest.raises(InputError, match=f"^{key} is {place}: .* a folder of this machine"):
            prepare()


def test_best_score_of_another_metric_is_forgotten(tmp_path, capsys):
    """It would be compared with the new metric's: here no checkpoint would ever be the best."""
    best = dict(val=True, rule="greater")
    path = start(tmp_path, save_best="negative", **best)
    content = torch.load(path, weights_only=False)
    info = content["message_hub"]["runtime_info"]
    assert info["best_ckpt"].endswith("best_negative_iter_4.pth")
    info["best_score"] = 1e6
    torch.save(content, path)
    toy_runner(tmp_path, 8, resume=path, save_best="mean", **best).train()
    names = sorted(each.name for each in tmp_path.glob("best*"))
    assert names[0].startswith("best_mean_iter_") and names[1:] == ["best_negative_iter_4.pth"]
    assert "the best checkpoint is now searched for by mean" in capsys.readouterr().out


def test_table_of_what_differs(rows, check_table):
    if len(rows) < len(TAKEN) + len(REFUSED) + len(LOOPS) + 3:
        pytest.skip("the tests of this file run together")
    names = [row[0] for row in TAKEN]
    names += ["number of processes", "seed", "nothing, at the end of the training"]
    names += [row[0] for row in (*LOOPS, *REFUSED)]
    check_table("resuming", [["differs", "what happens"], *([name, rows[name]] for name in names)])


def without_record(path):
    """Write a checkpoint as earlier versions and other libraries write it."""
    content = torch.load(path, weights_only=False)
    del content["meta"][SETTINGS], content["meta"]["cfg"]
    torch.save(content, path)


OLD = [
    ("nothing", {}, {}, []),
    ("schedule", dict(param_scheduler=SHORT_POLY), dict(param_scheduler=POLY),
     ["schedule 0, PolyLR: end: 4 in the checkpoint, 10 now"]),
    ("learning rate", {}, dict(optim_wrapper=adamw(lr=0.02)),
     ["lr: 0.01 in the checkpoint, 0.02 now"]),
    ("momentum", momentum(), momentum(momentum=0.5), ["momentum: 0.9 in the checkpoint, 0.5 now"]),
    ("scheduled momentum, nothing", *[dict(param_scheduler=dict(
        type="LinearMomentum", by_epoch=False, end=8, start_factor=0.5))] * 2, []),
    ("type of schedule", dict(param_scheduler=POLY),
     dict(param_scheduler=dict(type="StepLR", by_epoch=False, step_size=3, end=END)),
     ["schedules: unnamed in the checkpoint, StepLR now"]),
]  # fmt: skip


@pytest.mark.parametrize("what, first, second, lines", OLD, ids=[row[0] for row in OLD])
def test_checkpoints_without_a_record_of_settings_are_compared_by_their_states(
    what, first, second, lines, tmp_path, capsys
):
    path = start(tmp_path / "run", **first)
    without_record(path)
    capsys.readouterr()
    found = options_of(toy_runner(tmp_path / "run", END, resume=path, text=True, **second))
    whole = options_of(toy_runner(tmp_path / "whole", END, **second))
    assert found == {i: whole[i] for i in range(AT, END)}
    assert told(capsys) == lines


@pytest.mark.parametrize("record", [
    "x", {}, {"optimizers": {"": {}}}, {"optimizers": {"": {"groups": [1], "schedulers": []}}},
])  # fmt: skip
def test_damaged_record_of_settings_is_refused(record, tmp_path):
    path = start(tmp_path)
    content = torch.load(path, weights_only=False)
    content["meta"][SETTINGS] = record
    torch.save(content, path)
    with pytest.raises(InputError, match="its record of the settings is damaged"):
        toy_runner(tmp_path, resume=path).train()


def test_text_of_a_config_is_read_and_not_run(tmp_path):
    text = "a = dict(b=[1, (2, None)], c={'x y': -1.5})\nd = __import__('os').system('touch x')\n"
    text += "import os\ne = dict(dict(f='g'), h=open)\n"
    assert parse_config_text(text) == {
        "a": {"b": [1, [2, None]], "c": {"x y": -1.5}},
        "d": "__import__('os').system('touch x')",
        "e": {"f": "g", "h": "open"},
    }
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("text", [
    None, b"a = 1", "a = ", "a = " + "(" * 10**4, "a = " + "-" * 10**5 + "1", "\0", "x" * 2**21,
    "a = {[]: 1}",
])  # fmt: skip
def test_text_that_is_no_config_is_none_or_stays_text(text):
    assert parse_config_text(text) in (None, {"a": "{[]: 1}"})


def test_texts_of_configs_are_read_whole():
    for path in sorted((ROOT / "configs").glob("*.py"))[::8]:
        cfg = read_config(path)  # few of them, since mmengine's formatting takes its time
        parsed = parse_config_text(cfg.pretty_text)
        assert not list(diff_configs(plain(cfg.to_dict()), parsed))


def plain(node):
    if isinstance(node, dict):
        return {key: plain(value) for key, value in node.items()}
    return [plain(each) for each in node] if isinstance(node, (list, tuple)) else node
