"""The backbones against numbers that the authors' own released code gave.

``golden.json`` holds, for weights and an image made by the formulas below, mean, standard
deviation, norm and single values of the map behind each stage, before any norm of ours, and of the
map behind the released final norm. No weight and no line of the authors' is in it.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from gfnet_dense.checkpoint.loading import load_pretrained
from gfnet_dense.models import GFNet, IsotropicGFNet
from gfnet_dense.models.backbones import gfnet_base
from tests.published import official_isotropic_state_dict, official_state_dict

GOLDEN = json.loads(Path(__file__).with_name("golden.json").read_text())
MODELS = {
    "gfnet-h-tiny": (
        lambda **kwargs: GFNet("h-tiny", **kwargs),
        lambda: official_state_dict((64, 128, 256, 512), (3, 3, 10, 3)),
    ),
    "gfnet-tiny": (
        lambda **kwargs: IsotropicGFNet("tiny", **kwargs),
        lambda: official_isotropic_state_dict(256, 12),
    ),
}


def golden_weight(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Return the weight that a name of the official state dict stands for."""
    w = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    kind = name.rpartition(".")[2]
    if kind == "complex_weight":
        w *= 0.5
    elif kind.startswith("gamma"):
        w = 0.5 + 0.1 * w
    elif kind in ("pos_embed", "bias"):
        w *= 0.1
    elif len(shape) == 1:
        w = 1 + 0.1 * w
    else:
        w /= np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(w.astype(np.float32))


def golden_image(height: int, width: int) -> torch.Tensor:
    i, j, c = np.arange(height)[:, None], np.arange(width)[None], np.arange(3)[:, None, None]
    image = np.sin(0.05 * (c + 1) * i) + np.cos(0.07 * j + c)
    image += 0.5 * np.sin(0.011 * (i + 1) * (j + 2))
    return torch.from_numpy(image.astype(np.float32))[None]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The file of each model in the form of the official release."""
    folder = tmp_path_factory.mktemp("golden")
    for name, (_, official) in MODELS.items():
        weights = {key: golden_weight(key, tuple(w.shape)) for key, w in official().items()}
        torch.save({"model": weights}, folder / f"{name}.pth")
    return folder


def maps_of(model, x, monkeypatch):
    """Return the output behind the last norm, and the maps behind the blocks of each stage.

    Hooks would turn the fast path off, so the maps are taken where it gives them back.
    """
    stages = []
    if torch.is_grad_enabled():
        groups = model.blocks if isinstance(model, GFNet) else [model.blocks]
        for blocks in groups:
            blocks[-1].register_forward_hook(lambda block, args, out: stages.append(out))
    else:
        infer = gfnet_base.infer

        def keep(*args):
            x, out = infer(*args)
            stages.append(x.clone())
            return x, out

        monkeypatch.setattr(gfnet_base, "infer", keep)
    outs = model(x)
    return outs[-1][0].detach(), [stage.detach()[0].permute(2, 0, 1) for stage in stages]


def assert_golden(found, expected):
    """Compare a map (C, H, W) with its numbers, up to rounding.

    In what is of all pixels rounding averages out (1e-8 was seen, 3e-6 in single ones), so that it
    tells more: of another ``eps`` of the norms, for one.
    """
    std = expected["std"]
    assert list(found.shape) == expected["shape"]
    found = found.double()
    assert found.mean().item() == pytest.approx(expected["mean"], rel=0, abs=1e-6 * std)
    assert found.std(correction=0).item() == pytest.approx(std, rel=1e-6)
    assert found.norm().item() == pytest.approx(expected["norm"], rel=1e-6)
    for *place, value in expected["at"]:
        assert found[tuple(place)].item() == pytest.approx(value, rel=0, abs=3e-5 * std), place


@pytest.mark.parametrize("fast", [False, True], ids=["training", "inference"])
@pytest.mark.parametrize("case", GOLDEN)
def test_maps_are_those_of_the_authors_code(case, fast, files, monkeypatch):
    name, _, size = case.partition("@")
    build, _ = MODELS[name]
    size = tuple(map(int, size.split("x")))
    model = build(img_size=size, drop_path_rate=0.0)
    report = load_pretrained(model, str(files / f"{name}.pth"))
    assert "resized 0" in report and "not used: nothing" in report
    model.train(not fast)
    with torch.set_grad_enabled(not fast):
        last, stages = maps_of(model, golden_image(*size), monkeypatch)
    expected = dict(GOLDEN[case])
    assert_golden(last, expected.pop("norm"))
    assert len(stages) == (4 if isinstance(model, GFNet) else 1)
    for i, stage in enumerate(stages):
        if f"stage{i}" in expected:
            assert_golden(stage, expected.pop(f"stage{i}"))
    assert not expected
