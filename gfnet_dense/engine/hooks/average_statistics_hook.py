"""Averaging batch norm statistics over the processes of a distributed run on CPUs."""

from mmengine.dist import all_reduce_params
from mmengine.hooks import Hook
from mmengine.runner import Runner


class AverageStatisticsHook(Hook):
    """Averages the statistics of batch norms over the processes after every step.

    For CPUs, which have no SyncBN: each process would evaluate a model of its own, and the
    checkpoint would hold that of the first.
    """

    priority = "ABOVE_NORMAL"  # behind FiniteLossHook, before the hook that saves checkpoints

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        buffers = [b for b in runner.model.buffers() if b.is_floating_point()]
        all_reduce_params(buffers, op="mean")
