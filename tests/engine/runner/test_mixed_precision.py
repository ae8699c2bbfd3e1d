"""--amp in a config: what is set, what stays, and what is refused."""

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper

from gfnet_dense.engine.runner import mixed_precision
from gfnet_dense.engine.runner.mixed_precision import set_test_precision, set_training_precision
from gfnet_dense.utils.errors import InputError
from tests.toy import toy_runner

OURS = "gfnet_dense.Bfloat16OptimWrapper"
REST = dict(
    optimizer=dict(type="AdamW", lr=0.01), accumulative_counts=3, clip_grad=dict(max_norm=1.0),
    constructor="gfnet_dense.LayerDecayConstructor",
)  # fmt: skip


@pytest.fixture
def device(monkeypatch, request):
    monkeypatch.setattr(mixed_precision, "get_device", lambda: request.param)
    return request.param


def precision(amp, **own):
    """Return the type of the wrapper and what it has beside REST, which stays."""
    cfg = Config(dict(optim_wrapper={**REST, **own}))
    set_training_precision(cfg, amp)
    found = cfg.optim_wrapper.to_dict()
    kind = found.pop("type", None)
    assert {key: found.pop(key) for key in REST} == REST
    return kind, found


AMP = "AmpOptimWrapper"
FLOAT16 = (AMP, dict(dtype="float16", loss_scale="dynamic"))


@pytest.mark.parametrize(
    "device, amp, own, expected",
    [
        # A config in float32
        ("cuda", "auto", dict(type="OptimWrapper"), FLOAT16),
        ("cuda:1", "auto", dict(), FLOAT16),
        ("cuda", "float16", dict(type="mmengine.OptimWrapper"), FLOAT16),
        ("cuda", "bfloat16", dict(type="OptimWrapper"), (OURS, {})),
        ("cpu", "auto", dict(type="OptimWrapper"), (OURS, {})),
        ("cpu", "bfloat16", dict(type="OptimWrapper"), (OURS, {})),
        ("cuda", None, dict(type="OptimWrapper"), ("OptimWrapper", {})),
        ("cpu", None, dict(type="OptimWrapper"), ("OptimWrapper", {})),
        # A config with mixed precision of its own
        ("cuda", "auto", dict(type=AMP, loss_scale=512.0),
         (AMP, dict(dtype="float16", loss_scale=512.0))),
        ("cuda", "auto", dict(type=AMP, dtype="bfloat16"), (AMP, dict(dtype="bfloat16"))),
        ("cuda", "bfloat16", dict(type=AMP), (AMP, dict(dtype="bfloat16"))),
        ("cuda", "bfloat16", dict(type=AMP, dtype="bfloat16", use_fsdp=True),
         (AMP, dict(dtype="bfloat16", use_fsdp=True))),
        ("cuda", None, dict(type=AMP, loss_scale=dict(init_scale=4.0)),
         (AMP, dict(loss_scale=dict(init_scale=4.0)))),
        ("cpu", "auto", dict(type=AMP, dtype="bfloat16", loss_scale=512.0), (OURS, {})),
        ("cpu", None, dict(type=AMP, dtype="bfloat16"), (OURS, {})),
        ("cpu", None, dict(type=AMP), (OURS, {})),
        ("cuda", "auto", dict(type=OURS), (OURS, {})),
        ("cpu", "bfloat16", dict(type=OURS), (OURS, {})),
    ],
    indirect=["device"],
)  # fmt: skip
def test_only_what_is_missing_is_set(device, amp, own, expected):
    assert precision(amp, **own) == expected


@pytest.mark.parametrize("device", ["cuda"], indirect=True)
def test_lazy_configs_hold_the_class_and_the_dtype_themselves(device):
    cfg = Config(dict(optim_wrapper=dict(REST)))
    cfg.optim_wrapper.update(type=AmpOptimWrapper, dtype=torch.bfloat16)
    set_training_precision(cfg, "bfloat16")
    assert cfg.optim_wrapper.type is AmpOptimWrapper and cfg.optim_wrapper.dtype == "bfloat16"


@pytest.mark.parametrize(
    "device, amp, own, message",
    [
        ("cuda", "float16", dict(type=AMP, dtype="bfloat16"),
         "--amp float16 contradicts the config, whose optim_wrapper is for bfloat16"),
        ("cuda", "float16", dict(type=OURS), "contradicts the config"),
        ("cpu", "float16", dict(type="OptimWrapper"), "float16 needs a GPU"),
        ("cpu", None, dict(type=AMP, dtype="float16"), "float16 needs a GPU"),
        ("cuda", "auto", dict(type="MyWrapper"), "the config has MyWrapper with optimizer, "),
        ("cuda", "auto", dict(type="OptimWrapper", optimizer=None), None),
    ],
    indirect=["device"],
)  # fmt: skip
def test_contradictions_are_told_in_a_sentence(device, amp, own, message):
    if message is None:
        cfg = Config(dict(optim_wrapper=dict(encoder=dict(REST), decoder=dict(REST))))
        with pytest.raises(InputError, match="with one optimizer, .* with encoder, decoder"):
            set_training_precision(cfg, amp)
        return
    with pytest.raises(InputError, match=message):
        precision(amp, **own)


def test_slow_cpus_and_exchanged_wrappers_are_told(monkeypatch, capsys):
    monkeypatch.setattr(mixed_precision, "get_device", lambda: "cpu")
    monkeypatch.setattr(mixed_precision, "is_slow_in_bfloat16", lambda: True)
    precision(None, type=AMP)
    told = capsys.readouterr().err
    assert "there is no GPU: AmpOptimWrapper of the config trains in bfloat16" in told
    assert "this CPU has no bfloat16: mixed precision is slower than float32" in told
    cfg = Config({})
    set_test_precision(cfg, "auto")
    assert "this CPU has no bfloat16" in capsys.readouterr().err
    set_test_precision(cfg, None)
    assert cfg.custom_hooks == [dict(type="gfnet_dense.AutocastHook", amp="auto")]


def dtypes_of_layers(runner):
    seen = set()
    runner.model.first.register_forward_hook(lambda module, args, y: seen.add(y.dtype))
    return seen


@pytest.mark.skipif(torch.cuda.is_available(), reason="the toy trains on a CPU")
def test_checkpoints_go_on_in_the_other_precision_with_a_line(tmp_path, capsys):
    """There and back, with averages of the weights."""
    hooks = [dict(type="EMAHook")]
    mixed = dict(type=OURS)

    def train(end, wrapper, start=None):
        resume = start and tmp_path / f"iter_{start}.pth"
        runner = toy_runner(
            tmp_path, max_iters=end, optim_wrapper=wrapper, hooks=hooks, resume=resume, text=True,
            max_keep_ckpts=-1,
        )  # fmt: skip
        seen = dtypes_of_layers(runner)
        runner.train()
        assert seen == {torch.bfloat16 if wrapper else torch.float32}
        assert {p.dtype for p in runner.model.parameters()} == {torch.float32}
        states = runner.optim_wrapper.optimizer.state.values()
        assert {int(each["step"]) for each in states} == {end}
        assert {each["exp_avg"].dtype for each in states} == {torch.float32}
        return "".join(capsys.readouterr())

    train(2, {})
    assert f"optim_wrapper.type: nothing in the checkpoint, {OURS} now" in train(4, mixed, 2)
    assert "optim_wrapper" not in train(6, mixed, 4)
    assert f"optim_wrapper.type: {OURS} in the checkpoint, nothing now" in train(8, {}, 6)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the toy trains on a CPU")
def test_a_resumed_training_in_bfloat16_equals_the_whole(tmp_path):
    mixed = dict(type=OURS, accumulative_counts=2, clip_grad=dict(max_norm=1.0))
    whole = toy_runner(tmp_path / "a", max_iters=8, optim_wrapper=dict(mixed))
    whole.train()
    toy_runner(tmp_path / "b", max_iters=4, optim_wrapper=dict(mixed)).train()
    last = tmp_path / "b" / "iter_4.pth"
    resumed = toy_runner(tmp_path / "b", max_iters=8, optim_wrapper=dict(mixed), resume=last)
    resumed.train()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name


@pytest.mark.parametrize("given, expected", [({}, True), (dict(pin_memory=False), False)])
def test_batches_are_pinned_where_there_is_a_gpu(given, expected, monkeypatch):
    from gfnet_dense.engine.runner.dense_runner import DenseRunner

    loader = dict(batch_size=2, dataset=dict(type="ToyNumbers"), **given)
    loader["sampler"] = dict(type="DefaultSampler", shuffle=False)
    assert not DenseRunner.build_dataloader(dict(loader)).pin_memory or torch.cuda.is_available()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert DenseRunner.build_dataloader(loader).pin_memory == expected
