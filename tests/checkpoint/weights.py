"""A tiny segmentor, its weights in the forms of many trainers, and the ways of loading them."""

import logging

import torch
from mmengine.config import ConfigDict
from mmengine.logging import MMLogger

from gfnet_dense.apis.loading import load_model
from gfnet_dense.checkpoint.publish import publish
from gfnet_dense.checkpoint.safe_reader import read_checkpoint
from gfnet_dense.demo import shrink
from gfnet_dense.engine.runner.dense_runner import DenseRunner
from gfnet_dense.models import GFNet
from gfnet_dense.utils.config import read_config
from tests.conftest import ROOT, TINY
from tests.toy import ToyNumbers  # noqa: F401 (registers)

NUM_CLASSES = 5


def tiny_config():
    """Return the config of a segmentor of five classes with a tiny backbone and head."""
    cfg = read_config(ROOT / "configs" / "fpn_gfnet-h-ti_ade20k.py")
    shrink(cfg)
    cfg.model.backbone.update(arch=TINY, img_size=64)
    cfg.model.neck.update(in_channels=list(TINY["dims"]), out_channels=8)
    norm = dict(type="BN", requires_grad=True)
    cfg.model.decode_head.update(
        in_channels=[8] * 4, channels=8, num_classes=NUM_CLASSES, norm_cfg=norm
    )
    return cfg


def tiny_weights(model=None):
    """Return weights for the segmentor, all of them random."""
    model = model or load_model(tiny_config(), None)
    generator = torch.Generator().manual_seed(3)
    return {
        name: torch.rand(tensor.shape, generator=generator) if tensor.ndim else tensor
        for name, tensor in model.state_dict().items()
    }


def tiny_runner(work_dir, trains, classes=None):
    """Return a runner of the segmentor, which trains or tests; its data are never used."""
    loader = dict(
        batch_size=2, num_workers=0, dataset=dict(type="ToyNumbers", classes=classes),
        sampler=dict(type="DefaultSampler", shuffle=False),
    )  # fmt: skip
    training = dict(
        train_dataloader=loader,
        train_cfg=dict(type="IterBasedTrainLoop", max_iters=1),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.1)),
    )
    testing = dict(
        test_dataloader=loader,
        test_cfg=dict(type="TestLoop"),
        test_evaluator=dict(type="ToyMean"),
    )
    cfg = tiny_config()
    cfg.model.backbone.pop("init_cfg", None)
    return DenseRunner(
        model=ConfigDict(cfg.model), work_dir=str(work_dir), default_scope="mmseg",
        default_hooks=dict(logger=None), experiment_name=f"{work_dir.name}_{trains}",
        **(training if trains else testing),
    )  # fmt: skip


class Messages(logging.Handler):
    """Collects what is logged by mmengine's current logger within a ``with`` block."""

    def __init__(self):
        super().__init__()
        self.texts = []

    def emit(self, record):
        self.texts.append(record.getMessage())

    def __enter__(self):
        self.logger = MMLogger.get_current_instance()
        self.logger.addHandler(self)
        return self.texts

    def __exit__(self, *_):
        self.logger.removeHandler(self)


class Ways:
    """The ways of loading a file; each returns the weights that were loaded, by name."""

    def __init__(self, folder):
        self.folder, self.cfg = folder, tiny_config()
        self.trainer, self.tester = (tiny_runner(folder, trains) for trains in (True, False))

    def load_model(self, path):
        return load_model(self.cfg, path).state_dict()

    def init_cfg(self, path, **settings):
        init_cfg = dict(type="Pretrained", checkpoint=str(path), **settings)
        backbone = GFNet(TINY, img_size=64, init_cfg=init_cfg)
        backbone.init_weights()
        return {f"backbone.{name}": tensor for name, tensor in backbone.state_dict().items()}

    def load_from(self, path):
        return self._run(self.trainer, path)

    def test(self, path):
        return self._run(self.tester, path)

    def _run(self, runner, path):
        for tensor in runner.model.state_dict().values():
            tensor.zero_()
        runner.load_checkpoint(str(path))
        return runner.model.state_dict()

    def publish(self, path):
        published = publish(path, self.folder / "published.pth")
        try:
            return read_checkpoint(published)["state_dict"]
        finally:
            published.unlink()


def renamed(state_dict, change):
    return {change(name): tensor for name, tensor in state_dict.items()}


def added(prefix):
    """Return a function that puts a prefix in front of all names of a state dict."""
    return lambda state_dict: renamed(state_dict, lambda name: f"{prefix}{name}")


def inserted(part, behind="backbone."):
    """Return a function that puts a part into names, behind another part."""
    return lambda state: renamed(state, lambda n: n.replace(behind, f"{behind}{part}"))
