"""Run inputs of many shapes in one process: python -m tests.torture.soak KIND ROUNDS [leak]

Prints as JSON the resident memory in MiB after each round, the numbers of open files and child
processes, and the number of cached filters. With "leak" it keeps all results, to show that the test
notices a leak.
"""

import copy
import json
import logging
import os
import random
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS

from gfnet_dense import api, cli
from gfnet_dense.apis.inference import predict
from gfnet_dense.demo import shrink
from gfnet_dense.engine.runner.dense_runner import DenseRunner
from gfnet_dense.models import GFNet
from gfnet_dense.models.layers.global_filter import GlobalFilter
from tests.conftest import ROOT, TINY


class Log:
    """Measurements after each round.

    Attributes:
        memory: Resident memory in MiB.
        files: Numbers of open files, after a third of the rounds and at the end.
        children: Numbers of child processes that have not ended, at the same times.
    """

    def __init__(self, rounds: int, leaks: bool):
        self.rounds, self.kept = rounds, [] if leaks else None
        self.memory, self.files, self.children = [], [], []

    def add(self, result) -> None:
        if self.kept is not None:
            self.kept.append([result, copy.deepcopy(result), copy.deepcopy(result)])
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.memory.append(round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1))
        if len(self.memory) in (self.rounds // 3, self.rounds):
            self.files.append(len(os.listdir("/proc/self/fd")))
            children = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
            self.children.append(len(children.split()))


def predicting(log: Log) -> torch.nn.Module:
    """Predict images of random sizes with a segmentor, as tools/infer.py does."""
    cfg = cli.read_config(ROOT / "configs" / "fpn_gfnet-h-ti_ade20k.py")
    shrink(cfg)
    cfg.model.backbone.arch = TINY
    cfg.model.neck.in_channels = list(TINY["dims"])
    model = api.load_model(cfg, None)
    rng = np.random.default_rng(0)
    images = (
        rng.integers(0, 256, (*rng.integers(32, 257, 2), 3), np.uint8) for _ in range(log.rounds)
    )
    for sample in predict(model, images):
        log.add(sample)
    return model


@DATASETS.register_module()
class SoakImages:
    """Images of random sizes."""

    metainfo = {}

    def __len__(self):
        return 10**6

    def __getitem__(self, index):
        rng = random.Random(index)
        return {"inputs": torch.rand(3, rng.randint(32, 256), rng.randint(32, 256))}


@MODELS.register_module()
class SoakNet(BaseModel):
    def __init__(self):
        super().__init__()
        self.backbone = GFNet(TINY, img_size=64)

    def forward(self, inputs, mode="tensor"):
        return {"loss": sum(x.square().mean() for x in self.backbone(torch.stack(list(inputs))))}


class SoakHook(Hook):
    priority = "LOWEST"

    def __init__(self, log):
        self.log = log

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.log.add(data_batch)


def training(log: Log) -> torch.nn.Module:
    """Train with the runner, its data loader and hooks, and a checkpoint every 50 iterations."""
    with tempfile.TemporaryDirectory() as folder:
        runner = DenseRunner(
            model=dict(type="SoakNet"),
            work_dir=folder,
            train_dataloader=dict(
                batch_size=1,
                num_workers=1,
                dataset=dict(type="SoakImages"),
                sampler=dict(type="InfiniteSampler", shuffle=True),
            ),
            train_cfg=dict(type="IterBasedTrainLoop", max_iters=log.rounds),
            optim_wrapper=dict(optimizer=dict(type="AdamW", lr=1e-4)),
            default_hooks=dict(
                checkpoint=dict(
                    type="gfnet_dense.CheckpointHook",
                    by_epoch=False,
                    interval=50,
                    max_keep_ckpts=1,
                )
            ),
            custom_hooks=[dict(type="gfnet_dense.FiniteLossHook")],
            randomness=dict(seed=0),
        )
        runner.register_hook(SoakHook(log))
        runner.train()
        logging.shutdown()
    return runner.model


def evaluating_h_tiny(log: Log) -> torch.nn.Module:
    """Run GFNet-H-Ti, with filters stored for 224, without gradients on images of varying size."""
    model, rng = GFNet("h-tiny").eval(), random.Random(0)
    for _ in range(log.rounds):
        with torch.no_grad():
            log.add(model(torch.rand(1, 3, rng.randint(256, 512), rng.randint(256, 736))))
    return model


def training_h_tiny(log: Log) -> torch.nn.Module:
    """Train GFNet-H-Ti, with filters stored for 224, on images of varying size."""
    model, rng = GFNet("h-tiny").train(), random.Random(0)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    for _ in range(log.rounds):
        maps = model(torch.rand(1, 3, rng.randint(256, 512), rng.randint(256, 736)))
        sum(x.mean() for x in maps).backward()
        optimizer.step()
        optimizer.zero_grad()
        log.add([x.detach() for x in maps])
        del maps
    return model


KINDS = {f.__name__: f for f in (predicting, training, evaluating_h_tiny, training_h_tiny)}


def main(kind: str, rounds: int, leaks: bool) -> None:
    cli.quiet_third_party()
    log = Log(rounds, leaks)
    model = KINDS[kind](log)
    caches = [len(m._cache) for m in model.modules() if isinstance(m, GlobalFilter)]
    found = {key: value for key, value in vars(log).items() if key != "kept"}
    print(json.dumps(found | {"filters": max(caches), "limit": GlobalFilter.CACHE_SIZE}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), leaks="leak" in sys.argv[3:])
