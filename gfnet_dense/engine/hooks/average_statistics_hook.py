"""Averaging of batch norm statistics over the processes of a distributed training on CPUs."""

from typing import Any

from mmengine.dist import all_reduce_params
from mmengine.hooks import Hook
from mmengine.runner import Runner


class AverageStatisticsHook(Hook):
    """Hook that averages the batch norm statistics over all processes after every iteration.

    PyTorch has SyncBatchNorm for GPUs only. Without it each process has statistics of its own:
    each would validate another model, and checkpoints would hold the statistics of the first one.

    mmengine's SyncBuffersHook is not enough: it averages at the end of an epoch and before a
    validation. A training that counts iterations saves its checkpoints before that.
    """

    priority = "ABOVE_NORMAL"  # after FiniteLossHook, before CheckpointHook

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Average all floating point buffers of the model in place."""
        buffers = [b for b in runner.model.buffers() if b.is_floating_point()]
        all_reduce_params(buffers, op="mean")
