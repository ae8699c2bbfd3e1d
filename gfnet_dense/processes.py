"""What several processes of one training must agree on."""

from pathlib import Path

from mmengine.config import Config
from mmengine.dist import all_gather_object, all_reduce_params
from mmengine.hooks import Hook
from mmengine.runner import Runner

from .errors import InputError


class AverageStatisticsHook(Hook):
    """Averages the statistics of batch norms over the processes after every step.

    For CPUs, which have no SyncBN: each process would evaluate a model of its own, and the
    checkpoint would hold that of the first.
    """

    priority = "ABOVE_NORMAL"  # behind FiniteLossHook, before the hook that saves checkpoints

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        buffers = [b for b in runner.model.buffers() if b.is_floating_point()]
        all_reduce_params(buffers, op="mean")


def check_same_start(cfg: Config) -> None:
    """Raise InputError unless all processes start from the same checkpoint.

    Those on a machine that does not share the folder with the checkpoints would begin anew, and
    spoil the training of the others.
    """
    start = Path(cfg.get("load_from") or "none").name if cfg.get("resume") else "the beginning"
    starts = all_gather_object(start)
    if len(set(starts)) > 1:
        raise InputError(
            f"the processes would start from {', '.join(starts)}: --resume needs a work dir that "
            "all machines share, or a copy of its last_checkpoint and the checkpoint on each"
        )
