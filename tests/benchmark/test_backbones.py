import json
import sys
from dataclasses import asdict
from pathlib import Path

import mmseg
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from gfnet_dense.benchmark import backbones
from gfnet_dense.benchmark.backbones import NAMES, build, cases, published_cases, run
from gfnet_dense.benchmark.measure import Settings
from gfnet_dense.benchmark.published import PublishedGFNet
from gfnet_dense.models import GFNet
from gfnet_dense.models.backbones import gfnet_base
from gfnet_dense.models.utils.filter_resize import symmetrize_filter
from gfnet_dense.utils.errors import InputError
from tests.conftest import TINY

SETTINGS = Settings(threads=1)
DIMS = {
    "GFNet-H-Ti": (64, 128, 256, 512),
    "GFNet-H-Ti-plain": (64, 128, 256, 512),
    "GFNet-H-S": (96, 192, 384, 768),
    "GFNet-H-B": (96, 192, 384, 768),
    "ResNet-50": (256, 512, 1024, 2048),
    "Swin-T": (96, 192, 384, 768),
    "ConvNeXt-T": (96, 192, 384, 768),
    "MiT-B1": (64, 128, 320, 512),
    "MiT-B2": (64, 128, 320, 512),
    "MSCAN-T": (32, 64, 160, 256),
    "PVT-S": (64, 128, 320, 512),
}


def skip_if_unavailable(name):
    if reason := backbones.why_not(name):
        pytest.skip(reason)


@pytest.mark.parametrize("name", NAMES)
def test_backbone_returns_four_maps_of_strides_4_to_32(name):
    skip_if_unavailable(name)
    model = build(name)
    model.eval()
    with torch.inference_mode():
        maps = model(torch.randn(1, 3, 64, 96))
    strides = (4, 8, 16, 32)
    shapes = [(1, dim, 64 // s, 96 // s) for dim, s in zip(DIMS[name], strides, strict=True)]
    assert [tuple(out.shape) for out in maps] == shapes


def test_plain_backbone_gives_the_same_maps_without_the_fast_path(monkeypatch):
    fast, plain = build("GFNet-H-Ti").eval(), build("GFNet-H-Ti-plain").eval()
    plain.load_state_dict(fast.state_dict())
    image = torch.randn(1, 3, 64, 64)
    runs, infer = [], gfnet_base.infer
    monkeypatch.setattr(gfnet_base, "infer", lambda *args: runs.append(1) or infer(*args))
    with torch.inference_mode():
        expected = fast(image)
        assert len(runs) == 4  # stages
        maps = plain(image)
    assert len(runs) == 4
    for ours, theirs in zip(maps, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


# Costs of the ImageNet classifiers at 224, from their papers. SegFormer's table 1 has the
# parameters of MiT's encoder without a classifier, and no FLOPs of it.
@pytest.mark.parametrize(
    "name, millions, classifier, gigaflops",
    [
        ("GFNet-H-Ti", None, True, 2.1),
        ("ResNet-50", 25.6, True, 4.1),
        ("Swin-T", 28.3, True, 4.5),
        ("ConvNeXt-T", 28.6, True, 4.5),
        ("MiT-B1", 13.1, False, None),
        ("MiT-B2", 24.2, False, None),
        ("MSCAN-T", 4.2, True, 0.9),
        ("PVT-S", 24.5, True, 3.8),
    ],
)
def test_parameters_and_flops_are_the_published_ones(name, millions, classifier, gigaflops):
    skip_if_unavailable(name)
    model = build(name)
    cost = backbones._cost(model, 224)
    params = cost["params"] + (DIMS[name][3] + 1) * 1000 * classifier
    assert millions is None or params / 1e6 == pytest.approx(millions, abs=0.06)
    assert gigaflops is None or cost["flops"] / 1e9 == pytest.approx(gigaflops, abs=0.05)


def test_flops_of_mit_match_a_calculation_by_hand():
    """Sum linear layers, key-reducing convolutions, attention and embeddings of MiT-B1 at 64x64."""
    total = 0
    dims, kernels, ratios = (3, 64, 128, 320, 512), (7, 3, 3, 3), (8, 4, 2, 1)
    for i, (kernel, ratio) in enumerate(zip(kernels, ratios, strict=True)):
        n, dim = (16 // 2**i) ** 2, dims[i + 1]
        keys = n // ratio**2
        total += n * kernel**2 * dims[i] * dim
        linear = (2 * n + 2 * keys + (n if ratio > 1 else 0) + 8 * n) * dim**2
        total += 2 * (linear + 2 * n * keys * dim + 9 * 4 * n * dim)
    assert backbones._cost(build("MiT-B1"), 64)["flops"] == total


@pytest.mark.parametrize(
    "name, path",
    [
        ("Swin-T", "swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py"),
        ("MiT-B1", "segformer/segformer_mit-b1_8xb2-160k_ade20k-512x512.py"),
        ("MiT-B2", "segformer/segformer_mit-b2_8xb2-160k_ade20k-512x512.py"),
        ("MSCAN-T", "segnext/segnext_mscan-t_1xb16-adamw-160k_ade20k-512x512.py"),
    ],
)
def test_backbone_settings_are_those_of_the_configs_of_mmsegmentation(name, path):
    path = Path(mmseg.__file__).parent / ".mim/configs" / path
    if not path.exists():
        pytest.skip("mmseg came without its configs")
    cfg = Config.fromfile(path).model.backbone
    cfg.update(type=f"mmseg.{cfg.type}", init_cfg=None)
    if name == "MSCAN-T":
        cfg.norm_cfg.type = "BN"
    theirs, ours = MODELS.build(cfg), build(name)
    ours.init_cfg = theirs.init_cfg = None  # init_cfg is part of the string
    assert str(ours) == str(theirs)


def test_record_holds_params_flops_latencies_and_extra_memory():
    record = run(64, "MSCAN-T", asdict(Settings(threads=1, batch_size=2)))
    assert json.loads(json.dumps(record)) == record
    assert record["params"] == sum(p.numel() for p in build("MSCAN-T").parameters())
    assert record["flops"] == backbones._cost(build("MSCAN-T"), 64)["flops"]  # FLOPs of one image
    assert min(record["latencies"]) > 0 and record["extra_memory"] >= 0


def test_there_is_one_case_for_each_distinct_backbone_and_size():
    made = cases(["Swin-T", "GFNet-H-Ti", "Swin-T"], [224, 512], SETTINGS)
    assert [(case.series, case.size) for case in made] == [
        ("Swin-T", 224), ("Swin-T", 512), ("GFNet-H-Ti", 224), ("GFNet-H-Ti", 512),
    ]  # fmt: skip
    assert made[0].options == dict(name="Swin-T", settings=asdict(SETTINGS))
    assert made[0].run is run and json.dumps(made[0].options)


def test_unknown_backbone_is_refused():
    with pytest.raises(InputError, match="GFNet-H-Ti, .*, got Swin-Ti$"):
        cases(["Swin-T", "Swin-Ti"], [224], SETTINGS)


def test_unavailable_backbone_is_refused_if_named_and_left_out_by_default(monkeypatch, capsys):
    config = dict(type="no_such_library.Net")
    monkeypatch.setattr(
        backbones, "CONFIGS", {"MSCAN-T": backbones.CONFIGS["MSCAN-T"], "N": config}
    )
    monkeypatch.setattr(backbones, "NAMES", ("MSCAN-T", "N"))
    with pytest.raises(InputError, match="^N cannot be had here: no_such_library cannot be"):
        cases(["N"], [224], SETTINGS)
    assert [case.series for case in cases(None, [224], SETTINGS)] == ["MSCAN-T"]
    assert capsys.readouterr().out.startswith("N is left out: no_such_library cannot be imported")


def test_mocks_of_torchvision_are_removed_after_the_import(monkeypatch):
    def import_module(name):
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")
        import torchvision.ops.boxes

        raise ImportError(f"{name} after {torchvision.ops.boxes}")

    modules = dict(sys.modules)
    monkeypatch.setattr(backbones, "import_module", import_module)
    assert "mmpretrain.models after <MagicMock" in backbones.why_not("ConvNeXt-T")
    assert sys.modules == modules


@pytest.mark.parametrize("size", [100, 0, -32])
def test_published_backbone_refuses_sizes_that_are_no_multiples_of_32(size):
    with pytest.raises(InputError, match=f"multiples of 32, got {size}$"):
        published_cases([64, size], SETTINGS)


def test_inference_is_also_measured_without_the_fast_path(monkeypatch):
    made = published_cases([64], Settings(threads=1))
    assert [case.series for case in made] == ["GFNet-H-Ti", "GFNet-H-Ti-plain", "published"]
    calls, infer, used = [], gfnet_base.infer, []
    monkeypatch.setattr(gfnet_base, "infer", lambda *args: calls.append(1) or infer(*args))
    records = []
    for case in made[:2]:
        calls.clear()
        records.append(case.run(case.size, **case.options))
        used.append(bool(calls))
    assert used == [True, False]
    assert records[0].keys() == records[1].keys()
    assert all(records[0][key] == records[1][key] for key in ("params", "flops"))


def test_own_and_published_backbone_are_measured_and_agree():
    made = published_cases([64], Settings(threads=1, train=True, batch_size=2))
    assert [case.series for case in made] == ["GFNet-H-Ti", "published"]
    ours, published = (case.run(case.size, **case.options) for case in made)
    assert json.dumps([ours, published])
    assert ours["params"] == published["params"] and ours["flops"] == published["flops"]
    assert published.keys() - ours.keys() == {"difference", "gradient_difference"}
    assert 0 < published["difference"] < 1e-5
    assert 0 < published["gradient_difference"] < 1e-4


def test_difference_is_the_largest_relative_difference_of_the_maps(monkeypatch):
    class Other(PublishedGFNet):
        def forward(self, x):
            maps = super().forward(x)
            return maps[0], 1.25 * maps[1], *maps[2:]

    monkeypatch.setattr(backbones, "PublishedGFNet", Other)
    assert backbones.compare(64, SETTINGS) == {"difference": pytest.approx(0.2, abs=1e-5)}


def test_fill_sets_the_same_nonzero_weights_in_own_and_published_backbone():
    ours, published = GFNet(TINY, 64), PublishedGFNet(TINY, 64)
    backbones.fill(ours)
    backbones.fill(published)
    state = ours.state_dict()
    for name, value in published.state_dict().items():
        assert torch.equal(value, state[name]) and value.std() > 0.01, name
    gamma, kernel = state["blocks.3.0.gamma"], state["blocks.0.0.filter.complex_weight"]
    assert 0.2 < gamma.std() < 0.4
    torch.testing.assert_close(symmetrize_filter(kernel, (16, 16)), kernel, rtol=0, atol=0)
