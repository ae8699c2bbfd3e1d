"""HorNet against the published model restated, and against numbers of the authors' own code.

``golden_hornet.json`` is made as ``golden.json`` is, see test_golden.py.
"""

import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from gfnet_dense.checkpoint.loading import load_pretrained
from gfnet_dense.models import HorNet
from tests import published_hornet
from tests.models.backbones.test_golden import assert_golden, golden_image, golden_weight
from tests.published_hornet import (
    DEPTHS,
    dense_hornet_state_dict,
    dims_of,
    hornet_outputs,
    hornet_stages,
    official_hornet_shapes,
)

GOLDEN = json.loads(Path(__file__).with_name("golden_hornet.json").read_text())
WIDTHS = {"tiny": 64, "small": 96, "base": 128, "large": 192}
ARCHS = [f"{size}-{kind}" for size in WIDTHS for kind in ("gf", "7x7")]
PARAMETERS = dict(
    zip(ARCHS, (22.99, 22.41, 50.40, 49.53, 88.42, 87.26, 196.29, 194.54), strict=True)
)
SMALL = dict(dims=(16, 32, 64, 128), depths=(1, 2, 2, 1), filters=True)


def arch_of(name):
    """Return the dims and depths of an arch, and whether it has global filters."""
    size, _, kind = name.partition("-")
    return dict(dims=dims_of(WIDTHS[size]), depths=DEPTHS, filters=kind == "gf")


def loaded(arch, state, **kwargs):
    """Return a HorNet with the weights, all names of which have to be its own."""
    kwargs = dict(drop_path_rate=0.0, filter_resize="bilinear") | kwargs
    model = HorNet(arch, **kwargs)
    model.load_state_dict(state)
    return model


def run(model, x, fast):
    """Return the outputs, by the fast path of inference or by the path of training."""
    model.train(not fast)
    with torch.set_grad_enabled(not fast):
        return [y.detach() for y in model(x)]


def assert_published(model, state, x):
    """Check the outputs of both paths up to a share of the largest value of each.

    In their norms rounding averages out, so that these tell another ``eps``, for one.
    """
    with torch.no_grad():
        expected = hornet_outputs(state, x)
    for fast in (False, True):
        for i, (y, z) in enumerate(zip(run(model, x, fast), expected, strict=True)):
            assert y.shape == z.shape
            error = ((y - z).abs().max() / z.abs().max()).item()
            ratio = (y.double().norm() / z.double().norm()).item()
            place = f"output {i} of the {'fast' if fast else 'training'} path"
            assert error < 1e-5 and abs(ratio - 1) < 5e-7, (place, error, ratio - 1)


def golden_state_dict():
    shapes = official_hornet_shapes(dims_of(64), DEPTHS)
    return {name: golden_weight(name, shape) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def golden_file(tmp_path_factory):
    """A file of the golden weights in the form of the official release."""
    path = tmp_path_factory.mktemp("golden") / "hornet_tiny_gf.pth"
    torch.save({"model": golden_state_dict()}, path)
    return path


def size_of(case):
    return tuple(map(int, case.partition("@")[2].split("x")))


@pytest.mark.parametrize("case", GOLDEN)
def test_restatement_gives_the_maps_of_the_authors_code(case):
    maps = hornet_stages(golden_state_dict(), golden_image(*size_of(case)))
    for x, expected in zip(maps, GOLDEN[case].values(), strict=True):
        assert_golden(x[0], expected)


@pytest.mark.parametrize("case", GOLDEN)
def test_maps_are_those_of_the_authors_code(case, golden_file):
    """The maps behind the blocks, channels last, which hooks see in the path of training alone."""
    model = HorNet("tiny-gf", drop_path_rate=0.0, filter_resize="bilinear")
    load_pretrained(model, golden_file)
    maps = []
    for blocks in model.stages:
        blocks[-1].register_forward_hook(lambda block, args, out: maps.append(out.detach()[0]))
    model.train()(golden_image(*size_of(case)))
    for x, expected in zip(maps, GOLDEN[case].values(), strict=True):
        assert_golden(x.permute(2, 0, 1), expected)


@pytest.mark.parametrize("case", GOLDEN)
def test_outputs_of_both_paths_are_the_golden_maps_behind_norms(case):
    state = golden_state_dict()
    state = {n: w for n, w in state.items() if not n.startswith(("norm.", "head."))}
    for i, dim in enumerate(dims_of(64)):
        state[f"norm{i}.weight"], state[f"norm{i}.bias"] = torch.ones(dim), torch.zeros(dim)
    model = loaded("tiny-gf", state)
    assert_published(model, state, golden_image(*size_of(case)))


@pytest.mark.parametrize("name", ARCHS)
def test_number_of_parameters_is_that_of_the_released_code(name):
    shapes = official_hornet_shapes(**arch_of(name))
    published = sum(map(math.prod, shapes.values()))
    assert round(published / 1e6, 2) == PARAMETERS[name]
    with torch.device("meta"):
        model = HorNet(name)
    own = sum(p.numel() for n, p in model.named_parameters() if not n.startswith("norm"))
    top = sum(math.prod(shapes[n]) for n in shapes if n.startswith(("norm.", "head.")))
    assert own + top == published
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("name", ARCHS)
def test_arch_equals_the_published_model(name):
    state = dense_hornet_state_dict(**arch_of(name))
    assert_published(loaded(name, state), state, torch.randn(1, 3, 224, 224))


@pytest.mark.parametrize("name", ["tiny-7x7", "tiny-gf", "small-gf", "base-gf", "large-gf"])
def test_widths_equal_the_published_model_on_a_large_map(name):
    """With all blocks large takes too long: those of a stage differ in nothing but weights."""
    arch = arch_of(name)
    if not name.startswith("tiny"):
        arch["depths"] = (1, 1, 2, 1)
    state = dense_hornet_state_dict(**arch)
    assert_published(loaded(arch, state), state, torch.randn(1, 3, 512, 683))


@pytest.mark.parametrize("filters", [True, False], ids=["gf", "7x7"])
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (100, 61), (32, 224), (225, 39)])
def test_odd_and_tiny_images(size, filters):
    arch = SMALL | dict(filters=filters)
    state = dense_hornet_state_dict(**arch)
    assert_published(loaded(arch, state), state, torch.randn(2, 3, *size))


@pytest.mark.parametrize("grid", [224, 384])
def test_stored_grids(grid):
    """The grids of the release, each at its own size and at the other's."""
    state = dense_hornet_state_dict(**SMALL, img_size=grid)
    model = loaded(SMALL, state, img_size=grid)
    for size in (224, 384):
        assert_published(model, state, torch.randn(1, 3, size, size))


def place_taps(size, new_size):
    """Return the matrix that moves the taps of a centered kernel onto an axis of another size."""
    matrix = torch.zeros(new_size, size, dtype=torch.float64)
    for n in range(-(size // 2), size // 2 + 1):
        matrix[n % new_size, n % size] += 0.5 if 2 * abs(n) == size else 1
    return matrix


def kernel_of(weight):
    """Return the kernel (C, h, h) of a stored filter: 4 columns are of 7x7, 7 of 12x12."""
    h = weight.shape[1]
    return torch.fft.irfft2(torch.view_as_complex(weight), s=(h, h))


@pytest.mark.parametrize("grid, size", [(224, (320, 416)), (224, (96, 160)), (384, (416, 320))])
def test_default_resizing_keeps_the_kernels_in_pixels(grid, size):
    state = dense_hornet_state_dict(**SMALL, img_size=grid)
    resized = dict(state)
    for name, weight in state.items():
        if name.endswith("complex_weight"):
            kernel, reduction = kernel_of(weight.double()), 2 ** (int(name.split(".")[1]) + 2)
            rows, columns = (place_taps(kernel.shape[1], n // reduction) for n in size)
            resized[name] = torch.view_as_real(torch.fft.rfft2(rows @ kernel @ columns.T)).float()
    model = loaded(SMALL, state, img_size=grid, filter_resize="trigonometric")
    assert_published(model, resized, torch.randn(1, 3, *size))


@pytest.mark.parametrize("border, mode", [("zeros", "constant"), ("reflect", "reflect")])
def test_other_borders_are_convolutions_of_padded_maps(border, mode, monkeypatch):
    def convolve(x, weight):
        kernel = kernel_of(weight.double())
        h, reach = kernel.shape[1], kernel.shape[1] // 2
        taps = place_taps(h, 2 * reach + 1)
        kernel = (taps @ kernel @ taps.T).roll((reach, reach), (1, 2)).flip(1, 2)
        padded = F.pad(x, [reach] * 4, mode=mode)
        return F.conv2d(padded, kernel[:, None].float(), groups=x.shape[1])

    monkeypatch.setattr(published_hornet, "global_filter", convolve)
    state = dense_hornet_state_dict(**SMALL)
    options = dict(filter_resize="trigonometric")
    for size in ((224, 224), (160, 288)):
        x = torch.randn(1, 3, *size)
        assert_published(loaded(SMALL, state, border=border, **options), state, x)
    tested = loaded(SMALL, state, test_border=border, **options).eval()  # trained circular
    with torch.no_grad():
        for y, z in zip(tested(x), hornet_outputs(state, x), strict=True):
            torch.testing.assert_close(y, z, rtol=0, atol=1e-5 * z.abs().max().item())


def test_resizing_at_load_equals_resizing_in_forward(tmp_path):
    state = dense_hornet_state_dict(**SMALL)
    torch.save({"state_dict": state}, tmp_path / "hornet.pth")
    model = HorNet(SMALL, img_size=(96, 160), drop_path_rate=0.0, filter_resize="bilinear")
    report = load_pretrained(model, tmp_path / "hornet.pth")
    assert f"loaded {len(state)} of {len(state)} tensors; resized 3" in report
    assert_published(model, state, torch.randn(1, 3, 96, 160))


@pytest.mark.parametrize("with_cp", [False, True])
@pytest.mark.parametrize("size", [(224, 224), (100, 61)])
def test_gradients_are_those_of_the_published_model(size, with_cp):
    state = {n: w.double().requires_grad_() for n, w in dense_hornet_state_dict(**SMALL).items()}
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    expected = hornet_outputs(state, x)
    targets = [torch.randn_like(y) for y in expected]
    torch.autograd.backward(expected, targets)
    model = loaded(SMALL, state, with_cp=with_cp).double().train()
    image = x.detach().clone().requires_grad_()
    torch.autograd.backward(model(image), targets)
    torch.testing.assert_close(image.grad, x.grad, rtol=0, atol=1e-9 * x.grad.abs().max().item())
    for name, weight in model.named_parameters():
        grad = state[name].grad
        scale = grad.abs().max().item()
        torch.testing.assert_close(weight.grad, grad, rtol=0, atol=1e-9 * scale, msg=name)


@pytest.mark.parametrize("out_indices", [(3,), (0, 2), (1, 2, 3)])
def test_outputs_that_are_not_wanted_are_left_out(out_indices):
    state = dense_hornet_state_dict(**SMALL)
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = hornet_outputs(state, x)
    model = HorNet(SMALL, out_indices=out_indices, drop_path_rate=0.0, filter_resize="bilinear")
    names = set(model.state_dict())
    assert names <= set(state) and {n for n in names if n.startswith("norm")} == {
        f"norm{i}.{kind}" for i in out_indices for kind in ("weight", "bias")
    }
    model.load_state_dict({name: state[name] for name in names})
    for fast in (False, True):
        for y, i in zip(run(model, x, fast), out_indices, strict=True):
            torch.testing.assert_close(y, expected[i], rtol=0, atol=1e-5 * expected[i].abs().max())
