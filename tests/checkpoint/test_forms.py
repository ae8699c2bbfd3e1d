"""The forms in which trainers write weights, and files that fit a model in part or not at all."""

import re

import pytest
import torch

from gfnet_dense.models import GFNet
from gfnet_dense.utils.errors import InputError
from tests.checkpoint.weights import Messages, Ways, added, inserted, renamed, tiny_weights
from tests.conftest import TINY

pytest.importorskip("mmseg")
PLAIN = tiny_weights()
AVERAGED = {k: v * 0.5 if v.is_floating_point() else v for k, v in PLAIN.items()}
HALF = lambda name: f"module.{name}" if "backbone" in name else name  # noqa: E731
META = {"mmengine_version": "0.10.12", "dataset_meta": {"classes": list("abcde")}}
LIGHTNING = {"pytorch-lightning_version": "2.5.0", "epoch": 3, "loops": {}, "callbacks": {}}
OPTIMIZER = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}
COUNT = {"n_averaged": torch.tensor(5)}

FINE = ("loaded",) * 4
EMA = ("loaded, EMA",) * 4
TWICE = ("refused: two sets",) * 4
NONE = ("refused: no weights",) * 4


def swapped(state_dict):
    return {"module." + k: v for k, v in state_dict.items()} | {"steps": torch.tensor(7)}


# By name: content of the file, and what load_model, init_cfg, load_from and publish make of it.
FORMS = {
    "state_dict": ({"state_dict": PLAIN, "meta": META, "optimizer": OPTIMIZER}, FINE),
    "bare": (PLAIN, FINE),
    "bare, with an epoch as a tensor": ({**PLAIN, "epoch": torch.tensor([3, 4])}, (
        "refused: not in the model", "loaded", "loaded", "loaded, and 1 more")),
    "model": ({"model": PLAIN, "epoch": 3, "optimizer": OPTIMIZER}, FINE),
    "model, beside a tensor": ({"model": PLAIN, "loss": torch.tensor(0.5)}, FINE),
    "model_state_dict": ({"model_state_dict": PLAIN, "loss": 0.5}, FINE),
    "module (DeepSpeed)": ({"module": PLAIN, "ds_version": "0.16", "dp_world_size": 2}, FINE),
    "net": ({"net": PLAIN, "acc": 90.0}, FINE),
    "network": ({"network": PLAIN}, FINE),
    "params": ({"params": PLAIN}, FINE),
    "weights": ({"weights": PLAIN}, FINE),
    "another key": ({"segmentor": PLAIN, "step": 3}, FINE),
    "model, in it state_dict": ({"model": {"state_dict": PLAIN, "name": "x"}}, FINE),
    "state_dict, in it model": ({"state_dict": {"model": PLAIN}}, FINE),
    "the same under two keys": ({"model": PLAIN, "net": PLAIN}, FINE),
    "module.": ({"state_dict": added("module.")(PLAIN)}, FINE),
    "module.module.": ({"state_dict": added("module.module.")(PLAIN)}, FINE),
    "module. in a part of the names": ({"state_dict": renamed(PLAIN, HALF)}, (
        "loaded", "loaded", "loaded", "loaded")),
    "module. in the middle": ({"state_dict": inserted("module.")(PLAIN)}, (
        "loaded", "loaded", "loaded", "names kept")),
    "_orig_mod.": ({"model": added("_orig_mod.")(PLAIN)}, FINE),
    "_orig_mod. in the middle": ({"state_dict": inserted("_orig_mod.")(PLAIN)}, FINE),
    "module._orig_mod.": (added("module._orig_mod.")(PLAIN), FINE),
    "_orig_mod.module.": (added("_orig_mod.module.")(PLAIN), FINE),
    "_fsdp_wrapped_module. at two places": (
        {"model": added("_fsdp_wrapped_module.")(inserted("_fsdp_wrapped_module.")(PLAIN))}, FINE),
    "_checkpoint_wrapped_module. in the middle": (
        inserted("_checkpoint_wrapped_module.", "blocks.0.")(PLAIN), FINE),
    "_forward_module. (Fabric)": (added("_forward_module.")(PLAIN), FINE),
    "model. (Lightning)": ({"state_dict": added("model.")(PLAIN), **LIGHTNING}, FINE),
    "model. and a loss (Lightning)": (
        {"state_dict": {**added("model.")(PLAIN), "loss.weight": torch.ones(5)}, **LIGHTNING},
        ("loaded", "loaded", "loaded", "names kept")),
    "model.module.": (added("model.module.")(PLAIN), FINE),
    "model._orig_mod. (Lightning)": (
        {"state_dict": added("model._orig_mod.")(PLAIN), **LIGHTNING}, FINE),
    "net.": ({"state_dict": added("net.")(PLAIN)}, FINE),
    "network.": ({"state_dict": added("network.")(PLAIN)}, FINE),
    "another prefix": ({"state_dict": added("segmentor.")(PLAIN)}, (
        "loaded", "loaded", "loaded", "names kept")),
    "teacher. alone": ({"state_dict": added("teacher.")(PLAIN)}, (
        "loaded", "loaded", "loaded", "names kept")),
    "state_dict_ema alone (timm)": ({"state_dict_ema": AVERAGED, "arch": "x"}, EMA),
    "model_ema alone (torchvision)": (
        {"model_ema": {**added("module.")(AVERAGED), **COUNT}}, EMA),
    "ema_state_dict alone": ({"ema_state_dict": swapped(AVERAGED)}, EMA),
    "params_ema alone": ({"params_ema": AVERAGED}, EMA),
    "ema.model": ({"ema": {"model": AVERAGED, "decay": 0.9}}, EMA),
    "an averaged model of PyTorch": ({**added("module.")(PLAIN), **COUNT}, FINE),
    "state_dict and state_dict_ema (timm)": (
        {"state_dict": PLAIN, "state_dict_ema": AVERAGED}, FINE),
    "model and model_ema": ({"model": PLAIN, "model_ema": AVERAGED}, FINE),
    "params and params_ema": ({"params_ema": AVERAGED, "params": PLAIN}, FINE),
    "state_dict and ema_state_dict (mmengine)": (
        {"state_dict": PLAIN, "ema_state_dict": swapped(AVERAGED), "meta": META}, FINE),
    "state_dict and current_model_state (Lightning)": (
        {"state_dict": added("model.")(PLAIN), "current_model_state": added("model.")(AVERAGED),
         "averaging_state": COUNT, **LIGHTNING}, FINE),
    "model. and ema_model. (Lightning)": (
        {"state_dict": {**added("ema_model.")(AVERAGED), **added("model.")(PLAIN)}, **LIGHTNING},
        ("loaded", "loaded", "loaded", "names kept")),
    "state_dict, and EMA of a callback": (
        {"state_dict": PLAIN, "callbacks": {"EMA": {"ema_state_dict": AVERAGED}}}, FINE),
    "state_dict and best_state_dict": ({"state_dict": PLAIN, "best_state_dict": AVERAGED}, FINE),
    "student and teacher": ({"student": PLAIN, "teacher": AVERAGED}, TWICE),
    "student. and teacher.": ({**added("student.")(PLAIN), **added("teacher.")(AVERAGED)}, (
        *TWICE[:3], "names kept")),
    "model and net": ({"model": PLAIN, "net": AVERAGED}, TWICE),
    "generator and a small discriminator": (
        {"generator": PLAIN, "discriminator": {"weight": torch.ones(2)}}, FINE),
    "names with module. and the same without": ({**PLAIN, **added("module.")(AVERAGED)}, (
        *TWICE[:3], "names kept")),
    "mmsegmentation 0.x": (
        {"state_dict": PLAIN, "meta": {"CLASSES": tuple("abcde"), "PALETTE": [[1, 2, 3]] * 5}},
        FINE),
    "the optimizer alone (DeepSpeed)": (
        {"optimizer_state_dict": {"fp32": torch.zeros(3)}, "ds_version": "0.16"}, NONE),
    "meta alone": ({"meta": META, "state_dict": {}}, NONE),
}  # fmt: skip

REFUSALS = {
    "two sets": "several sets of weights that fit alike",
    "no weights": "holds no weights",
    "not in the model": "not in the model",
}


@pytest.fixture(scope="module")
def rows():
    """Return what the tests have found, by name of the case."""
    return {}


@pytest.fixture(scope="module")
def ways(tmp_path_factory):
    return Ways(tmp_path_factory.mktemp("ways"))


def outcome(load, path):
    """Load a file and return what happened, by comparing the weights that were loaded."""
    with Messages() as messages:
        try:
            found = load(path)
        except InputError as e:
            assert "\n" not in str(e) and str(path) in str(e)
            return "refused: " + next(k for k, v in REFUSALS.items() if v in str(e))
    (report,) = (m for m in messages if re.match(rf"{path.name}: (loaded|\d+ tensors)", m))
    more = len(set(found) - set(PLAIN))
    if more > 1 or not set(found) & set(PLAIN):
        return "names kept"
    for result, truth in (("loaded", PLAIN), ("loaded, EMA", AVERAGED)):
        if all(torch.equal(found[name], truth[name]) for name in set(found) & set(truth)):
            assert ("EMA weights (" in report) == (truth is AVERAGED), report
            return result + (f", and {more} more" if more else "")
    return "wrong weights"


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_weights_is_loaded_as_it_is_said(form, ways, rows, tmp_path):
    content, expected = FORMS[form]
    torch.save(content, tmp_path / "file.pth")
    loads = (ways.load_model, ways.init_cfg, ways.load_from, ways.publish)
    found = tuple(outcome(load, tmp_path / "file.pth") for load in loads)
    assert found == expected
    rows[form] = found


def test_the_table_of_forms_is_in_the_documentation(rows, check_table):
    if not set(FORMS) <= set(rows):
        pytest.skip("some of the tests above have not run or failed")
    heading = ["form", "infer, test", "init_cfg", "load_from", "publish"]
    check_table("checkpoint forms", [heading, *([form, *rows[form]] for form in FORMS)])


def changed(**others):
    """Return the weights with others under the names of ``others``, without those that are None."""
    state_dict = PLAIN | {name.replace("__", "."): value for name, value in others.items()}
    return {name: tensor for name, tensor in state_dict.items() if tensor is not None}


def without(pattern):
    return {name: tensor for name, tensor in PLAIN.items() if not re.search(pattern, name)}


def backbone(**arch):
    """Return the weights with those of a backbone of another arch or size."""
    settings = dict(arch=TINY | arch.pop("arch", {}), img_size=arch.pop("img_size", 64))
    return without("^backbone") | added("backbone.")(GFNet(**settings).state_dict())


WEIGHT, SEG = "backbone__blocks__0__0__mlp__fc1__weight", "decode_head__conv_seg__"
OTHER_CLASSES = {SEG + "weight": torch.ones(3, 8, 1, 1), SEG + "bias": torch.ones(3)}
ONE = PLAIN[WEIGHT.replace("__", ".")]
ALL = (f"loaded {len(PLAIN)}", f"loaded {len(PLAIN)}", "loaded 67")
BAD = ("refused: integers",) * 3

# By name: the weights in the file, and what load_from, the strict ways and init_cfg make of them.
# The model has 127 tensors, 67 of them in its backbone.
MISFITS = {
    "the same model": (PLAIN, ALL),
    "float16": ({k: v.half() if v.is_floating_point() else v for k, v in PLAIN.items()}, ALL),
    "float64": ({k: v.double() if v.is_floating_point() else v for k, v in PLAIN.items()}, ALL),
    "no numbers of batches": (without("num_batches_tracked"), (
        "loaded 120", "loaded 120", "loaded 67")),
    "filters of another image size": (backbone(img_size=(96, 80)), ALL),
    "head for 3 classes instead of 5": (changed(**OTHER_CLASSES), (
        "loaded 125", "refused: number of classes", "loaded 67")),
    "another head": (renamed(PLAIN, lambda n: n.replace("decode_head.", "decode_head.x.")), (
        "loaded 83", "refused: missing, too many", "loaded 67")),
    "no head": (without("^decode_head"), ("loaded 83", "refused: missing", "loaded 67")),
    "a further head": (PLAIN | {"auxiliary_head.weight": torch.ones(3)}, (
        "loaded 127", "refused: too many", "loaded 67")),
    "a tensor of the backbone missing": (changed(**{WEIGHT: None}), (
        "loaded 126", "refused: missing", "refused: missing")),
    "a further tensor in the backbone": (changed(backbone__extra__weight=torch.ones(3)), (
        "loaded 127", "refused: too many", "loaded 67")),
    "a tensor of another shape in the backbone": (changed(**{WEIGHT: ONE[:, :4]}), (
        "loaded 126", "refused: shape", "refused: shape")),
    "an empty tensor in the backbone": (changed(**{WEIGHT: ONE[:0]}), (
        "loaded 126", "refused: shape", "refused: shape")),
    "backbone with other dims": (backbone(arch=dict(dims=(8, 16, 24, 40))), (
        "refused: arch", "refused: arch", "refused: arch")),
    "backbone with other depths": (backbone(arch=dict(depths=(1, 2, 2, 1))), (
        "refused: arch", "refused: arch", "refused: arch")),
    "backbone without its gammas": (without("gamma"), (
        "loaded 122", "refused: missing", "refused: missing")),
    "the backbone alone": (
        {k.removeprefix("backbone."): v for k, v in PLAIN.items() if k.startswith("backbone.")},
        ("refused: backbone alone", "refused: backbone alone", "loaded 67")),
    "the head alone": (without("backbone|neck"), (
        "refused: too little", "refused: missing", "refused: no GFNet")),
    "a third of the backbone": (without(r"backbone.*(mlp|norm)"), (
        "refused: too little", "refused: missing", "refused: missing")),
    "one tensor with a right name": (
        {"decode_head.conv_seg.bias": torch.ones(5), "x.weight": torch.ones(3)},
        ("refused: too little", "refused: missing, too many", "refused: no GFNet")),
    "another model": ({"layer1.0.conv1.weight": torch.ones(4, 4, 1, 1)}, (
        "refused: another model", "refused: another model", "refused: no GFNet")),
    "integers": (changed(**{WEIGHT: ONE.to(torch.int8)}), BAD),
    "complex numbers": (changed(**{WEIGHT: ONE.to(torch.complex64)}), BAD),
    "NaN": (changed(**{WEIGHT: ONE / 0}), ("refused: not finite",) * 3),
    "infinity": (changed(**{WEIGHT: ONE + float("inf")}), ("refused: not finite",) * 3),
    "a text": (changed(**{WEIGHT: "x"}), ("refused: no tensor",) * 3),
}  # fmt: skip

REASONS = {
    "arch": "another backbone|of another arch",
    "backbone alone": r"holds a backbone alone, which belongs .* init_cfg=dict\(type='Pretrained'",
    "another model": "checkpoint of another model",
    "too little": "has too little of the model",
    "number of classes": "another number of classes",
    "missing, too many": r"of \d+ tensors missing .* not in the model",
    "missing": r"of \d+ tensors (are )?missing",
    "too many": "1 not in the model",
    "shape": r"1 (tensors are )?of another shape.*file \(.*\), model \(",
    "no GFNet": "holds no GFNet weights",
    "integers": "weights are floating-point numbers",
    "not finite": "not finite",
    "no tensor": "holds a str as",
}


def misfit(load, path):
    """Load a file and return how many tensors were loaded, counted by their values."""
    with Messages() as messages:
        try:
            found = load(path)
        except InputError as e:
            assert "\n" not in str(e) and str(path) in str(e)
            return "refused: " + next(k for k, v in REASONS.items() if re.search(v, str(e)))
    (report,) = (m for m in messages if m.startswith(f"{path.name}: loaded"))
    count = int(re.search(r"loaded (\d+) of", report)[1])
    given = torch.load(path)["state_dict"]
    given |= added("backbone.")(given)
    same = [n for n in found if n in given and torch.equal(found[n], given[n].to(found[n].dtype))]
    assert len(same) + int(re.search(r"resized (\d+)", report)[1]) == count
    return f"loaded {count}"


@pytest.mark.parametrize("case", MISFITS)
def test_weights_that_do_not_fit_are_said_or_refused(case, ways, rows, tmp_path):
    state_dict, expected = MISFITS[case]
    torch.save({"state_dict": state_dict}, tmp_path / "file.pth")
    loads = (ways.load_from, ways.test, ways.init_cfg)
    found = tuple(misfit(load, tmp_path / "file.pth") for load in loads)
    assert found == expected
    rows[case] = found


def test_the_table_of_misfits_is_in_the_documentation(rows, check_table):
    if not set(MISFITS) <= set(rows):
        pytest.skip("some of the tests above have not run or failed")
    heading = ["file", "load_from", "resume, test, infer", "init_cfg"]
    check_table("checkpoint misfits", [heading, *([case, *rows[case]] for case in MISFITS)])
