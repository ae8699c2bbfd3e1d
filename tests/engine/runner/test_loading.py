"""The runner loads checkpoints: to start from, to test, to resume, under wrappers and hooks."""

import pytest
import torch
from mmengine.hooks import EMAHook
from mmengine.model import BaseTTAModel, MMDistributedDataParallel
from mmengine.registry import HOOKS, MODELS

from gfnet_dense.checkpoint.safe_reader import read_checkpoint
from gfnet_dense.utils.errors import InputError
from tests.checkpoint.weights import Messages, added, inserted, tiny_runner
from tests.toy import ToyNet, toy_runner

AVERAGE = dict(type="EMAHook", momentum=0.5)


@pytest.fixture
def trained(tmp_path):
    """Return a checkpoint of four iterations with averaged weights."""
    toy_runner(tmp_path, max_iters=4, hooks=[AVERAGE]).train()
    return tmp_path / "iter_4.pth"


def rewritten(path, change, **others):
    content = torch.load(path, weights_only=False)
    torch.save({**content, "state_dict": change(content["state_dict"]), **others}, path)


WRAPPINGS = {
    "module.": added("module."),
    "_orig_mod.": added("_orig_mod."),
    "model.": added("model."),
    "in the middle": inserted("_orig_mod.", "first."),
    "nested": lambda state_dict: {"model": state_dict},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("hooks", [[], [AVERAGE]], ids=["plain", "averaged"])
def test_a_wrapped_checkpoint_is_resumed_as_the_plain_one(wrapping, hooks, tmp_path):
    toy_runner(tmp_path / "a", max_iters=4, hooks=hooks).train()
    expected = toy_runner(tmp_path / "b", 6, resume=tmp_path / "a" / "iter_4.pth", hooks=hooks)
    expected.train()
    rewritten(tmp_path / "a" / "iter_4.pth", WRAPPINGS[wrapping])
    runner = toy_runner(tmp_path / "c", 6, resume=tmp_path / "a" / "iter_4.pth", hooks=hooks)
    with Messages() as messages:
        runner.train()
    for name, tensor in expected.model.state_dict().items():
        assert torch.equal(runner.model.state_dict()[name], tensor), name
    assert any(m.startswith("iter_4.pth: loaded 9 of 9 tensors") for m in messages)


def test_the_averaged_weights_of_mmengine_are_loaded_and_said(trained, tmp_path):
    saved = read_checkpoint(trained)
    runner = toy_runner(tmp_path / "b")
    with Messages() as messages:
        runner.load_checkpoint(str(trained))
    assert torch.equal(runner.model.first.weight, saved["state_dict"]["first.weight"])
    assert any("averaged by mmengine's EMAHook" in message for message in messages)


def test_hooks_find_the_weights_of_every_form_under_state_dict(trained, tmp_path):
    """EMAHook copies checkpoint['state_dict'] to its averaged model."""
    weights = read_checkpoint(trained)["state_dict"]
    torch.save({"model": added("module.")(weights)}, tmp_path / "bare.pth")
    runner = toy_runner(tmp_path / "b", hooks=[AVERAGE])
    (hook,) = (hook for hook in runner.hooks if isinstance(hook, EMAHook))
    hook.before_run(runner)
    runner.load_checkpoint(str(tmp_path / "bare.pth"))
    averaged = hook.ema_model.module.state_dict()
    assert all(torch.equal(averaged[name], weights[name]) for name in weights)


def test_averaged_weights_of_another_shape_are_refused_when_a_training_resumes(trained, tmp_path):
    content = torch.load(trained, weights_only=False)
    content["ema_state_dict"]["module.first.weight"] = torch.ones(3)
    content["state_dict"]["first.weight"] = torch.ones(3)
    torch.save(content, trained)
    runner = toy_runner(tmp_path / "b", 6, resume=trained, hooks=[AVERAGE])
    with pytest.raises(InputError, match="does not fit the hooks of the config: size mismatch for"):
        runner.train()


@pytest.mark.parametrize("wrapper", ["none", "test-time augmentation", "DDP"])
def test_models_under_wrappers_are_loaded(wrapper, trained, tmp_path):
    runner = toy_runner(tmp_path / "b")
    if wrapper == "test-time augmentation":
        runner.model = TTA(module=ToyNet())
    elif wrapper == "DDP":
        torch.distributed.init_process_group(
            "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
        )
        runner.model = MMDistributedDataParallel(ToyNet())
    try:
        runner.load_checkpoint(str(trained), strict=True)
    finally:
        if wrapper == "DDP":
            torch.distributed.destroy_process_group()
    model = runner.model if wrapper == "none" else runner.model.module
    expected = read_checkpoint(trained)["state_dict"]["first.weight"]
    assert torch.equal(model.first.weight, expected)


class TTA(BaseTTAModel):
    def merge_preds(self, data_samples_list):
        return data_samples_list


def test_a_start_that_fits_next_to_nothing_is_refused(tmp_path):
    """The model has no backbone: half of all its tensors are needed."""
    state_dict = ToyNet().state_dict()
    few = {name: state_dict[name] for name in ("first.weight", "first.bias", "last.bias")}
    torch.save(few, tmp_path / "few.pth")
    with pytest.raises(InputError, match="3 of 8 tensors of the model fit, at least half are"):
        toy_runner(tmp_path / "a").load_checkpoint(str(tmp_path / "few.pth"))
    torch.save({**few, "norm.weight": state_dict["norm.weight"]}, tmp_path / "half.pth")
    runner = toy_runner(tmp_path / "b")
    with Messages() as messages:
        runner.load_checkpoint(str(tmp_path / "half.pth"))
    assert "half.pth: loaded 4 of 8 tensors; resized 0; new: last.weight, norm.bias" in messages[-1]


def test_names_are_revised_as_the_caller_says(tmp_path):
    state_dict = {f"x{name}": tensor for name, tensor in ToyNet().state_dict().items()}
    torch.save(state_dict, tmp_path / "a.pth")
    runner = toy_runner(tmp_path / "a")
    runner.load_checkpoint(str(tmp_path / "a.pth"), strict=True, revise_keys=[("^x", "")])
    assert torch.equal(runner.model.first.weight, state_dict["xfirst.weight"])


@pytest.mark.parametrize(
    "classes, message",
    [(list("edcba"), "in this order"), (list("abcdx"), "'e' and, in the config, 'x'"), (None, "")],
)
def test_classes_in_another_order_are_refused_when_a_model_is_tested(classes, message, tmp_path):
    pytest.importorskip("mmseg")
    runner = tiny_runner(tmp_path, trains=False, classes=classes)
    meta = {"dataset_meta": {"classes": list("abcde")}}
    torch.save({"state_dict": runner.model.state_dict(), "meta": meta}, tmp_path / "a.pth")
    runner._load_from = str(tmp_path / "a.pth")
    if message == "in this order":
        with pytest.raises(InputError, match="trained for the classes a, b, c, d, e, in this ord"):
            runner.test()
        return
    assert runner.test_loop  # builds it, as test() does
    with Messages() as messages:
        runner.load_or_resume()
    warnings = [text for text in messages if "was trained for" in text]
    assert len(warnings) == bool(message) and all(message in text for text in warnings)


@MODELS.register_module()
class NetWithTeacher(ToyNet):
    """Reads a checkpoint in its constructor, as models with a teacher do."""

    def __init__(self, teacher, **kwargs):
        super().__init__(**kwargs)
        from mmengine.runner import load_checkpoint

        self.read = load_checkpoint(ToyNet(), teacher)


@HOOKS.register_module()
class ReadsAfterwards(EMAHook):
    """Reads a checkpoint at the end of the training, as CheckpointHook does to publish it."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def after_train(self, runner):
        from mmengine.runner import CheckpointLoader

        CheckpointLoader.load_checkpoint(self.path)


def test_files_that_models_and_hooks_read_themselves_run_no_code(tmp_path):
    from tests.checkpoint.test_loading import Evil

    torch.save({"state_dict": {}, "x": Evil(tmp_path / "trace")}, tmp_path / "evil.pth")
    evil = str(tmp_path / "evil.pth")
    with pytest.raises(InputError, match="was refused: it holds the object"):
        toy_runner(tmp_path / "a", model=dict(type="NetWithTeacher", teacher=evil))
    runner = toy_runner(tmp_path / "b", hooks=[dict(type="ReadsAfterwards", path=evil)])
    with pytest.raises(InputError, match="was refused: it holds the object"):
        runner.train()
    assert not (tmp_path / "trace").exists()
