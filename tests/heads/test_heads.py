"""Our heads against the classes of mmsegmentation from which they derive, with the same weights."""

import copy

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

pytest.importorskip("mmseg.models")

from mmengine.model import revert_sync_batchnorm

import gfnet_dense.models  # noqa: F401 (registers)
from gfnet_dense.heads import conv_modules

DIMS, CLASSES = (16, 24, 32, 40), 5
SIZES = [(72, 64), (36, 32), (18, 16), (9, 8)]  # the first is inferred by tiles
ODD_SIZES = [(71, 67), (36, 33), (20, 17), (3, 1)]  # no exact halves
BASE = dict(channels=64, num_classes=CLASSES, loss_decode=dict(type="mmseg.CrossEntropyLoss"))
PYRAMID = dict(BASE, in_channels=list(DIMS), in_index=[0, 1, 2, 3])
HEADS = {
    "UPerHead": dict(PYRAMID, pool_scales=(1, 2, 3, 6)),
    "SegformerHead": PYRAMID,
    "FPNHead": dict(PYRAMID, feature_strides=[4, 8, 16, 32]),
    "PSPHead": dict(BASE, in_channels=DIMS[0], in_index=0, pool_scales=(1, 2, 3, 6)),
}
NORMS = {
    "BN": dict(type="BN"),
    "SyncBN": dict(type="SyncBN"),
    "GN": dict(type="GN", num_groups=8),
    "none": None,
}
INFERENCE = 2e-5  # of the largest value; float32 through three convolutions


def build(name, norm="BN", align_corners=False, **settings):
    """Return a head of mmsegmentation and ours, with the same weights and unlike statistics."""
    torch.manual_seed(0)
    settings = dict(HEADS[name], norm_cfg=NORMS[norm], align_corners=align_corners, **settings)
    heads = [
        MODELS.build(dict(settings, type=f"{scope}.{name}")) for scope in ("mmseg", "gfnet_dense")
    ]
    for module in heads[0].modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    heads[1].load_state_dict(heads[0].state_dict())
    return [revert_sync_batchnorm(head) if norm == "SyncBN" else head for head in heads]


def make_maps(sizes=SIZES, batch=2, dims=DIMS):
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(batch, dim, *size, generator=generator)
        for dim, size in zip(dims, sizes, strict=True)
    ]


def assert_equal(found, expected, tolerance=INFERENCE):
    assert found.shape == expected.shape and found.is_contiguous()
    torch.testing.assert_close(
        found, expected, rtol=0, atol=tolerance * float(expected.abs().max())
    )


@pytest.fixture
def count_inferences(monkeypatch):
    calls = []
    infer = conv_modules.infer_conv_upsampled
    monkeypatch.setattr(
        conv_modules, "infer_conv_upsampled", lambda *args: calls.append(args) or infer(*args)
    )
    return calls


@pytest.mark.parametrize("sizes", [SIZES, ODD_SIZES], ids=["halves", "odd"])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("name", HEADS)
def test_inference_equals_that_of_the_stock_head(name, align_corners, sizes, count_inferences):
    stock, ours = (head.eval() for head in build(name, align_corners=align_corners))
    maps = make_maps(sizes)
    with torch.no_grad():
        expected, found = stock(maps), ours([x.clone() for x in maps])
    assert_equal(found, expected)
    # Input channels below MIN_DIM go the general way; the hidden maps of UPerNet do not.
    assert bool(count_inferences) == (name in ("UPerHead", "SegformerHead"))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", HEADS)
def test_every_norm_is_applied(name, norm, monkeypatch):
    monkeypatch.setattr(conv_modules, "MIN_DIM", 1)
    monkeypatch.setattr(conv_modules, "MIN_POSITIONS", 1)
    stock, ours = (head.eval() for head in build(name, norm))
    maps = make_maps()
    with torch.no_grad():
        assert_equal(ours(maps), stock(maps))


@pytest.mark.parametrize("sizes", [SIZES, ODD_SIZES], ids=["halves", "odd"])
@pytest.mark.parametrize("name", HEADS)
def test_a_training_step_has_the_gradients_and_statistics_of_the_stock_head(name, sizes):
    results = []
    for head in build(name, "SyncBN", dropout_ratio=0):
        leaves = [x.double().requires_grad_() for x in make_maps(sizes)]
        outputs = head.double().train()(leaves)
        direction = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(2))
        (outputs * direction).sum().backward()
        gradients = {key: p.grad for key, p in head.named_parameters()}
        inputs = [x.grad for x in leaves if x.grad is not None]
        results.append((outputs, gradients, dict(head.named_buffers()), inputs))
    (expected, gradients, buffers, inputs), (found, own_gradients, own_buffers, own_inputs) = (
        results
    )
    assert_equal(found, expected, 1e-6)  # positions of the interpolation are float32 in neither
    for mine, theirs in ((own_gradients, gradients), (own_buffers, buffers)):
        assert mine.keys() == theirs.keys()
        for key, value in theirs.items():
            if value is None:
                assert mine[key] is None
            else:
                scale = max(float(value.abs().max()), 1e-6)
                torch.testing.assert_close(mine[key], value, rtol=0, atol=1e-7 * scale, msg=key)
    for a, b in zip(own_inputs, inputs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-7 * float(b.abs().max()))


NECKS = [
    {},
    dict(num_outs=2),
    dict(num_outs=2, upsample_cfg=dict(mode="bilinear", align_corners=False)),
    dict(add_extra_convs="on_output", num_outs=6),
]


@pytest.mark.parametrize("low", [(36, 32), (25, 31)], ids=["halves", "odd"])
@pytest.mark.parametrize("settings", NECKS)
def test_the_neck_equals_the_stock_neck(settings, low, count_inferences):
    torch.manual_seed(0)
    settings = dict(dict(in_channels=[64, 96], out_channels=64, num_outs=3), **settings)
    stock, ours = (MODELS.build(dict(settings, type=f"{s}.FPN")) for s in ("mmseg", "gfnet_dense"))
    ours.load_state_dict(stock.state_dict())
    maps = make_maps([(72, 64), low], dims=(64, 96))
    with torch.no_grad():
        for found, expected in zip(ours(maps), stock(maps), strict=True):
            assert_equal(found.contiguous(), expected)
    assert len(count_inferences) == 2  # of the large map: lateral and output
    for found, expected in zip(ours(maps), stock(maps), strict=True):
        assert_equal(found, expected, 1e-6)


def test_a_map_that_a_hook_of_the_neck_keeps_stays_as_it_was():
    torch.manual_seed(0)
    settings = dict(in_channels=[64, 96], out_channels=64, num_outs=2)
    stock, ours = (MODELS.build(dict(settings, type=f"{s}.FPN")) for s in ("mmseg", "gfnet_dense"))
    ours.load_state_dict(stock.state_dict())
    kept = []
    for neck in (stock, ours):
        neck.lateral_convs[0].register_forward_hook(lambda *args: kept.append(args[2]))
        with torch.no_grad():
            neck(make_maps([(72, 64), (36, 32)], dims=(64, 96)))
    assert_equal(kept[1].contiguous(), kept[0])


def _replace_classifier(head):
    torch.manual_seed(3)
    head.conv_seg = nn.Conv2d(head.channels, CLASSES, 3, padding=1, bias=False)


@pytest.mark.parametrize(
    "change",
    [
        _replace_classifier,
        lambda head: setattr(head.conv_seg, "bias", None),
        lambda head: head.dropout.train() and torch.manual_seed(4),
    ],
    ids=["3x3", "no bias", "dropout"],
)
def test_a_changed_classifier_is_used(change):
    results = []
    for head in build("UPerHead"):
        change(head.eval())
        with torch.no_grad():
            torch.manual_seed(5)
            results.append(head(make_maps()))
    assert_equal(results[1], results[0])


@pytest.mark.parametrize("name", HEADS)
def test_a_hook_on_a_convolution_sees_its_calls(name):
    _, ours = build(name)
    module = (
        next(m for m in ours.modules() if type(m) is nn.Conv2d and m.kernel_size != (1, 1))
        if name != "SegformerHead"
        else ours.fusion_conv.conv
    )
    seen = []
    module.register_forward_hook(lambda *args: seen.append(args))
    with torch.no_grad():
        ours.eval()(make_maps())
    assert len(seen) == 1


def test_a_replaced_convolution_is_called(monkeypatch):
    """Such as one that a quantizer or an adapter has put there."""

    class Adapted(nn.Conv2d):
        def forward(self, x):
            return super().forward(x) + 1

    stock, ours = (head.eval() for head in build("UPerHead"))
    for head in (stock, ours):
        head.fpn_bottleneck.conv.__class__ = Adapted
    with torch.no_grad():
        assert_equal(ours(make_maps()), stock(make_maps()))


def test_other_interpolations_of_segformer_are_those_of_the_stock_head():
    stock, ours = (h.eval() for h in build("SegformerHead", interpolate_mode="bicubic"))
    with torch.no_grad():
        assert_equal(ours(make_maps()), stock(make_maps()), 1e-6)


@pytest.mark.parametrize("name", ["UPerHead", "SegformerHead"])
def test_autocast_equals_the_stock_head(name):
    stock, ours = (head.eval() for head in build(name))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        expected, found = stock(make_maps()), ours(make_maps())
    assert found.dtype == expected.dtype == torch.bfloat16
    difference = (found.float() - expected.float()).norm() / expected.float().norm()
    assert difference < 2e-2


def test_a_checkpoint_of_the_stock_head_loads_and_goes_back(tmp_path):
    stock, ours = build("UPerHead")
    torch.save(stock.state_dict(), tmp_path / "stock.pth")
    fresh = copy.deepcopy(ours)
    for parameter in fresh.parameters():
        nn.init.normal_(parameter)
    fresh.load_state_dict(torch.load(tmp_path / "stock.pth"), strict=True)
    stock.load_state_dict(fresh.state_dict(), strict=True)
    with torch.no_grad():
        assert_equal(fresh.eval()(make_maps()), stock.eval()(make_maps()))


@pytest.mark.parametrize("name", ["UPerHead", "SegformerHead"])
def test_the_compiled_head_equals_the_head(name):
    _, ours = build(name)
    compiled = torch.compile(copy.deepcopy(ours).eval(), backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        assert_equal(compiled(make_maps()).contiguous(), ours.eval()(make_maps()))


@pytest.mark.skipif(
    not hasattr(torch.compiler, "is_exporting"), reason="PyTorch 2.7 and newer tell an export"
)
def test_an_exported_norm_is_in_the_weights():
    stock, ours = (head.eval() for head in build("UPerHead"))
    with torch.no_grad():
        program = torch.export.export(ours, (make_maps(),), strict=False)
        assert_equal(program.module()(make_maps()), stock(make_maps()))
    norms = [node for node in program.graph.nodes if "batch_norm" in str(node.target)]
    assert len(norms) == len(ours.lateral_convs) + len(ours.psp_modules)
