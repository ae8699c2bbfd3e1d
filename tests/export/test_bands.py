"""Export of models that take other than three bands."""

import json

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict

from gfnet_dense import api
from gfnet_dense.export.graphs import freeze_size
from gfnet_dense.export.writers import export
from gfnet_dense.models import GFNet, IsotropicGFNet
from tests.checkpoint.weights import tiny_config
from tests.commands import ROOT, run
from tests.conftest import TINY

onnx = pytest.importorskip("onnx", reason="onnx is not installed: gfnet-dense[export]")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs gfnet-dense[export]")


@pytest.mark.parametrize("cls, arch", [(GFNet, TINY), (IsotropicGFNet, dict(dim=8, depth=2))])
@pytest.mark.parametrize("count", [1, 5])
def test_a_backbone_of_any_number_of_bands_is_frozen_to_a_size(cls, arch, count):
    model = cls(arch, img_size=64, in_channels=count).double().eval()
    x = torch.randn(1, count, 70, 90, dtype=torch.float64)
    for a, b in zip(freeze_size(model, (70, 90))(x), model(x), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def test_an_exported_model_takes_its_bands_and_tells_them(tmp_path):
    cfg = tiny_config()
    cfg.model.backbone.update(in_channels=5, rgb_channels=(2, 1, 0))
    kind = "gfnet_dense.SegDataPreProcessor"
    bands = ConfigDict(type=kind, mean=[1.0, 2, 3, 4, 5], std=[2.0] * 5, bgr_to_rgb=False)
    cfg.model.data_preprocessor.update(bands)
    model = api.load_model(cfg, None)
    path = tmp_path / "model.onnx"
    assert export(model, (64, 96), path).relative_error < 1e-4
    session = onnxruntime.InferenceSession(str(path))
    (given,) = session.get_inputs()
    assert given.name == "images" and given.shape[1:] == [5, 64, 96]
    meta = session.get_modelmeta().custom_metadata_map
    assert meta["channels"] == "bands"
    assert json.loads(meta["bands"]) == dict(count=5, rgb=[2, 1, 0])
    assert json.loads(meta["mean"]) == [1, 2, 3, 4, 5] and json.loads(meta["std"]) == [2] * 5
    x = np.random.default_rng(0).normal(size=(1, 5, 64, 96)).astype(np.float32)
    logits, _ = session.run(None, {"images": x})
    with torch.no_grad():
        expected = model.encode_decode(torch.from_numpy(x), [dict(img_shape=(64, 96))])
    np.testing.assert_allclose(logits, expected.numpy(), rtol=1e-3, atol=1e-5)

    example = [str(ROOT / "examples" / "onnx_infer.py"), str(path), "photo.jpg"]
    import sys

    result = run([sys.executable, *example], tmp_path)
    assert result.returncode == 1 and "is for images of 5 bands, not photos" in result.stderr
