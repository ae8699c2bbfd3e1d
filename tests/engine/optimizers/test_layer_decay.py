import re

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.optim import LinearLR, OptimWrapper, PolyLR, build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmseg.registry import MODELS
from torch import nn

from gfnet_dense.engine.optimizers.param_groups import param_group_table
from gfnet_dense.models import GFNet, IsotropicGFNet
from gfnet_dense.utils.errors import InputError
from tests.conftest import TINY

LR, DECAY = 0.01, 0.2
NORMS = {f"norm{i}": 0 for i in range(4)}
# Number of layers after a parameter in the tiny models, by prefix of its name, counted by hand.
LAYER_WISE = {
    "pos_embed": 6, "patch_embed.0": 6,
    "blocks.0.0": 5,
    "patch_embed.1": 4, "blocks.1.0": 4,
    "blocks.1.1": 3,
    "patch_embed.2": 2, "blocks.2.0": 2,
    "patch_embed.3": 1, "blocks.3.0": 1,
    **NORMS,
}  # fmt: skip
STAGE_WISE = {
    "pos_embed": 5, "patch_embed.0": 5,
    "blocks.0": 4,
    "patch_embed.1": 3, "blocks.1": 3,
    "patch_embed.2": 2, "blocks.2": 2,
    "patch_embed.3": 1, "blocks.3": 1,
    **NORMS,
}  # fmt: skip
ISOTROPIC_LAYER_WISE = {
    "pos_embed": 4, "patch_embed": 4, "blocks.0": 3, "blocks.1": 2, "blocks.2": 1, **NORMS,
}  # fmt: skip
ISOTROPIC_STAGE_WISE = {"pos_embed": 2, "patch_embed": 2, "blocks": 1, **NORMS}


def hierarchical(**kwargs):
    return GFNet(TINY, img_size=32, **kwargs)


def isotropic():
    return IsotropicGFNet(dict(dim=8, depth=3), img_size=32, out_indices=(1, 2))


def config(optimizer=None, **paramwise_cfg):
    return ConfigDict(
        constructor="gfnet_dense.LayerDecayConstructor",
        optimizer=optimizer or dict(type="AdamW", lr=LR, weight_decay=DECAY),
        paramwise_cfg=paramwise_cfg,
    )


def build(model, **paramwise_cfg) -> OptimWrapper:
    return build_optim_wrapper(model, config(**paramwise_cfg))


def settings(model, wrapper) -> dict[str, tuple[float, float]]:
    """Return (lr, weight decay) by name, and check that each trained parameter is in one group."""
    groups = wrapper.optimizer.param_groups
    found = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    names = {id(p): name for name, p in model.named_parameters() if p.requires_grad}
    assert len(found) == sum(len(group["params"]) for group in groups)
    assert set(found) == set(names)
    for group in groups:
        assert [names[id(p)] for p in group["params"]] == group["param_names"]
    return {names[i]: found[i] for i in found}


def segmentor():
    DefaultScope.get_instance("optim", scope_name="mmseg")
    return MODELS.build(
        dict(
            type="EncoderDecoder",
            data_preprocessor=dict(type="SegDataPreProcessor"),
            backbone=dict(type="gfnet_dense.GFNet", arch=TINY, img_size=32),
            neck=dict(type="FPN", in_channels=list(TINY["dims"]), out_channels=8, num_outs=4),
            decode_head=dict(
                type="FPNHead",
                in_channels=[8] * 4,
                in_index=[0, 1, 2, 3],
                feature_strides=[4, 8, 16, 32],
                channels=8,
                num_classes=3,
                norm_cfg=dict(type="BN"),
                align_corners=False,
            ),
        )
    )


@pytest.mark.parametrize(
    "make, decay_type, following",
    [
        (hierarchical, "layer_wise", LAYER_WISE),
        (hierarchical, "stage_wise", STAGE_WISE),
        (isotropic, "layer_wise", ISOTROPIC_LAYER_WISE),
        (isotropic, "stage_wise", ISOTROPIC_STAGE_WISE),
    ],
)
def test_learning_rate_of_each_parameter_decays_with_its_depth(make, decay_type, following):
    model = make()
    wrapper = build(model, decay_rate=0.5, decay_type=decay_type)
    for name, (lr, _) in settings(model, wrapper).items():
        (exponent,) = (n for start, n in following.items() if name.startswith(start))
        assert lr == pytest.approx(LR * 0.5**exponent), name
    rates = [group["lr"] for group in wrapper.optimizer.param_groups]
    assert rates == sorted(rates) and len(set(rates)) == len(set(following.values()))


def test_layer_and_stage_depths_follow_the_convention_of_mmpretrain():
    model = hierarchical()
    assert model.get_layer_depth("patch_embed.0.proj.weight") == (0, 7)
    assert model.get_layer_depth("blocks.1.1.filter.complex_weight") == (3, 7)
    assert model.get_layer_depth("backbone.patch_embed.2.proj.bias", "backbone.") == (4, 7)
    assert model.get_stage_depth("backbone.patch_embed.2.proj.bias", "backbone.") == (3, 6)
    # Parameters outside of the backbone come last, whatever their names.
    for name in (
        "norm.weight",
        "head.weight",
        "",
        "blocks",
        "blocks.7.0.gamma",
        "blocks.1.2.gamma",
    ):
        assert model.get_layer_depth(name) == (6, 7), name
        assert model.get_stage_depth(name) == (5, 6), name
    assert model.get_layer_depth("pos_embed", "backbone.") == (6, 7)
    assert model.get_layer_depth("old_head.pos_embed", "backbone.") == (6, 7)
    assert isotropic().get_layer_depth("blocks.2.mlp.fc1.weight") == (3, 5)
    assert isotropic().get_stage_depth("blocks.2.mlp.fc1.weight") == (1, 3)


def test_depths_count_only_blocks_that_are_built():
    model = hierarchical(out_indices=(0, 1))
    assert model.get_layer_depth("blocks.1.1.gamma") == (3, 5)
    assert model.get_stage_depth("blocks.1.1.gamma") == (2, 4)
    shorter = IsotropicGFNet(dict(dim=8, depth=12), img_size=32, out_indices=(4,))
    assert shorter.get_layer_depth("norm4.weight") == (6, 7)


def test_weight_decay_applies_to_matrices_and_optionally_to_filters():
    model = hierarchical()
    found = settings(model, build(model, decay_rate=0.5))
    blocks = ("0.0", "1.0", "1.1", "2.0", "3.0")
    filters = {f"blocks.{i}.filter.complex_weight" for i in blocks}
    matrices = {f"blocks.{i}.mlp.{fc}.weight" for i in blocks for fc in ("fc1", "fc2")}
    matrices |= {f"patch_embed.{i}.proj.weight" for i in range(4)}
    assert {name for name, (_, decay) in found.items() if decay == DECAY} == filters | matrices
    assert {decay for _, decay in found.values()} == {0, DECAY}

    found = settings(model, build(model, decay_filters=False))
    assert {name for name, (_, decay) in found.items() if decay == DECAY} == matrices
    assert {lr for lr, _ in found.values()} == {LR}


def test_longest_matching_custom_key_determines_the_multipliers():
    model = hierarchical()
    custom_keys = {
        "blocks": dict(lr_mult=0.5),
        "blocks.1": dict(lr_mult=0.1),
        "blocks.1.1.norm1": dict(decay_mult=2.0),  # a norm with weight decay
        "pos_embed": dict(decay_mult=1.0),
        "cks.2.0.mlp.fc1.we": dict(lr_mult=4),
        "blocks.2.0.mlp.fc1": dict(lr_mult=3),  # before the key above in the alphabet
        "patch_embed.0.proj.weight": dict(lr_mult=0, decay_mult=0),
    }
    found = settings(model, build(model, decay_rate=0.5, custom_keys=custom_keys))
    for name, lr, decay in [
        ("blocks.3.0.mlp.fc1.weight", LR / 2 * 0.5, DECAY),
        ("blocks.3.0.mlp.fc1.bias", LR / 2 * 0.5, 0),
        ("blocks.1.0.mlp.fc1.weight", LR / 16 * 0.1, DECAY),
        ("blocks.1.1.norm1.weight", LR / 8, 2 * DECAY),
        ("blocks.1.1.norm2.weight", LR / 8 * 0.1, 0),
        ("pos_embed", LR / 64, DECAY),
        ("blocks.2.0.mlp.fc1.weight", LR / 4 * 3, DECAY),
        ("blocks.2.0.mlp.fc2.weight", LR / 4 * 0.5, DECAY),
        ("patch_embed.0.proj.weight", 0, 0),
        ("norm3.weight", LR, 0),
    ]:
        assert found[name] == pytest.approx((lr, decay)), name


def test_parameter_groups_are_merged_named_and_ordered_by_layer():
    groups = build(hierarchical(), decay_rate=0.5).optimizer.param_groups
    names = [group["name"] for group in groups]
    expected = {f"layer_{i}{end}" for i in range(7) for end in ("", "_no_decay")}
    assert len(names) == 13 and set(names) == expected - {"layer_6"}  # norms alone
    layers = [int(re.search(r"\d+", name)[0]) for name in names]
    assert layers == sorted(layers)
    same = build(hierarchical()).optimizer.param_groups
    assert {group["name"] for group in same} == {"layer_0-5", "layer_0-6_no_decay"}
    assert len(build(nn.Linear(2, 2)).optimizer.param_groups) == 2


def test_frozen_parameters_are_in_no_group():
    model = hierarchical(frozen_stages=1)
    wrapper = build(model, decay_rate=0.5)
    found = settings(model, wrapper)
    assert not any(name.startswith(("pos_embed", "blocks.0", "norm0")) for name in found)
    assert found["blocks.1.0.gamma"] == pytest.approx((LR / 16, 0))
    # Layers are numbered as without frozen stages.
    assert {g["name"] for g in wrapper.optimizer.param_groups[:2]} == {
        "layer_2",
        "layer_2_no_decay",
    }


def check_segmentor(model, found):
    for name, (lr, decay) in found.items():
        start = name.partition(".")[0]
        if start == "backbone":
            inner = name.removeprefix("backbone.")
            (exponent,) = (n for prefix, n in LAYER_WISE.items() if inner.startswith(prefix))
            assert lr == pytest.approx(LR * 0.5**exponent), name
        else:
            assert start in ("neck", "decode_head") and lr == LR, name
            assert decay == (DECAY if model.get_parameter(name).ndim > 1 else 0), name
    assert found["backbone.pos_embed"][1] == 0


def test_segmentor_decays_only_the_rates_of_its_backbone():
    model = segmentor()
    check_segmentor(model, settings(model, build(model, decay_rate=0.5)))
    outer = nn.Module()
    outer.module = model  # as a wrapper for test-time augmentation does
    check_segmentor(model, settings(model, build(outer, decay_rate=0.5)))


def test_distributed_segmentor_decays_only_the_rates_of_its_backbone():
    model = segmentor()
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        wrapped = MMDistributedDataParallel(module=model)
        check_segmentor(model, settings(model, build(wrapped, decay_rate=0.5)))
    finally:
        torch.distributed.destroy_process_group()


def test_backbones_anywhere_in_the_model_are_found():
    model = nn.ModuleDict(
        dict(a=nn.ModuleDict(dict(b=hierarchical())), c=isotropic(), d=nn.Linear(2, 2))
    )
    model["d"].pos_embed = nn.Parameter(torch.zeros(2, 2))  # outside of a backbone
    found = settings(model, build(model, decay_rate=0.5))
    assert found["a.b.pos_embed"] == pytest.approx((LR / 64, 0))
    assert found["c.pos_embed"] == pytest.approx((LR / 16, 0))
    assert found["c.blocks.2.mlp.fc1.weight"] == pytest.approx((LR / 2, DECAY))
    assert found["d.pos_embed"] == (LR, DECAY)


def test_shared_parameter_appears_once():
    backbone, head = hierarchical(), nn.Linear(8, 32)
    head.weight = backbone.blocks[0][0].mlp.fc1.weight
    model = nn.ModuleDict(dict(backbone=backbone, head=head))
    found = settings(model, build(model, decay_rate=0.5))
    assert found["backbone.blocks.0.0.mlp.fc1.weight"] == pytest.approx((LR / 32, DECAY))
    assert "head.weight" not in found and found["head.bias"] == (LR, 0)


@pytest.mark.parametrize(
    "make, factors",
    [
        (lambda w: LinearLR(w, start_factor=0.2, by_epoch=False, end=5), [0.2, 0.4, 0.6, 0.8, 1]),
        (lambda w: PolyLR(w, power=1, by_epoch=False, end=5), [1, 0.75, 0.5, 0.25, 0]),
    ],
)
def test_schedulers_multiply_the_rate_of_each_group(make, factors):
    wrapper = build(hierarchical(), decay_rate=0.5)
    rates = [group["lr"] for group in wrapper.optimizer.param_groups]
    scheduler = make(wrapper)
    for factor in factors:
        found = [group["lr"] for group in wrapper.optimizer.param_groups]
        assert found == pytest.approx([rate * factor for rate in rates])
        assert wrapper.get_lr()["base_lr"] == pytest.approx([LR * factor])
        wrapper.optimizer.step()
        scheduler.step()


class Classifier(BaseModel):
    def __init__(self):
        super().__init__()
        self.backbone = hierarchical(out_indices=(3,))
        self.head = nn.Linear(32, 2)

    def forward(self, inputs, mode):
        (x,) = self.backbone(torch.stack(inputs))
        return dict(loss=self.head(x.mean((2, 3))).square().mean())


def train(work_dir, max_iters, **kwargs):
    runner = Runner(
        Classifier(),
        str(work_dir),
        train_dataloader=dict(
            dataset=[dict(inputs=torch.randn(3, 32, 32)) for _ in range(4)],
            sampler=dict(type="DefaultSampler", shuffle=False),
            batch_size=2,
            num_workers=0,
        ),
        train_cfg=dict(by_epoch=False, max_iters=max_iters),
        optim_wrapper=config(decay_rate=0.5, custom_keys=dict(head=dict(lr_mult=10))),
        auto_scale_lr=dict(enable=True, base_batch_size=8),
        default_hooks=dict(checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=2)),
        default_scope="mmengine",
        experiment_name=f"optim{max_iters}",
        log_level="ERROR",
        **kwargs,
    )
    runner.train()
    return runner


def test_auto_scale_lr_and_resuming_keep_the_ratios_of_the_rates(tmp_path):
    first = train(tmp_path, 2)
    second = train(tmp_path, 3, resume=True)
    for runner, steps in ((first, 2), (second, 3)):
        found = settings(runner.model, runner.optim_wrapper)
        assert found["backbone.pos_embed"] == pytest.approx((LR / 64 * 2 / 8, 0))
        assert found["backbone.norm3.bias"] == pytest.approx((LR * 2 / 8, 0))
        assert found["head.weight"] == pytest.approx((LR * 10 * 2 / 8, DECAY))
        state = runner.optim_wrapper.optimizer.state
        assert all(state[p]["step"] == steps for p in runner.model.parameters())


def test_optimizer_and_its_wrapper_are_of_the_types_in_the_config(monkeypatch):
    monkeypatch.setattr(  # its constructor requires a GPU
        "mmengine.optim.optimizer.amp_optimizer_wrapper.is_cuda_available", lambda: True
    )
    cfg = config(dict(type="SGD", lr=LR, weight_decay=DECAY, momentum=0.9), decay_rate=0.5)
    cfg.update(type="AmpOptimWrapper", accumulative_counts=3, clip_grad=dict(max_norm=1))
    wrapper = build_optim_wrapper(hierarchical(), cfg)
    assert type(wrapper).__name__ == "AmpOptimWrapper" and wrapper._accumulative_counts == 3
    assert type(wrapper.optimizer) is torch.optim.SGD
    assert {group["momentum"] for group in wrapper.optimizer.param_groups} == {0.9}


def test_config_without_paramwise_cfg_uses_the_defaults():
    model = hierarchical()
    cfg = config()
    del cfg["paramwise_cfg"]
    found = settings(model, build_optim_wrapper(model, cfg))
    assert found["pos_embed"] == found["norm0.weight"] == (LR, 0)
    assert found["blocks.0.0.filter.complex_weight"] == (LR, DECAY)


@pytest.mark.parametrize(
    "paramwise_cfg, message",
    [
        (dict(num_layers=12), "paramwise_cfg .* with any of decay_rate, .* got {'num_layers': 12}"),
        ([1], "paramwise_cfg .* got \\[1\\]"),
        (dict(decay_rate=0), "decay_rate is a number above 0 and at most 1, got 0"),
        (dict(decay_rate=1.1), "decay_rate .* got 1.1"),
        (dict(decay_rate=float("nan")), "decay_rate .* got nan"),
        (dict(decay_rate="0.9"), "decay_rate .* got '0.9'"),
        (dict(decay_rate=True), "decay_rate .* got True"),
        (dict(decay_rate=None), "decay_rate .* got None"),
        (dict(decay_type="block"), "decay_type is one of layer_wise, stage_wise, got 'block'"),
        (dict(decay_type=["layer_wise"]), "decay_type is one of"),
        (dict(decay_filters=0.5), "decay_filters is True or False, got 0.5"),
        (dict(custom_keys=["norm"]), "custom_keys is .* got \\['norm'\\]"),
        (dict(custom_keys={1: dict(lr_mult=1)}), "custom_keys"),
        (dict(custom_keys=dict(norm=0.0)), "custom_keys"),
        (dict(custom_keys=dict(norm=dict(mult=1))), "custom_keys"),
        (dict(custom_keys=dict(norm=dict(lr_mult=-1))), "custom_keys"),
        (dict(custom_keys=dict(norm=dict(decay_mult=float("inf")))), "custom_keys"),
    ],
)
def test_invalid_paramwise_cfg_is_rejected(paramwise_cfg, message):
    cfg = dict(config(), paramwise_cfg=paramwise_cfg)
    with pytest.raises(InputError, match=message):
        build_optim_wrapper(hierarchical(), cfg)


@pytest.mark.parametrize(
    "optimizer",
    [
        dict(type="AdamW", weight_decay=0.1),
        dict(type="AdamW", lr=0.1),
        dict(type="AdamW", lr="0.1", weight_decay=0.1),
        dict(type="AdamW", lr=0.1, weight_decay=-0.1),
    ],
)
def test_optimizer_needs_lr_and_weight_decay(optimizer):
    with pytest.raises(InputError, match="needs lr and weight_decay"):
        build_optim_wrapper(hierarchical(), config(optimizer))


@pytest.mark.parametrize("decay_type", ["layer_wise", "stage_wise"])
def test_decay_rate_needs_a_backbone_with_layer_depths(decay_type):
    with pytest.raises(InputError, match="needs a backbone with get_.*and Linear has none"):
        build(nn.Linear(2, 2), decay_rate=0.9, decay_type=decay_type)


def test_table_has_a_row_for_each_parameter_group():
    model = nn.ModuleDict(dict(backbone=isotropic(), head=nn.Linear(40, 50)))
    lines = param_group_table(build(model, decay_rate=0.5).optimizer).splitlines()
    cells = [re.split(r"  +", line) for line in lines]
    assert cells[0] == ["group", "lr", "weight decay", "tensors", "parameters", "names"]
    rows = {row[0]: row[1:] for row in cells[1:]}
    assert len(rows) == len(lines) - 1 == 10
    # Parameters: 3 * 16 * 16 * 8; 2 * 2 * 8 of the position embedding + 8; 40 * 50; 4 * 8 + 50.
    first = "backbone.patch_embed.proj.weight"
    assert rows["layer_0"] == ["0.000625", "0.2", "1", "6,144", first]
    last = "backbone.patch_embed.proj.bias"
    assert rows["layer_0_no_decay"] == [
        "0.000625", "0", "2", "40", f"backbone.pos_embed ... {last}"
    ]  # fmt: skip
    assert rows["layer_4"] == ["0.01", "0.2", "1", "2,000", "head.weight"]
    assert rows["layer_4_no_decay"] == [
        "0.01", "0", "5", "82", "backbone.norm1.weight ... head.bias"
    ]  # fmt: skip

    plain = torch.optim.SGD(nn.Linear(2, 3).parameters(), lr=0.1)  # without LayerDecayConstructor
    assert param_group_table(plain).splitlines()[1].split() == ["0", "0.1", "0", "2", "9"]
