"""A training of milliseconds with the real runner, a small network and a dataset of vectors."""

import copy

import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import DATASETS, METRICS, MODELS, OPTIM_WRAPPERS
from scipy.optimize import linear_sum_assignment
from torch import nn

from gfnet_dense.engine.runner.dense_runner import DenseRunner


@DATASETS.register_module()
class ToyNumbers:
    """A dataset of vectors with noise; the vectors of the indices ``broken`` are not finite."""

    def __init__(self, length=16, broken=(), noise=1, classes=None):
        self.length, self.broken, self.noise = length, broken, noise
        self.metainfo = {} if classes is None else {"classes": classes}

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        if index >= self.length:
            raise IndexError(index)
        numbers = torch.linspace(0, 1, 4) * index + self.noise * torch.rand(4)
        return {"inputs": numbers / 0 if index in self.broken else numbers}


@MODELS.register_module()
class ToyNet(BaseModel):
    """Linear layers and a batch norm; the loss or its gradient is not finite at given steps.

    Args:
        infinite_gradient_at: Training steps, counted from 1, at which the loss is finite and its
            gradient is not.
        infinite_loss_at: Training steps at which the gradient is finite and the loss is not.
        matches: Match the outputs by SciPy, which raises an error if they are not finite.
        loss_weight: Factor of the loss.
        frozen: Do not train the first layer.
    """

    def __init__(
        self, infinite_gradient_at=(), infinite_loss_at=(), matches=False, loss_weight=1.0,
        frozen=False,
    ):  # fmt: skip
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1)
        self.dropout = nn.Dropout(0.3)
        self.first.requires_grad_(not frozen)
        self.infinite_gradient_at, self.infinite_loss_at = infinite_gradient_at, infinite_loss_at
        self.matches, self.loss_weight, self.steps = matches, loss_weight, 0

    def forward(self, inputs, mode="tensor"):
        y = self.last(self.dropout(self.norm(self.first(torch.stack(list(inputs))))))
        if mode == "predict":
            return [dict(y=float(each)) for each in y]
        loss = self.loss_weight * (y - 1).square().mean()
        self.steps += mode == "loss"
        if self.steps in self.infinite_gradient_at:
            loss = loss + (loss * 0).sqrt()
        if self.steps in self.infinite_loss_at:
            loss = loss + float("inf")
        if self.matches:
            linear_sum_assignment(y.detach().numpy())
        return {"loss": loss}


@OPTIM_WRAPPERS.register_module()
class ToyScaler(OptimWrapper):
    """The steps of mmengine's AmpOptimWrapper, which needs a GPU, with the loss scaler of a CPU."""

    def __init__(self, init_scale=2.0**16, fixed_scale=None, growth=2.0, **kwargs):
        super().__init__(**kwargs)
        scale = fixed_scale or init_scale
        self.loss_scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_factor=growth)
        self._scale_update_param = fixed_scale

    def state_dict(self):
        return super().state_dict() | {"loss_scaler": self.loss_scaler.state_dict()}

    def load_state_dict(self, state_dict):
        if "loss_scaler" in state_dict:
            self.loss_scaler.load_state_dict(state_dict.pop("loss_scaler"))
        super().load_state_dict(state_dict)

    def backward(self, loss, **kwargs):
        self.loss_scaler.scale(loss).backward(**kwargs)
        self._inner_count += 1

    def step(self, **kwargs):
        self.loss_scaler.step(self.optimizer, **kwargs)
        self.loss_scaler.update(self._scale_update_param)


@METRICS.register_module()
class ToyMean(BaseMetric):
    """The mean of the predictions, and the negative of the mean."""

    def process(self, data_batch, data_samples):
        self.results += [sample["y"] for sample in data_samples]

    def compute_metrics(self, results):
        mean = sum(results) / len(results)
        return {"mean": mean, "negative": -mean}


def toy_runner(
    work_dir, max_iters=8, max_epochs=None, broken=(), model=None, resume=None, val=False,
    num_workers=0, shuffle=True, optim_wrapper=None, hooks=(), launcher="none",
    param_scheduler=None, batch_size=2, dataset=None, auto_scale_lr=None, text=False,
    val_interval=4, **checkpoint,
):  # fmt: skip
    """Build a runner that trains a ToyNet on ToyNumbers.

    Args:
        max_epochs: Train for this number of epochs instead of ``max_iters`` iterations.
        broken, shuffle, num_workers: Settings of the dataset and its loader.
        val: Validate as well.
        optim_wrapper: Further settings of the optimizer wrapper.
        hooks: Further custom hooks.
        param_scheduler: Schedulers in place of a PolyLR over 16 iterations.
        dataset: Further settings of the dataset.
        text: Write the text of the config into checkpoints.
        checkpoint: Settings of the checkpoint hook.
    """
    torch.manual_seed(0)
    if max_epochs is None:
        train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters)
        train_cfg["val_interval"] = val_interval
        sampler = "InfiniteSampler"
        checkpoint = dict(interval=2) | checkpoint
    else:
        train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=max_epochs)
        sampler = "DefaultSampler"
        checkpoint = dict(interval=1) | checkpoint
    checkpoint = dict(by_epoch=max_epochs is not None, max_keep_ckpts=1) | checkpoint
    checkpoint["type"] = "gfnet_dense.CheckpointHook"

    def loader(sampler, shuffle, **dataset):
        return dict(
            batch_size=batch_size, num_workers=num_workers,
            dataset=dict(type="ToyNumbers", **dataset),
            sampler=dict(type=sampler, shuffle=shuffle),
        )  # fmt: skip

    evaluation = {}
    if val:
        evaluation = dict(
            val_dataloader=loader("DefaultSampler", False, noise=0),
            val_cfg=dict(type="ValLoop"),
            val_evaluator=dict(type="ToyMean"),
        )
    if param_scheduler is None:
        param_scheduler = dict(type="PolyLR", by_epoch=False, begin=0, end=16)
    settings = dict(
        model=dict(type="ToyNet") | (model or {}),
        work_dir=str(work_dir),
        experiment_name=f"toy_{toy_runner.count}",  # loggers and message hubs are global, by name
        train_dataloader=loader(sampler, shuffle, broken=broken, **(dataset or {})),
        train_cfg=train_cfg,
        optim_wrapper=dict(optimizer=dict(type="AdamW", lr=0.01)) | (optim_wrapper or {}),
        param_scheduler=param_scheduler,
        auto_scale_lr=auto_scale_lr,
        default_hooks=dict(checkpoint=checkpoint, logger=None),
        custom_hooks=[dict(type="gfnet_dense.FiniteLossHook", patience=3), *hooks],
        randomness=dict(seed=1),
        launcher=launcher,
        load_from=str(resume) if resume else None,
        resume=bool(resume),
        **evaluation,
    )
    if text:
        settings["cfg"] = Config(copy.deepcopy(settings))
    runner = DenseRunner(**settings)
    toy_runner.count += 1
    return runner


toy_runner.count = 0
