"""Tests in mixed precision: in the test alone, and whatever mmengine's loop sets."""

import pytest
import torch
from mmengine.registry import MODELS
from mmengine.runner import Runner

from gfnet_dense.engine.hooks.autocast_hook import AutocastHook
from gfnet_dense.utils.errors import InputError
from tests import toy  # noqa: F401  (registers the parts of the runner)

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="the toy is on a CPU")


def runner(folder, *hooks, fp16=False):
    model = MODELS.build(dict(type="ToyNet"))
    loader = dict(
        batch_size=2, dataset=dict(type="ToyNumbers", noise=0),
        sampler=dict(type="DefaultSampler", shuffle=False),
    )  # fmt: skip
    return Runner(
        model, str(folder), test_dataloader=loader, test_evaluator=dict(type="ToyMean"),
        test_cfg=dict(type="TestLoop", fp16=fp16), custom_hooks=list(hooks),
        default_hooks=dict(logger=None), experiment_name=f"autocast_{folder.name}_{len(hooks)}",
    )  # fmt: skip


@pytest.mark.parametrize("fp16", [False, True])
def test_the_model_is_tested_in_bfloat16_and_left_as_it_was(fp16, tmp_path):
    means = []
    for hooks in ([], [dict(type="gfnet_dense.AutocastHook", amp="auto")]):
        torch.manual_seed(0)
        it, seen = runner(tmp_path, *hooks, fp16=fp16 and bool(hooks)), set()
        it.model.first.register_forward_hook(lambda module, args, y, seen=seen: seen.add(y.dtype))
        step = it.model.test_step
        means.append(it.test()["mean"])
        assert seen == {torch.bfloat16 if hooks else torch.float32}
        assert it.model.test_step == step
    assert means[0] != means[1] and means[0] == pytest.approx(means[1], abs=0.02)


def test_a_dtype_that_the_device_has_not_is_told_before_the_first_image(tmp_path):
    it = runner(tmp_path, AutocastHook("float16"))
    it.model.test_step = None  # is not called
    with pytest.raises(InputError, match="float16 needs a GPU"):
        it.test()
