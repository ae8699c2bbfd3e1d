"""What became of the tensors of a file and of a module."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gfnet_dense.checkpoint.contents import Weights
from gfnet_dense.checkpoint.fitting import collapse, load_tensors
from gfnet_dense.models import GFNet
from gfnet_dense.utils.errors import InputError
from tests.conftest import TINY

NAMES = st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(".".join)


@given(st.sets(NAMES, min_size=1), st.data())
def test_collapsed_names_stand_for_the_listed_names_and_no_others(whole, data):
    listed = data.draw(st.sets(st.sampled_from(sorted(whole))))
    short = collapse(listed, whole)
    covered = {n for n in whole if any(n == s or n.startswith(f"{s}.") for s in short)}
    assert covered >= listed and not any(
        n == s or (n.startswith(f"{s}.") and s not in listed) for n in whole - listed for s in short
    )
    assert len(short) <= len(listed) and short == sorted(short)


def test_whole_modules_are_named_once():
    whole = ["head.conv.weight", "head.conv.bias", "head.norm.weight", "backbone.a", "backbone.b"]
    assert collapse(whole[:3], whole) == ["head"]
    assert collapse(whole[:2], whole) == ["head.conv"]
    assert collapse([whole[0], "backbone.a"], whole) == ["backbone.a", "head.conv.weight"]
    assert collapse([], whole) == []


def test_the_account_is_complete_and_the_report_has_its_numbers():
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 4))
    state_dict = {
        "0.weight": torch.ones(3, 2), "2.weight": torch.ones(5, 3), "2.bias": torch.ones(4),
        "1.weight": torch.ones(3), "1.bias": torch.ones(3), "3.weight": torch.ones(1),
    }  # fmt: skip
    fit = load_tensors(module, state_dict, "x.pth")
    assert fit.loaded == ["0.weight", "1.weight", "1.bias", "2.bias"]
    assert fit.new == ["0.bias", "1.running_mean", "1.running_var"] and fit.unused == ["3.weight"]
    assert fit.misfits == {"2.weight": ("5, 3", "4, 3")} and not fit.resized
    assert fit.report("x.pth", Weights({}, {}, ("4.bias",), ("EMA weights (a)",))) == (
        "x.pth: loaded 4 of 8 tensors; resized 0; new: 0.bias, 1.running_mean, 1.running_var; "
        "not used: 3, 4; of another shape: 2.weight (file (5, 3), model (4, 3)); EMA weights (a)"
    )
    assert fit.problems() == (
        "3 of 8 tensors missing (0.bias, 1.running_mean, 1.running_var), 1 not in the model (3), "
        "1 of another shape (2.weight (file (5, 3), model (4, 3)))"
    )
    assert torch.equal(module[0].weight, torch.ones(3, 2))
    assert not torch.equal(module[2].weight[:3, :3], torch.ones(3, 3))


def test_long_lists_end_with_the_number_that_is_left_out():
    module = nn.ModuleList(nn.Linear(1, 1) for _ in range(9))
    fit = load_tensors(module, {f"{i}.weight": torch.ones(1, 1) for i in range(9)}, "x.pth")
    assert "new: 0.bias, 1.bias, 2.bias, 3.bias, 4.bias, 5.bias and 3 more" in fit.report(
        "x.pth", Weights({}, {}, (), ())
    )


def test_scalars_and_tensors_without_numbers_are_compared_by_shape():
    module = nn.Module()
    module.register_buffer("a", torch.zeros(()))
    module.register_buffer("b", torch.zeros(0, 2))
    fit = load_tensors(module, {"a": torch.ones(2), "b": torch.zeros(2, 0)}, "x.pth")
    assert fit.misfits == {"a": ("2", ""), "b": ("2, 0", "0, 2")}


def test_resized_filters_are_counted_and_their_grid_is_named():
    source = GFNet(TINY, img_size=64).state_dict()
    fit = load_tensors(GFNet(TINY, img_size=(96, 80)), source, "x.pth")
    assert len(fit.resized) == sum(TINY["depths"]) + 1 and fit.grid == "24x20"
    assert fit.loaded == list(source)
    whole = nn.Module()
    whole.backbone = GFNet(TINY, img_size=96)
    fit = load_tensors(whole, {f"backbone.{n}": t for n, t in source.items()}, "x.pth")
    assert len(fit.resized) == sum(TINY["depths"]) + 1 and fit.grid == "24x24"


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64])
def test_other_numbers_are_refused_before_anything_is_loaded(dtype):
    module = nn.Linear(2, 2)
    before = module.weight.clone()
    state_dict = {"weight": torch.ones(2, 2), "bias": torch.ones(2).to(dtype)}
    with pytest.raises(InputError, match=f"x.pth holds bias as {dtype}, the model has"):
        load_tensors(module, state_dict, "x.pth")
    assert torch.equal(module.weight, before)
