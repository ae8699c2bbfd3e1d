"""Backbones on other devices, as far as a machine without one can tell.

On the meta device, a tensor of the CPU that takes part in an operator is a copy between devices, or
an error, on a GPU. Modules take the same branches there, unless a branch names CUDA.
"""

import pytest
import torch
from mmengine.config import Config
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gfnet_dense.models import GFNet, HorNet, IsotropicGFNet
from gfnet_dense.models.layers.base_filter import BORDERS
from gfnet_dense.models.utils.filter_resize import FILTER_RESIZE_MODES
from tests.conftest import ROOT

ARCHS = {
    GFNet: dict(dims=(8, 16), depths=(1, 1), layer_scale_init_value=0.5),
    IsotropicGFNet: dict(dim=8, depth=2),
    HorNet: dict(dims=(4, 8, 16), depths=(1, 1, 1), layer_scale_init_value=0.5),
}
SETTINGS = [
    *(dict(filter_resize=mode) for mode in FILTER_RESIZE_MODES),
    *(dict(border=border) for border in BORDERS if border != "circular"),
    dict(test_border="zeros"),
    dict(test_border="reflect"),
    dict(with_cp=True),
]
SIZES = [(64, 64), (45, 109)]  # the stored size; odd, one side shorter and one longer


class Operators(TorchDispatchMode):
    """Records the operators that run, and those in which a tensor of the CPU takes part."""

    def __init__(self):
        super().__init__()
        self.names, self.on_cpu = [], []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.names.append(func.overloadpacket.__name__)
        leaves = tree_leaves((args, kwargs, result))
        if any(isinstance(leaf, Tensor) and leaf.device.type == "cpu" for leaf in leaves):
            self.on_cpu.append(func.overloadpacket.__name__)
        return result


def build(kind, device="cpu", **kwargs):
    with torch.device(device):
        # The first stage of a HorNet with filters is the third one.
        last = 2 if kind is HorNet else 1
        return kind(ARCHS[kind], img_size=64, out_indices=(0, last), **kwargs)


def default_backbone(device, **kwargs):
    """Return the backbone of the default config; images of 224 have the size of its filters."""
    settings = dict(Config.fromfile(ROOT / "configs" / "upernet_gfnet_ade20k.py").model.backbone)
    assert settings.pop("type") == "gfnet_dense.GFNet"
    settings.pop("init_cfg", None)
    with torch.device(device):
        return GFNet(**settings, **kwargs).train()


def train_once(model, images):
    sum(out.sum() for out in model(images)).backward()


@pytest.mark.parametrize("border", BORDERS)
def test_a_second_training_step_copies_nothing_from_the_host(border):
    model, images = (
        default_backbone("meta", border=border),
        torch.empty(2, 3, 64, 96, device="meta"),
    )
    train_once(model, images)
    with Operators() as operators:
        train_once(model, images)
    assert "spectral_filter" in operators.names and "spectral_filter_backward" in operators.names
    assert operators.on_cpu == []
    assert not {"lift_fresh", "_to_copy", "copy_", "_local_scalar_dense"} & {*operators.names}


@pytest.mark.parametrize("border", ["circular", "reflect"])
def test_a_second_training_step_makes_no_tensor_of_numbers_or_arrays(border, monkeypatch):
    """On the CPU the kernels of our own operators run too, which dispatch modes do not see."""
    model, images = default_backbone("cpu", border=border), torch.randn(2, 3, 64, 96)
    train_once(model, images)
    made = []
    for name in ("tensor", "as_tensor", "asarray", "from_numpy", "scalar_tensor"):
        monkeypatch.setattr(torch, name, lambda *args, name=name, **kwargs: made.append(name))
    train_once(model, images)
    assert not made


@pytest.mark.parametrize("kind", ARCHS)
@pytest.mark.parametrize("kwargs", SETTINGS, ids=str)
@pytest.mark.parametrize("size", SIZES)
def test_no_operator_mixes_devices(kind, kwargs, size):
    model, images = build(kind, "meta", **kwargs), torch.empty(2, 3, *size, device="meta")
    with Operators() as operators:
        for training in (True, False):
            train_once(model.train(training), images)
            with torch.no_grad():
                model(images)
                outs = model(images)  # in evaluation with filters from the cache
    assert operators.names and operators.on_cpu == []
    assert all(each.is_meta for each in outs)
    assert all(parameter.grad.is_meta for parameter in model.parameters())


@pytest.mark.parametrize("kind", ARCHS)
@pytest.mark.parametrize("mode", FILTER_RESIZE_MODES)
def test_deterministic_training_interpolates_without_operators_that_refuse_it(kind, mode):
    """The gradients of F.interpolate add in any order on a GPU, and raise RuntimeError there."""
    model = build(kind, filter_resize=mode)
    torch.use_deterministic_algorithms(True)
    try:
        with Operators() as operators:
            train_once(model, torch.randn(2, 3, *SIZES[1]))
    finally:
        torch.use_deterministic_algorithms(False)
    assert "convolution_backward" in operators.names
    assert [name for name in operators.names if "upsample" in name] == []


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("kind", ARCHS)
def test_deterministic_training_gives_the_same_maps_and_gradients(kind, mode):
    model, images = build(kind, filter_resize=mode).double(), torch.randn(2, 3, 45, 109).double()
    results = []
    for deterministic in (False, True):
        torch.use_deterministic_algorithms(deterministic)
        try:
            model.zero_grad()
            outs = model(images)
            sum(out.pow(2).sum() for out in outs).backward()
        finally:
            torch.use_deterministic_algorithms(False)
        results.append([*outs, *(parameter.grad for parameter in model.parameters())])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
