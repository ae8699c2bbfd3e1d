"""``test_border`` of all backbones: the border of their filters in evaluation alone."""

import copy

import pytest
import torch

from gfnet_dense.export.graphs import freeze_size
from gfnet_dense.models import GFNet, HorNet, IsotropicGFNet
from gfnet_dense.models.layers.base_filter import BaseFilter
from gfnet_dense.utils.errors import InputError

ARCHS = {
    GFNet: dict(dims=(8, 16), depths=(1, 2), layer_scale_init_value=0.5),
    IsotropicGFNet: dict(dim=8, depth=3),
    HorNet: dict(dims=(4, 8, 16), depths=(1, 1, 2), layer_scale_init_value=0.5),
}
SIZES = [(64, 64), (75, 109), (32, 150)]


def build(kind, **kwargs):
    torch.manual_seed(0)
    last = 2 if kind is HorNet else 1  # the first stage of a HorNet with filters is the third one
    model = kind(ARCHS[kind], img_size=64, out_indices=(0, last), drop_path_rate=0.0, **kwargs)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape))
    return model


def assert_same(outs, expected):
    for out, want in zip(outs, expected, strict=True):
        torch.testing.assert_close(out, want, rtol=0, atol=0)


def borders(model):
    return {module.border for module in model.modules() if isinstance(module, BaseFilter)}


@pytest.mark.parametrize("kind", ARCHS)
@pytest.mark.parametrize("border, test_border", [("circular", "zeros"), ("zeros", "reflect")])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("grad", [True, False], ids=["plain path", "fast path"])
def test_training_and_evaluation_equal_models_with_one_border(
    kind, border, test_border, size, grad
):
    model = build(kind, border=border, test_border=test_border)
    x = torch.randn(2, 3, *size)
    for _ in range(2):  # there and back
        with torch.set_grad_enabled(grad):
            assert_same(model.train()(x), build(kind, border=border).train()(x))
            expected = build(kind, border=test_border).eval()(x)
            assert_same(model.eval()(x), expected)
            assert_same(copy.deepcopy(model)(x), expected)


@pytest.mark.parametrize("kind", ARCHS)
def test_without_it_evaluation_has_the_border_of_training(kind):
    model = build(kind, border="zeros")
    assert borders(model) == borders(model.eval()) == {"zeros"}


@pytest.mark.parametrize("kind", ARCHS)
def test_frozen_stages_have_the_border_of_training_while_the_others_train(kind):
    model = build(kind, test_border="zeros", frozen_stages=1)
    x = torch.randn(1, 3, 48, 80)
    assert_same(model.train()(x), build(kind).train()(x))
    assert borders(model.eval()) == {"zeros"}


@pytest.mark.parametrize("kind", ARCHS)
def test_weights_do_not_depend_on_it(kind):
    model = build(kind, test_border="zeros")
    plain = build(kind)
    assert model.state_dict().keys() == plain.state_dict().keys()
    model.load_state_dict(plain.state_dict())


@pytest.mark.parametrize("kind", [GFNet, HorNet])
@pytest.mark.parametrize("size", SIZES)
def test_exported_backbones_have_the_border_of_evaluation(kind, size):
    model = build(kind, test_border="zeros").double().eval()
    x = torch.randn(1, 3, *size, dtype=torch.float64)
    for out, want in zip(freeze_size(model, size)(x), model(x), strict=True):
        torch.testing.assert_close(out, want, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", ARCHS)
@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(test_border="wrap"), "test_border is one of circular, zeros, reflect, got 'wrap'"),
        (
            dict(test_border="zeros", filter_resize="bicubic"),
            "test_border='zeros' needs filter_resize='trigonometric', got 'bicubic'",
        ),
    ],
)
def test_wrong_values_are_refused(kind, arguments, message):
    with pytest.raises(InputError, match=message):
        build(kind, **arguments)
