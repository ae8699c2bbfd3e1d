"""What HorNet promises as a backbone, as GFNet does; its maps are in test_hornet_published.py."""

import copy
import pickle

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from gfnet_dense.apis.loading import load_backbone
from gfnet_dense.benchmark.complexity import count_flops
from gfnet_dense.checkpoint.contents import Weights
from gfnet_dense.checkpoint.convert import convert
from gfnet_dense.checkpoint.loading import load_partly, load_pretrained
from gfnet_dense.engine.optimizers.layer_decay import LayerDecayConstructor
from gfnet_dense.models import HorNet
from gfnet_dense.models.layers.global_filter import GlobalFilter
from gfnet_dense.models.layers.global_local_filter import GlobalLocalFilter
from gfnet_dense.models.utils.filter_resize import resize_filter
from gfnet_dense.models.utils.hornet_state_dict import stored_sizes
from gfnet_dense.utils.errors import InputError
from gfnet_dense.visualization.filters import named_filters
from tests.published_hornet import official_hornet_state_dict

DIMS, DEPTHS = (8, 16, 32, 64), (1, 2, 2, 1)
ARCH = dict(dims=DIMS, depths=DEPTHS, layer_scale_init_value=0.5)


def small(img_size=64, **kwargs):
    return HorNet(ARCH | kwargs.pop("arch", {}), img_size, drop_path_rate=0.0, **kwargs)


def test_its_filter_is_the_global_filter_of_half_of_the_channels():
    """The same weights in GlobalFilter's layout, on maps of the stored and of other sizes."""
    for resize in ("trigonometric", "bilinear"):
        layer = GlobalLocalFilter(12, (7, 6), resize)
        plain = GlobalFilter(6, (7, 6), resize)
        with torch.no_grad():
            plain.complex_weight.copy_(layer.complex_weight.permute(1, 2, 0, 3))
        assert layer.complex_weight.shape == (6, 7, 4, 2)
        for size in ((7, 6), (15, 4), (20, 33)):
            x = torch.randn(2, 6, *size)
            expected = plain(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            torch.testing.assert_close(layer.filter_maps(x), expected)
            with torch.no_grad():
                torch.testing.assert_close(layer.eval().filter_(x.clone()), expected)


@pytest.mark.parametrize("size", [(96, 160), (64, 512), (512, 683), (240, 240), (416, 32)])
def test_sizes_that_files_do_not_tell_follow_from_the_stage_before(size):
    """Half of a spectrum fits two widths: 5 of 10 columns are read as 5, and not as 4."""
    model = small(size)
    again = small(size)
    sizes = {stage: model.grids[stage] for stage in (2, 3)}
    assert stored_sizes(model.state_dict()) == sizes
    again.load_state_dict(model.state_dict())
    for (name, a), (_, b) in zip(model.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(a, b), name


def test_pixels_beyond_the_last_whole_patch_are_left_out():
    model, x = small().eval(), torch.randn(1, 3, 71, 99)
    assert [tuple(y.shape[1:]) for y in model(x)] == [
        (8, 17, 24), (16, 8, 12), (32, 4, 6), (64, 2, 3)
    ]  # fmt: skip
    for a, b in zip(model(x), model(x[..., :68, :96]), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_frozen_stages_are_not_trainable_and_stay_in_eval_mode():
    model = small(frozen_stages=2).train()
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    frozen = ("downsample_layers.0", "downsample_layers.1", "stages.0", "stages.1")
    assert not any(name.startswith((*frozen, "norm0", "norm1")) for name in trained)
    others = ("downsample_layers.2", "downsample_layers.3", "stages.2", "stages.3")
    for start in (*others, "norm2", "norm3"):
        assert any(name.startswith(start) for name in trained), start
    assert not model.stages[1].training and model.stages[2].training
    stem = small(frozen_stages=0)
    assert not stem.downsample_layers[0][0].weight.requires_grad
    assert stem.stages[0][0].gamma1.requires_grad


def test_drop_path_rate_grows_with_depth():
    model = HorNet(ARCH, drop_path_rate=0.5)
    rates = [block.drop_path.drop_prob for stage in model.stages for block in stage]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])
    # TRAINING.md of the release
    with torch.device("meta"):
        for arch, rate in {
            "tiny-gf": 0.2,
            "small-7x7": 0.4,
            "base-gf": 0.5,
            "large-gf": 0.2,
        }.items():
            assert HorNet(arch).stages[3][1].drop_path.drop_prob == pytest.approx(rate)


def test_weights_begin_as_in_the_release():
    model = HorNet("tiny-gf", out_indices=(0, 3))
    for name, parameter in model.named_parameters():
        kind = name.rpartition(".")[2]
        if kind.startswith("gamma"):
            assert parameter.unique().tolist() == pytest.approx([1e-6])
        elif kind == "bias":
            assert not parameter.any()
        elif parameter.ndim == 1:
            assert parameter.eq(1).all()
        elif parameter.numel() > 10000:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.03), name


def test_learning_rates_decay_from_the_norms_to_the_stem():
    model = small()
    depth = model.get_layer_depth
    assert depth("downsample_layers.0.1.bias") == (0, 8)
    assert depth("stages.0.0.gamma1") == (1, 8)
    assert depth("downsample_layers.1.0.weight") == depth("stages.1.0.norm1.bias") == (2, 8)
    assert depth("stages.1.1.pwconv2.bias") == (3, 8)
    assert depth("stages.2.1.gnconv.dwconv.complex_weight") == (5, 8)
    assert depth("norm0.weight") == depth("norm3.weight") == (7, 8)
    assert model.get_stage_depth("stages.2.1.gamma2") == (3, 6)
    groups = []
    constructor = LayerDecayConstructor(
        dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=1.0, weight_decay=0.5)),
        dict(decay_rate=0.5, decay_type="stage_wise"),
    )
    constructor.add_params(groups, nn.ModuleDict(dict(backbone=model)))
    rates = {n: (g["lr"], g["weight_decay"]) for g in groups for n in g["param_names"]}
    assert rates["backbone.downsample_layers.0.0.weight"] == (0.5**5, 0.5)
    assert rates["backbone.stages.2.0.gnconv.dwconv.complex_weight"] == (0.5**2, 0.5)
    assert rates["backbone.stages.3.0.gamma1"] == (0.5, 0)
    assert rates["backbone.norm3.weight"] == (1, 0)


def test_copies_and_pickles_give_the_same_maps():
    model, x = small().eval(), torch.randn(1, 3, 96, 80)
    with torch.no_grad():
        expected = model(x)  # fills the caches of the filters
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            for a, b in zip(other(x), expected, strict=True):
                assert torch.equal(a, b)


def test_maps_under_bfloat16_autocast_are_close_to_float32():
    model, x = small().eval(), torch.randn(1, 3, 96, 128)
    with torch.no_grad():
        expected = model(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outs = model(x)
    for a, b in zip(outs, expected, strict=True):
        assert 0 < (a.float() - b).norm() / b.norm() < 0.02


@pytest.mark.parametrize("scope", ["mmseg", "mmdet", "mmengine"])
def test_mmengine_builds_it_by_name_in_other_scopes(scope):
    if scope == "mmdet":
        pytest.importorskip("mmcv._ext", reason="mmdet needs mmcv's compiled operators")
    assert type(MODELS.build(dict(type="gfnet_dense.HorNet", arch=ARCH, _scope_=scope))) is HorNet


@pytest.mark.parametrize("filters", [True, False])
@pytest.mark.parametrize("grid", [64, 96])
def test_a_file_alone_is_enough_to_build_it(filters, grid, tmp_path):
    state = official_hornet_state_dict(DIMS, DEPTHS, filters, grid)
    torch.save({"model": state}, tmp_path / "hornet.pth")
    model = load_backbone(tmp_path / "hornet.pth")
    assert not model.training
    filtered = named_filters(model)
    if filters:
        labels = ["stage 3, block 1", "stage 3, block 2", "stage 4, block 1"]
        assert [label for label, _ in filtered] == labels
        assert [f.size for _, f in filtered] == [(grid // 16,) * 2] * 2 + [(grid // 32,) * 2]
    else:
        assert not filtered
    for name, tensor in model.state_dict().items():
        if not name.startswith("norm"):
            assert torch.equal(tensor, state[name]), name


def test_files_of_other_sizes_and_kinds_are_refused(tmp_path):
    torch.save({"model": official_hornet_state_dict(DIMS, DEPTHS)}, tmp_path / "gf.pth")
    torch.save({"model": official_hornet_state_dict(DIMS, DEPTHS, False)}, tmp_path / "7x7.pth")
    torch.save({"model": official_hornet_state_dict(DIMS, (1, 2, 1, 1))}, tmp_path / "other.pth")
    for name, message in {
        "7x7": "expected HorNet-GF with dims 8/16/32/64 and depths 1/2/2/1, found HorNet-7x7 with",
        "other": "expected dims 8/16/32/64 and depths 1/2/2/1, found dims 8/16/32/64 and depths",
    }.items():
        with pytest.raises(InputError, match=message):
            load_pretrained(small(), tmp_path / f"{name}.pth")
    with pytest.raises(InputError, match="expected HorNet-7x7 .* found HorNet-GF"):
        load_pretrained(small(arch=dict(filters=False)), tmp_path / "gf.pth")


def test_filters_are_resized_when_they_are_loaded():
    """Under any prefix, from any precision; and the filters of a width without a square, too."""
    state = official_hornet_state_dict(DIMS, DEPTHS, img_size=64)
    whole = nn.ModuleDict(dict(backbone=small((96, 160), filter_resize="bicubic")))
    given = {f"backbone.{k}": v.half() for k, v in state.items()}
    whole.load_state_dict(given, strict=False)
    name = "stages.2.1.gnconv.dwconv.complex_weight"
    weight = state[name].half().float().permute(1, 2, 0, 3)
    expected = resize_filter(weight, (4, 4), (6, 10), "bicubic").permute(2, 0, 1, 3)
    stored = whole["backbone"].state_dict()[name]
    torch.testing.assert_close(stored, expected, rtol=0, atol=0)
    model = small(64)
    model.load_state_dict(whole["backbone"].state_dict())
    expected = resize_filter(stored.permute(1, 2, 0, 3), (6, 10), (4, 4)).permute(2, 0, 1, 3)
    torch.testing.assert_close(model.state_dict()[name], expected, rtol=0, atol=0)
    again = small((96, 160))
    again.load_state_dict(whole["backbone"].state_dict())
    assert torch.equal(again.state_dict()[name], stored)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_conversion_resizes_filters_and_keeps_all_names(suffix, tmp_path):
    state = official_hornet_state_dict(DIMS, DEPTHS, img_size=64)
    torch.save({"model": state}, tmp_path / "official.pth")
    ours = convert(
        tmp_path / "official.pth", tmp_path / f"ours.{suffix}", "ours", 96, "trigonometric"
    )
    model = load_backbone(ours)
    assert [f.size for _, f in named_filters(model)] == [(6, 6), (6, 6), (3, 3)]
    back = convert(ours, tmp_path / "back.pth", "official", 64, "trigonometric")
    found = torch.load(back)["model"]
    classifier = {"norm.weight", "norm.bias", "head.weight", "head.bias"}
    assert set(found) == set(state) - classifier
    kept = convert(tmp_path / "official.pth", tmp_path / "kept.pth", "official", None, "bilinear")
    assert all(torch.equal(v, state[k]) for k, v in torch.load(kept)["model"].items())
    assert set(torch.load(kept)["model"]) == set(state)


def test_backbones_saved_without_their_last_stages_are_of_the_same_arch():
    """As in ``load_from``: the first two stages of a HorNet alone have no filters."""
    model = nn.ModuleDict(dict(backbone=small(out_indices=(0, 1))))
    weights = Weights(model.state_dict(), {}, (), ())
    assert "new: nothing; not used: nothing" in load_partly(model, weights, "two_stages.pth")
    whole = nn.ModuleDict(dict(backbone=small()))
    with pytest.raises(InputError, match="trained with another backbone"):
        load_partly(whole, weights, "two_stages.pth")


def test_stems_are_adapted_to_other_numbers_of_bands(tmp_path):
    state = official_hornet_state_dict(DIMS, DEPTHS)
    torch.save({"model": state}, tmp_path / "official.pth")
    model = small(in_channels=4, rgb_channels=(2, 1, 0))
    report = load_pretrained(model, tmp_path / "official.pth")
    assert "not used: head, norm" in report
    assert "stem: 3 -> 4 channels, RGB at 2, 1, 0" in report
    name = "downsample_layers.0.0.weight"
    stem, official = model.state_dict()[name], state[name]
    torch.testing.assert_close(stem[:, [2, 1, 0]], official * 0.75)
    torch.testing.assert_close(stem[:, 3], official.mean(1) * 0.75)
    assert model(torch.randn(1, 4, 64, 64))[3].shape == (1, 64, 2, 2)


def test_flops_are_those_of_a_calculation_by_hand():
    """Multiply-adds of convolutions and linear layers of a HorNet without filters."""
    model, (H, W) = small(arch=dict(filters=False)), (64, 96)
    total, in_dim = 0, 3
    for i, (dim, depth) in enumerate(zip(DIMS, DEPTHS, strict=True)):
        N, kernel = H * W // (4 * 2**i) ** 2, 4 if i == 0 else 2
        gates = [dim // 2 ** (1 + i - k) for k in range(2 + i)]
        pointwise = (
            2 * dim * dim + dim * dim + sum(a * b for a, b in zip(gates, gates[1:], strict=False))
        )
        total += N * (in_dim * kernel**2 * dim + depth * (pointwise + 49 * sum(gates) + 8 * dim**2))
        in_dim = dim
    flops = count_flops(model, (H, W))
    assert (flops.total, flops.filters) == (total, 0)
    assert count_flops(small(), (H, W)).filters > 0


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(arch="tiny"), "arch is one of tiny-gf, .*, large-7x7, or a dict, got 'tiny'"),
        (
            dict(arch=dict(dims=(8, 16))),
            "an arch dict has dims and depths and, optionally, filters",
        ),
        (dict(arch=dict(dims=(8, 16), depths=(1,))), "as many dims as depths"),
        (dict(arch=dict(dims=(7, 16), depths=(1, 1))), "dim of stage 1 .* multiple of 2, got 7"),
        (dict(arch=dict(dims=(8, 16, 24), depths=(1, 1, 1))), "stage 3 .* multiple of 16, got 24"),
        (dict(arch=dict(dims=(8, 8), depths=(1, 1), filters=1)), "filters .* True or False, got 1"),
        (dict(arch=dict(dims=8, depths=1)), "dims of an arch are integers above 0, got 8"),
        (
            dict(arch=dict(dims=(8, 16), depths=(1, 1), layer_scale_init_value=None)),
            "layer_scale_init_value of a HorNet is a number above 0, got None",
        ),
        (dict(out_indices=(1, 4)), r"within 0..3, got \(1, 4\)"),
        (dict(out_indices=3), "within 0..3, got 3"),
        (dict(drop_path_rate="a"), "drop_path_rate is at least 0 and below 1, got a"),
        (dict(img_size=(224, 240)), r"square, or has sides .* multiples of 32, got \(224, 240\)"),
        (dict(img_size=(48, 32)), "files would not tell the width"),
        (dict(frozen_stages=5), "between -1 and 4"),
        (dict(img_size=16), "32 pixels or more"),
        (
            dict(border="zeros", filter_resize="bilinear"),
            "border='zeros' needs filter_resize='trig",
        ),
        (dict(filter_resize="nearest"), "filter_resize is one of"),
    ],
)
def test_wrong_arguments_are_named_in_the_error(arguments, message):
    with pytest.raises(InputError, match=message):
        HorNet(**arguments)


@pytest.mark.parametrize("depths, smallest", [((1, 1), 8), ((1, 1, 1, 1), 32), ((1,) * 5, 64)])
def test_the_last_stage_has_a_position(depths, smallest):
    dims = (32, 32, 64, 128, 256)[: len(depths)]
    model = HorNet(dict(dims=dims, depths=depths), out_indices=range(len(depths)), img_size=224)
    for training in (True, False):
        maps = model.train(training)(torch.randn(1, 3, smallest, smallest + 1))
        assert maps[-1].shape == (1, dims[-1], 1, 1)
        with pytest.raises(InputError, match=f"images of {smallest} pixels or more on both sides"):
            model(torch.randn(1, 3, smallest - 1, smallest + 9))
