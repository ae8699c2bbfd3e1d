"""Exported models in onnxruntime, compared with PyTorch."""

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from gfnet_dense import api
from gfnet_dense.demo import shrink
from gfnet_dense.export.graphs import freeze_size
from gfnet_dense.export.writers import check_format, export
from gfnet_dense.models import GFNet, HorNet, IsotropicGFNet
from gfnet_dense.models.layers.base_filter import BaseFilter
from gfnet_dense.utils.config import read_config
from gfnet_dense.utils.errors import InputError
from tests.commands import error_of, run, tool
from tests.conftest import ROOT, needs_operators

onnx = pytest.importorskip("onnx", reason="onnx is not installed: gfnet-dense[export]")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs gfnet-dense[export]")

CONFIGS = ["upernet_gfnet_ade20k", "fpn_gfnet-h-ti_ade20k"]


def small_model(name):
    cfg = read_config(str(ROOT / "configs" / f"{name}.py"))
    shrink(cfg)
    torch.manual_seed(0)
    model = api.load_model(cfg, None)
    with torch.no_grad():  # initial gammas almost switch the filters off
        for name, parameter in model.named_parameters():
            if name.endswith(("gamma", "gamma1", "gamma2")):
                parameter.fill_(0.5)
    return model


@pytest.mark.parametrize(
    "kind, arch",
    [
        (GFNet, dict(dims=(8, 16, 24), depths=(1, 2, 1))),
        (IsotropicGFNet, dict(dim=8, depth=3)),
        (HorNet, dict(dims=(4, 8, 16), depths=(1, 1, 2))),
    ],
)
@pytest.mark.parametrize("border", ["circular", "zeros"])
@pytest.mark.parametrize("size", [(64, 64), (100, 171)])
def test_a_backbone_frozen_to_one_size_gives_the_same_maps(kind, arch, border, size):
    torch.manual_seed(0)
    model = kind(arch, img_size=64, out_indices=(0, 2), border=border).double().eval()
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    frozen = freeze_size(model, size)
    assert not [m for m in frozen.modules() if isinstance(m, BaseFilter)]
    assert [m for m in model.modules() if isinstance(m, BaseFilter)]
    for a, b in zip(frozen(x), model(x), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "name, size",
    [
        *((name, size) for name in CONFIGS for size in ((64, 64), (75, 109))),
        ("upernet_gfnet_ade20k", (128, 160)),  # maps so large that the head takes another way
        ("upernet_hornet-tiny-gf_ade20k", (128, 160)),
    ],
)
def test_exported_segmentors_give_the_same_logits_in_onnxruntime(name, size, tmp_path):
    model, path = small_model(name), tmp_path / "model.onnx"
    check = export(model, size, path)
    assert check.relative_error < 1e-4
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]

    proto = onnx.load(path)
    onnx.checker.check_model(proto)
    assert "DFT" not in {node.op_type for node in proto.graph.node}
    session = onnxruntime.InferenceSession(str(path))
    meta = session.get_modelmeta().custom_metadata_map
    assert json.loads(meta["size"]) == list(size)
    assert json.loads(meta["classes"]) == list(model.dataset_meta["classes"])
    images = torch.randn(3, 3, *size)  # a batch size that the export has not seen
    logits, labels = session.run(["logits", "labels"], {"images": images.numpy()})
    with torch.no_grad():
        expected = model.encode_decode(images, [dict(img_shape=size)] * 3)
    assert np.linalg.norm(logits - expected.numpy()) <= 1e-4 * expected.norm()
    assert np.array_equal(labels, logits.argmax(1))


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("size", [(512, 512), (365, 491)])
def test_full_size_segmentors_are_exported_within_the_tolerance(name, size, tmp_path):
    model = api.load_model(ROOT / "configs" / f"{name}.py", None)
    check = export(model, size, tmp_path / "model.onnx")  # export refuses complex types and DFT
    print(name, size, check)
    assert check.relative_error < 1e-4


def test_a_torch_export_gives_the_same_logits(tmp_path):
    model, path = small_model(CONFIGS[1]), tmp_path / "model.pt2"
    assert export(model, (64, 96), path).relative_error < 1e-4
    x = torch.randn(1, 3, 64, 96)
    logits, _ = torch.export.load(path).module()(x)
    expected = model.encode_decode(x, [dict(img_shape=(64, 96))])
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-4)


def test_an_export_above_the_tolerance_writes_no_file(tmp_path):
    with pytest.raises(InputError, match="above the tolerance of 0"):
        export(small_model(CONFIGS[1]), (64, 64), tmp_path / "model.onnx", tolerance=0)
    assert not list(tmp_path.iterdir())


class DataDependent(torch.nn.Module):
    """Branches on the values of its input, which torch.export cannot trace."""

    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_a_module_that_cannot_be_traced_is_named_in_the_error(tmp_path):
    model = small_model(CONFIGS[1])
    model.decode_head.dropout = DataDependent()
    with pytest.raises(InputError, match="torch.export cannot trace FPNHead"):
        export(model, (64, 64), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@needs_operators
@pytest.mark.parametrize("name", ["retinanet_gfnet-h-ti_coco", "cascade-mask-rcnn_gfnet-h-ti_coco"])
def test_exported_detectors_give_the_same_maps_in_onnxruntime(name, tmp_path):
    """The export holds backbone and neck, and for RetinaNet the head."""
    model, path = small_model(name), tmp_path / "model.onnx"
    export(model, (64, 96), path)
    images = torch.randn(3, 3, 64, 96)
    results = onnxruntime.InferenceSession(str(path)).run(None, {"images": images.numpy()})
    with torch.no_grad():
        maps = model.extract_feat(images)
        if name.startswith("retinanet"):
            scores, boxes = model.bbox_head(maps)
            maps = [*maps, *scores, *boxes]
    for a, b in zip(results, maps, strict=True):
        assert np.linalg.norm(a - b.numpy()) <= 1e-4 * b.norm()


def test_other_formats_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"\*.onnx or \*.pt2"):
        check_format(tmp_path / "model.engine")


def test_the_export_command_writes_a_model_that_the_example_runs(tmp_path):
    """tools/export_onnx.py, then examples/onnx_infer.py on a photo of another size."""
    model = small_model(CONFIGS[0])
    torch.save({"state_dict": model.state_dict(), "meta": {}}, tmp_path / "weights.pth")
    command = tool("export_onnx", ROOT / "configs" / f"{CONFIGS[0]}.py", "weights.pth", "--demo")
    result = run([*command, "--size", "64x96", "--out", "model.onnx"], tmp_path)
    assert result.returncode == 0, result.stderr
    assert "relative; an image takes" in result.stdout

    photo = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    example = [sys.executable, str(ROOT / "examples" / "onnx_infer.py"), "model.onnx", "photo.png"]
    result = run(example, tmp_path)
    assert result.returncode == 0, result.stderr
    assert Image.open(tmp_path / "segmented.png").size == (120, 90)
    shares = [float(line.split("%")[0]) for line in result.stdout.splitlines() if "%" in line]
    assert sum(shares) == pytest.approx(100, abs=1)


@pytest.mark.parametrize(
    "args, message",
    [
        (["--size", "big"], "an image size is HxW"),
        (["--size", "16x64"], "32 pixels and more"),
        (["--size", "64", "--out", "model.trt"], "named *.onnx or *.pt2"),
    ],
)
def test_wrong_arguments_give_an_error_of_one_sentence(args, message, tmp_path):
    config = ROOT / "configs" / f"{CONFIGS[0]}.py"
    assert message in error_of(run(tool("export_onnx", config, "no.pth", *args), tmp_path))
