"""The models of the configs learn: two steps of their own optimizers, on synthetic scenes."""

from itertools import count

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope

from gfnet_dense.datasets.synthetic import writers
from gfnet_dense.demo import shrink, write_data
from gfnet_dense.engine.runner import build_runner
from gfnet_dense.models.backbones.gfnet import ARCHS
from tests.conftest import ROOT, config_param

NAMES = [  # each kind of head
    "fpn_gfnet-h-ti_ade20k", "upernet_gfnet_ade20k", "upernet_gfnet-b-isotropic_ade20k",
    "segformer_gfnet-h-ti_ade20k", "mask2former_gfnet-h-ti_ade20k", "mask-rcnn_gfnet-h-ti_coco",
    "retinanet_gfnet-h-ti_coco", "atss_gfnet-h-ti_coco", "dino-4scale_gfnet-h-ti_coco",
]  # fmt: skip
# ATSS learns a factor for the boxes of each level, of which some have no object here.
UNUSED = {"atss_gfnet-h-ti_coco": [f"bbox_head.scales.{i}.scale" for i in range(5)]}
NUMBERS = count()  # loggers and message hubs are global, by the name of the experiment


class KeepHook(Hook):
    """Keeps the weights before the first step."""

    def before_train(self, runner):
        self.weights = [p.detach().clone() for p in runner.model.parameters()]


def two_steps(name):
    """Return the demo of a config with the fewest blocks, two steps long."""
    cfg = Config.fromfile(ROOT / "configs" / f"{name}.py")
    shrink(cfg)
    backbone = cfg.model.backbone
    if backbone.type == "gfnet_dense.GFNet":
        backbone.arch = dict(dims=ARCHS[backbone.arch]["dims"], depths=(1, 1, 1, 1))
    else:
        backbone.update(arch=dict(dim=512, depth=4), out_indices=(0, 1, 2, 3))
    cfg.train_cfg.max_iters = 2
    cfg.train_dataloader.update(batch_size=2, num_workers=0, persistent_workers=False)
    cfg.param_scheduler = cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    cfg.default_hooks, cfg.custom_hooks = dict(checkpoint=None, logger=None), []
    cfg.work_dir, cfg.experiment_name = "run", f"learning_{next(NUMBERS)}"
    return cfg


@pytest.mark.parametrize("name", map(config_param, NAMES))
def test_every_weight_has_a_gradient_and_moves(name, tmp_path, monkeypatch):
    """Behind a layer that begins as zeros there is a gradient from the second step on."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(writers, "NUM_IMAGES", {"training": 4, "validation": 1})
    monkeypatch.setattr(writers, "NUM_COCO_IMAGES", {"train2017": 4, "val2017": 1})
    cfg, hook = two_steps(name), KeepHook()
    write_data(cfg)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        runner = build_runner(cfg)
        runner.register_hook(hook)
        runner.train()
    state, wrong = runner.optim_wrapper.optimizer.state, {}
    parameters = runner.model.named_parameters()
    for before, (key, parameter) in zip(hook.weights, parameters, strict=True):
        if parameter not in state:
            wrong[key] = "no gradient"
        elif not state[parameter]["exp_avg"].isfinite().all():
            wrong[key] = "a gradient that is not finite"
        elif not state[parameter]["exp_avg_sq"].any():
            wrong[key] = "a gradient of zeros"
        elif torch.equal(parameter, before):
            wrong[key] = "as it was"
    assert not {key: how for key, how in wrong.items() if key not in UNUSED.get(name, ())}
