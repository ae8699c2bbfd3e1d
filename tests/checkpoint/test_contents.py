"""Which tensors are taken from the content of a file, and what is said of it."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

from gfnet_dense.checkpoint.contents import find_weights
from gfnet_dense.utils.errors import InputError

NAMES = ("backbone.a.weight", "backbone.a.bias", "head.weight")
META = {"mmengine_version": "0.10.12"}


def state(start="", value=0.0, names=NAMES):
    return {f"{start}{name}": torch.full((2,), value) for name in names}


def found(content, expected=NAMES, **settings):
    """Return names, value of the first tensor, and notes."""
    weights = find_weights(content, "x.pth", expected, **settings)
    value = next(iter(weights.state_dict.values()))[0].item()
    return set(weights.state_dict), value, weights.notes


@pytest.mark.parametrize(
    "names",
    [
        ("model.a.weight", "model.b.weight"),
        ("module.a.weight", "b.weight"),
        ("a.module.weight", "a.weight2"),
        ("net.module.model.weight",),
        ("module.a.weight", "a.weight"),
        ("_orig_mod.a.weight",),
    ],
)
@pytest.mark.parametrize("start", ["", "module.", "_orig_mod.", "model.", "module.model."])
def test_real_modules_of_a_model_with_the_names_of_wrappers_keep_their_names(names, start):
    content = {"state_dict": state(start, names=names)}
    if start and len(names) == 2 and names[0] == "module." + names[1]:
        content = {"state_dict": state(names=names)}  # wrapped names would not be unique
    assert found(content, names)[0] == set(names)


def test_a_model_with_an_attribute_model_is_published_as_mmengine_saved_it():
    assert found({"state_dict": state("model."), "meta": META}, ())[0] == set(state("model."))
    names, _, notes = found({"state_dict": state("model.")}, ())
    assert names == set(NAMES) and notes == ("names without model.",)


@pytest.mark.parametrize(
    "content, notes",
    [
        ({"state_dict": state()}, ()),
        ({"model": state()}, ()),
        ({"state_dict": state("module._orig_mod.")}, ("names without module., _orig_mod.",)),
        ({"net": state("model.")}, ("weights of net", "names without model.")),
        ({"state_dict_ema": state()}, ("EMA weights (state_dict_ema)",)),
        ({"state_dict": state("ema_model.")}, (
            "EMA weights (state_dict.ema_model)", "names without ema_model.")),
        ({"state_dict": state(), "model_ema": state(value=1.0)}, (
            "EMA weights are there as well, not used: model_ema",)),
        ({"state_dict": state(), "ema_state_dict": state("module."), "meta": META}, (
            "averaged by mmengine's EMAHook",)),
        ({"ema_state_dict": state("module."), "meta": META}, (
            "weights of ema_state_dict, where mmengine's EMAHook keeps those not averaged",
            "names without module.")),
        ({"state_dict": state(), "best": state(value=1.0)}, ("also there, not used: best",)),
    ],
)  # fmt: skip
def test_what_was_chosen_and_left_out_is_said(content, notes):
    names, value, said = found(content)
    assert (names, value, said) == (set(NAMES), 0.0, notes)


@pytest.mark.parametrize("order", [1, -1])
def test_the_order_of_keys_does_not_choose(order):
    content = {"ema": state(value=1.0), "state_dict": state(), "model": state(value=2.0)}
    content = dict(list(content.items())[::order])
    assert found(content)[1] == 0.0
    with pytest.raises(InputError, match="several sets of weights that fit alike, a and b|b and a"):
        found(dict(list({"a": state(), "b": state()}.items())[::order]))


def test_tensors_outside_the_common_prefix_are_named():
    content = {"state_dict": state("model.") | {"loss.weight": torch.ones(3)}}
    assert find_weights(content, "x.pth", NAMES).left_out == ("loss.weight",)


@pytest.mark.parametrize(
    "content, prefix",
    [
        ({"state_dict": state("teacher.") | state("student.", 1.0)}, "teacher.backbone"),
        ({"state_dict": state("module.teacher.") | state("student.", 1.0)}, "teacher.backbone."),
        ({"state_dict": state("module.teacher.")}, "module.teacher.backbone"),
        ({"state_dict": state("_orig_mod.teacher.")}, "_orig_mod.teacher.backbone"),
        ({"state_dict": state("model.teacher.")}, "teacher.backbone"),
        ({"state_dict": state("model.teacher.")}, "model.teacher.backbone"),
        ({"teacher": state(), "student": state(value=1.0)}, "teacher.backbone"),
        ({"teacher": state("module."), "student": state(value=1.0)}, "teacher.backbone"),
        ({"teacher": {"state_dict": state()}}, "teacher.state_dict.backbone"),
        ({"state_dict": state(), "state_dict_ema": state(value=1.0)}, "backbone"),
    ],
)
def test_prefix_names_a_part_by_keys_and_names(content, prefix):
    names, value, _ = found(content, ("a.weight", "a.bias"), prefix=prefix)
    assert names == {"a.weight", "a.bias"} and value == 0.0


def test_a_prefix_that_several_sets_have_is_refused_and_one_that_none_has():
    with pytest.raises(InputError, match="several sets"):
        found({"a": state(), "b": state()}, prefix="backbone")
    with pytest.raises(InputError, match="x.pth holds no tensor whose name begins with teach"):
        found({"state_dict": state("teacher.")}, prefix="teach")


def test_versions_of_modules_keep_to_their_modules():
    """PyTorch's layers convert old weights by the version that is stored with them."""

    class Head(nn.Sequential):
        _version = 7

    model = nn.Sequential(OrderedDict(a=nn.BatchNorm1d(2), b=Head(nn.Linear(2, 2))))
    wrapped = nn.Module()
    wrapped.model = nn.DataParallel(model)
    for expected in (model.state_dict(), ()):
        weights = find_weights({"state_dict": wrapped.state_dict()}, "x.pth", expected)
        assert weights.state_dict._metadata == model.state_dict()._metadata
        model.load_state_dict(weights.state_dict)


@pytest.mark.parametrize("metadata", [3, None, {1: {}}, {"": 3}, {"": {"version": "x"}}])
def test_forged_versions_of_modules_do_no_harm(metadata):
    norm = nn.BatchNorm1d(2)
    forged = OrderedDict(norm.state_dict())
    forged._metadata = metadata
    weights = find_weights({"state_dict": forged}, "x.pth", norm.state_dict())
    norm.load_state_dict(weights.state_dict)


@pytest.mark.parametrize(
    "meta, classes",
    [
        ({"dataset_meta": {"classes": ["a", "b"]}}, ["a", "b"]),
        ({"dataset_meta": {"CLASSES": ("a",), "PALETTE": [[0, 0, 0]]}}, ("a",)),
        ({"CLASSES": ("a", "b"), "PALETTE": None}, ("a", "b")),
        ({"CLASSES": "disc"}, ("disc",)),
        ({"dataset_meta": "odd"}, None),
        ({"dataset_meta": {3: 4}}, None),
        ({"dataset_meta": {"classes": torch.ones(3)}}, None),
        ({"dataset_meta": {"classes": []}}, None),
        ({"dataset_meta": {"classes": None}}, None),
        ({}, None),
    ],
)
def test_classes_are_found_in_the_meta_of_old_and_new_files(meta, classes):
    weights = find_weights({"state_dict": state(), "meta": meta}, "x.pth", NAMES)
    assert weights.meta.get("dataset_meta", {}).get("classes") == classes


@pytest.mark.parametrize(
    "content", [{}, {"a": 1}, {"state_dict": {}}, {"optimizer": {"a": torch.ones(3)}}, {"a": [1]}]
)
def test_files_without_weights_are_refused_with_their_keys(content):
    with pytest.raises(InputError, match="x.pth holds no weights"):
        found(content)
