import time

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import nn

from gfnet_dense.models import GFNet, GlobalFilter
from gfnet_dense.models.layers.block import Block
from gfnet_dense.models.utils.filter_resize import resize_filter
from gfnet_dense.utils.errors import InputError
from tests.conftest import TINY
from tests.published import official_state_dict, stage_maps


def tiny(**kwargs):
    return GFNet(arch=TINY, img_size=kwargs.pop("img_size", 64), **kwargs)


@pytest.mark.parametrize("arch, millions", [("h-tiny", 15.1), ("h-small", 32.2), ("h-base", 53.7)])
def test_number_of_parameters_equals_the_published_number(arch, millions):
    """Counted with the classifier, for images of 224 x 224 (paper, table 2)."""
    model = GFNet(arch, out_indices=(3,))
    classifier = (model.dims[3] + 1) * 1000
    total = sum(p.numel() for p in model.parameters()) + classifier
    assert round(total / 1e6, 1) == millions


@pytest.mark.parametrize("img_size", [64, 96])
def test_forward_equals_the_published_model(img_size):
    state = official_state_dict(TINY["dims"], TINY["depths"], img_size)
    model = tiny(img_size=img_size).eval()
    result = model.load_state_dict(state, strict=False)
    assert not result.unexpected_keys
    assert {key.split(".")[0] for key in result.missing_keys} == {"norm0", "norm1", "norm2"}

    x = torch.randn(2, 3, img_size, img_size)
    expected = stage_maps(state, x)
    for i in range(3):  # new norms have weight 1 and bias 0
        expected[i] = F.layer_norm(expected[i].movedim(1, -1), (TINY["dims"][i],), eps=1e-6)
        expected[i] = expected[i].movedim(-1, 1)
    for out, want in zip(model(x), expected, strict=True):
        torch.testing.assert_close(out, want, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (97, 64), (32, 161), (128, 128)])
def test_maps_have_the_expected_shape_for_any_image_size(size):
    outs = tiny().eval()(torch.randn(2, 3, *size))
    for i, out in enumerate(outs):
        stride = 4 * 2**i
        assert out.shape == (2, TINY["dims"][i], -(-size[0] // stride), -(-size[1] // stride))
        assert out.isfinite().all() and out.is_contiguous()


def test_images_are_padded_with_zeros_at_the_right_and_bottom():
    model = tiny().eval()
    x = torch.randn(1, 3, 50, 70)
    padded = F.pad(x, (0, 2, 0, 2))  # to the multiple of 4 that the first stage needs
    for a, b in zip(model(x), model(padded), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("out_indices", [(0, 1, 2, 3), (1, 2, 3), (2,), (0, 1)])
def test_backward_reaches_every_parameter(out_indices):
    model = tiny(out_indices=out_indices, drop_path_rate=0.0)
    outs = model(torch.randn(1, 3, 80, 64))
    assert len(outs) == len(out_indices)
    # Squares, because the mean of a normalized map has no gradient.
    sum(out.square().mul(torch.rand_like(out)).sum() for out in outs).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_activation_checkpointing_gives_the_same_output_and_gradient():
    x, gradients, outputs = torch.randn(2, 3, 64, 64), [], []
    model = tiny(drop_path_rate=0.5)
    for with_cp in (False, True):
        model.with_cp = with_cp
        model.zero_grad()
        torch.manual_seed(1)  # random numbers of drop path
        out = model(x)[-1]
        out.square().sum().backward()
        outputs.append(out.detach())
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    torch.testing.assert_close(outputs[0], outputs[1], rtol=0, atol=0)
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)


def test_frozen_stages_are_not_trainable_and_stay_in_eval_mode():
    model = tiny(frozen_stages=2).train()
    trained = {name.rsplit(".", 1)[0] for name, p in model.named_parameters() if p.requires_grad}
    assert not any(n.startswith(("patch_embed.0", "patch_embed.1", "pos_embed")) for n in trained)
    assert not any(n.startswith(("blocks.0", "blocks.1", "norm0", "norm1")) for n in trained)
    assert any(n.startswith("patch_embed.2") for n in trained)
    assert not model.blocks[1].training and model.blocks[2].training
    assert all(p.requires_grad for p in tiny(frozen_stages=-1).parameters())
    stem = tiny(frozen_stages=0)
    assert not stem.pos_embed.requires_grad and not stem.patch_embed[0].proj.weight.requires_grad
    assert stem.blocks[0][0].gamma.requires_grad


def test_drop_path_rate_grows_with_depth_and_drop_path_keeps_the_mean():
    model = tiny(drop_path_rate=0.4)
    rates = [block.drop_path.drop_prob for stage in model.blocks for block in stage]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    drop = model.blocks[3][0].drop_path.train()
    y = drop(torch.ones(20000, 1, 1, 1))
    assert y.mean() == pytest.approx(1, abs=0.03)
    assert y.unique().tolist() == pytest.approx([0, 1 / 0.6])


def test_resizing_at_load_and_in_forward_give_the_same_features():
    """One model has the grid of the images, the other one the grid of the weights."""
    state = official_state_dict(TINY["dims"], TINY["depths"], 64)
    native, pretraining = tiny(img_size=(96, 160)).eval(), tiny(img_size=64).eval()
    for model in (native, pretraining):
        model.load_state_dict(dict(state), strict=False)
    x = torch.randn(1, 3, 96, 160)
    for a, b in zip(native(x), pretraining(x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_h_tiny_built_for_224_or_512_gives_the_same_features_on_a_512_image():
    """Trigonometric resizing at load equals trigonometric resizing in forward."""
    state = official_state_dict((64, 128, 256, 512), (3, 3, 10, 3))
    maps, x = {}, torch.randn(1, 3, 512, 512)
    for img_size in (224, 512):
        model = GFNet("h-tiny", img_size=img_size).eval()
        model.load_state_dict(dict(state), strict=False)
        # Both models resize the position embedding once, by bicubic interpolation.
        with torch.no_grad():
            maps[img_size] = model(x)
    for a, b in zip(maps[224], maps[512], strict=True):
        assert (a - b).norm() / b.norm() < 1e-4


def test_features_under_bfloat16_autocast_are_close_to_float32():
    state = official_state_dict((64, 128, 256, 512), (3, 3, 10, 3))
    model = GFNet("h-tiny").eval()
    model.load_state_dict(state, strict=False)
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        expected = model(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outs = model(x)
    for a, b in zip(outs, expected, strict=True):
        assert (a.float() - b).norm() / b.norm() < 0.02


@pytest.mark.parametrize("border", ["zeros", "reflect"])
def test_border_setting_reaches_all_filters_and_parameters_get_gradients(border):
    model = tiny(border=border)
    assert {f.border for f in model.modules() if isinstance(f, GlobalFilter)} == {border}
    outs = model(torch.randn(1, 3, 50, 70))
    sum(out.square().mul(torch.rand_like(out)).sum() for out in outs).backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())


def distributed_gradients(rank, folder):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    torch.manual_seed(0)
    model = tiny(drop_path_rate=0.0).double()
    wrapped = nn.parallel.DistributedDataParallel(model)
    x = torch.load(folder / "x.pth")
    outs = wrapped(x[rank : rank + 1])
    sum(out.pow(3).sum() for out in outs).backward()
    if rank == 0:
        torch.save([p.grad for p in model.parameters()], folder / "part")
        (folder / "part").rename(folder / "gradients.pth")
    time.sleep(300)  # until killed: gloo's processes sometimes hang when they end by themselves


def test_two_processes_give_the_gradients_of_a_single_process(tmp_path):
    x = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    torch.save(x, tmp_path / "x.pth")
    processes = torch.multiprocessing.spawn(
        distributed_gradients, (tmp_path,), 2, join=False, daemon=True
    )
    try:
        for _ in range(200):
            processes.join(timeout=1)  # raises the error of a process
            if (tmp_path / "gradients.pth").exists():
                break
    finally:
        for process in processes.processes:
            process.kill()
    torch.manual_seed(0)
    model = tiny(drop_path_rate=0.0).double()
    sum(out.pow(3).sum() / 2 for out in model(x)).backward()
    distributed = torch.load(tmp_path / "gradients.pth")
    for a, b in zip((p.grad for p in model.parameters()), distributed, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_weights_inside_another_model_are_resized():
    """The load hook works under any prefix, uses filter_resize and keeps other weights."""
    state = official_state_dict(TINY["dims"], TINY["depths"], 64)
    given = {f"backbone.{k}": v for k, v in state.items()} | {"head.weight": torch.ones(2, 2)}
    whole = nn.ModuleDict(
        {"backbone": tiny(img_size=(96, 72), filter_resize="bicubic"), "head": nn.Linear(2, 2)}
    )
    whole.load_state_dict(given, strict=False)
    assert whole["head"].weight.eq(1).all()
    assert given["backbone.pos_embed"].shape == (1, 256, 8)  # the caller's dict is unchanged
    name = "blocks.1.1.filter.complex_weight"
    expected = resize_filter(state[name], (8, 8), (12, 9), "bicubic")
    assert torch.equal(whole["backbone"].state_dict()[name], expected)


def test_half_precision_weights_are_resized_in_float32():
    state = official_state_dict(TINY["dims"], TINY["depths"], 64)
    half = {k: v.half() for k, v in state.items()}
    models = [tiny(img_size=96), tiny(img_size=96)]
    models[0].load_state_dict(half, strict=False)
    models[1].load_state_dict({k: v.float() for k, v in half.items()}, strict=False)
    for a, b in zip(*(m.parameters() for m in models), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_position_embedding_that_does_not_fit_the_filters_is_refused():
    state = official_state_dict(TINY["dims"], TINY["depths"], 64)
    state["pos_embed"] = state["pos_embed"][:, :240]
    with pytest.raises(InputError, match="pos_embed has 240 entries, which does not fit"):
        tiny().load_state_dict(state, strict=False)


def test_filter_resize_and_grid_sizes_reach_all_filters():
    model = tiny(filter_resize="bilinear")
    filters = [m for m in model.modules() if isinstance(m, GlobalFilter)]
    assert len(filters) == 5 and {f.resize for f in filters} == {"bilinear"}
    assert [f.size for f in filters] == [(16, 16), (8, 8), (8, 8), (4, 4), (2, 2)]


def test_activation_checkpointing_runs_each_block_twice(monkeypatch):
    calls = []
    forward = Block.forward
    monkeypatch.setattr(Block, "forward", lambda *args: calls.append(1) or forward(*args))
    for with_cp, expected in ((False, 5), (True, 10)):
        calls.clear()
        sum(out.pow(3).sum() for out in tiny(with_cp=with_cp)(torch.randn(1, 3, 64, 64))).backward()
        assert len(calls) == expected


def test_forward_on_the_meta_device_gives_maps_of_the_right_size():
    with torch.device("meta"):
        outs = tiny()(torch.empty(1, 3, 70, 64))
    assert [out.shape[-2:] for out in outs] == [(18, 16), (9, 8), (5, 4), (3, 2)]


@pytest.mark.parametrize("img_size", [(65, 97), (64, 100), 130])
def test_odd_and_non_square_grids_are_kept_by_saving_and_loading(img_size):
    saved, other = tiny(img_size=img_size), tiny(img_size=64)
    again = tiny(img_size=img_size)
    again.load_state_dict(saved.state_dict())
    other.load_state_dict(saved.state_dict())
    x = torch.randn(1, 3, 65, 97)
    torch.testing.assert_close(again.eval()(x)[3], saved.eval()(x)[3], rtol=0, atol=0)
    name = "blocks.1.0.filter.complex_weight"
    stored = saved.state_dict()[name]
    grid = saved.grids[1]
    assert stored.shape[:2] == (grid[0], grid[1] // 2 + 1)
    expected = resize_filter(stored, grid, other.grids[1])
    torch.testing.assert_close(other.state_dict()[name], expected, rtol=0, atol=0)


@pytest.mark.parametrize("scope", ["mmseg", "mmdet", "mmengine"])
def test_mmengine_builds_the_model_by_name_in_other_scopes(scope):
    if scope == "mmdet":
        pytest.importorskip("mmcv._ext", reason="mmdet needs mmcv's compiled operators")
    cfg = dict(type="gfnet_dense.GFNet", arch=TINY, img_size=64, _scope_=scope)
    assert type(MODELS.build(cfg)) is GFNet


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(arch="h-large"), "arch is one of h-tiny, h-small, h-base, or a dict, got 'h-large'"),
        (dict(arch=dict(dims=(8,))), "an arch dict has dims and depths"),
        (dict(arch=dict(dims=(8, 8), depths=(1,))), "as many dims as depths"),
        (dict(arch=dict(dims=(8, 8), depths=(1, 0))), r"depths .* above 0, got \(1, 0\)"),
        (dict(arch=dict(dims=(8, -8), depths=(1, 1))), "dims of an arch are integers above 0"),
        (dict(arch=dict(dims=(), depths=())), "dims of an arch are integers above 0"),
        (dict(arch=dict(dims=(8.0,), depths=(1,))), "dims of an arch are integers above 0"),
        (dict(drop_path_rate=1.0), "drop_path_rate is at least 0 and below 1, got 1.0"),
        (dict(drop_path_rate=-0.1), "drop_path_rate is at least 0 and below 1, got -0.1"),
        (dict(drop_path_rate=float("nan")), "drop_path_rate is at least 0 and below 1, got nan"),
        (dict(out_indices=(1, 4)), r"within 0..3, got \(1, 4\)"),
        (dict(out_indices=(2, 1)), "ascending"),
        (dict(frozen_stages=5), "between -1 and 4"),
        (dict(img_size=16), "32 pixels or more"),
        (dict(img_size=[64]), "an integer or .H, W., got .64."),
        (dict(img_size=64.0), "an integer or .H, W., got 64.0"),
        (dict(border="zeros", filter_resize="bicubic"), "border='zeros' needs filter_resize='trig"),
        (dict(border="wrap"), "border is one of circular, zeros, reflect"),
        (dict(filter_resize="nearest"), "filter_resize is one of"),
    ],
)
def test_wrong_arguments_are_named_in_the_error(arguments, message):
    with pytest.raises(InputError, match=message):
        GFNet(**arguments)
