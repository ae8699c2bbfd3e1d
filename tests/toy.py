"""A training of milliseconds by the real runner: a small net, a dataset of numbers."""

import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS, MODELS
from torch import nn

from gfnet_dense.runner import DenseRunner


@DATASETS.register_module()
class ToyNumbers:
    """Vectors, in training with noise; those of some indices are not finite."""

    metainfo = {}

    def __init__(self, length=16, broken=(), noise=1):
        self.length, self.broken, self.noise = length, broken, noise

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        if index >= self.length:
            raise IndexError(index)
        numbers = torch.linspace(0, 1, 4) * index + self.noise * torch.rand(4)
        return {"inputs": numbers / 0 if index in self.broken else numbers}


@MODELS.register_module()
class ToyNet(BaseModel):
    def __init__(self, infinite_gradient_at=None):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1)
        self.dropout = nn.Dropout(0.3)
        self.infinite_gradient_at, self.steps = infinite_gradient_at, 0

    def forward(self, inputs, mode="tensor"):
        y = self.last(self.dropout(self.norm(self.first(torch.stack(list(inputs))))))
        if mode == "predict":
            return [dict(y=float(each)) for each in y]
        loss = (y - 1).square().mean()
        self.steps += mode == "loss"
        if self.steps == self.infinite_gradient_at:
            loss = loss + (loss * 0).sqrt()  # finite, its gradient is not
        return {"loss": loss}


@METRICS.register_module()
class ToyMean(BaseMetric):
    """The mean of what is predicted."""

    def process(self, data_batch, data_samples):
        self.results += [sample["y"] for sample in data_samples]

    def compute_metrics(self, results):
        return {"mean": sum(results) / len(results)}


def toy_runner(
    work_dir, max_iters=8, broken=(), model=None, resume=None, val=False, num_workers=0, **hook
):
    """Build a runner; ``hook`` are settings of the checkpoints."""
    torch.manual_seed(0)
    checkpoint = dict(type="gfnet_dense.CheckpointHook", by_epoch=False, interval=2)
    checkpoint |= dict(max_keep_ckpts=1) | hook

    def loader(sampler, shuffle, **dataset):
        return dict(
            batch_size=2, num_workers=num_workers, dataset=dict(type="ToyNumbers", **dataset),
            sampler=dict(type=sampler, shuffle=shuffle),
        )  # fmt: skip

    evaluation = {}
    if val:
        evaluation = dict(
            val_dataloader=loader("DefaultSampler", False, noise=0),
            val_cfg=dict(type="ValLoop"),
            val_evaluator=dict(type="ToyMean"),
        )
    runner = DenseRunner(
        model=dict(type="ToyNet", **(model or {})),
        work_dir=str(work_dir),
        experiment_name=f"toy_{toy_runner.count}",  # loggers and message hubs are global, by name
        train_dataloader=loader("InfiniteSampler", True, broken=broken),
        train_cfg=dict(type="IterBasedTrainLoop", max_iters=max_iters, val_interval=4),
        optim_wrapper=dict(optimizer=dict(type="AdamW", lr=0.01)),
        param_scheduler=dict(type="PolyLR", by_epoch=False, begin=0, end=16),
        default_hooks=dict(checkpoint=checkpoint, logger=None),
        custom_hooks=[dict(type="gfnet_dense.FiniteLossHook", patience=3)],
        randomness=dict(seed=1),
        load_from=str(resume) if resume else None,
        resume=bool(resume),
        **evaluation,
    )
    toy_runner.count += 1
    return runner


toy_runner.count = 0
