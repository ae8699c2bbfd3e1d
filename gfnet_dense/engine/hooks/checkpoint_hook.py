"""Checkpoints of a training that may be interrupted at any moment.

Private names of mmengine's CheckpointHook, loops and OptimWrapper are used here, as seen in
onedl-mmengine 0.10.12.
"""

from collections import deque
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook as MMEngineCheckpointHook
from mmengine.runner import EpochBasedTrainLoop, Runner

from gfnet_dense.engine.state_keys import LAST_CHECKPOINT, NONE_YET, NOT_FINITE, VALIDATED
from gfnet_dense.registry import HOOKS


@HOOKS.register_module()
class CheckpointHook(MMEngineCheckpointHook):
    """mmengine's CheckpointHook for trainings that may be interrupted at any moment.

    It differs from mmengine's hook in three ways:

    - An old checkpoint is removed after the new one is complete, not before it is written.
    - A resumed training first runs the validation that is due at its checkpoint, if the training
      was interrupted before that validation had ended.
    - A checkpoint waits while losses are not finite, and until the gradients that an optimizer
      accumulates have been applied. Only checkpoints of iterations wait, and not at the last
      iteration.
    """

    is_due = False  # whether a checkpoint waits to be written
    max_keep_ckpts: int
    keep_ckpt_ids: deque[int]
    file_backend: Any

    def before_train(self, runner: Runner) -> None:
        """Run the validation that was due when the training was interrupted."""
        super().before_train(runner)
        loop = runner.train_loop
        done, end = _progress(runner)
        if done == 0 and is_main_process():
            # Checkpoints that are in the folder already belong to another training.
            Path(runner.work_dir, LAST_CHECKPOINT).write_text(NONE_YET)
        if isinstance(loop, EpochBasedTrainLoop) and not self.by_epoch:
            runner.logger.warning(
                "checkpoints within an epoch: a training resumed from one repeats the whole epoch"
            )
        loop._decide_current_val_interval()
        due = done > 0 and (done % loop.val_interval == 0 or done == end)
        if runner.val_loop is None or done < loop.val_begin or not due:
            return
        if runner.message_hub.get_info(VALIDATED) != done:
            # If this validation is the best one, mmengine writes the last checkpoint again.
            self.last_ckpt = runner.message_hub.get_info("last_ckpt")
            runner.val_loop.run()

    def after_val_epoch(self, runner: Runner, metrics: dict) -> None:
        """Note in the message hub how far the training was, and save the best checkpoint."""
        runner.message_hub.update_info(VALIDATED, _progress(runner)[0])
        super().after_val_epoch(runner, metrics)

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Save a checkpoint that is due at this iteration, or that has waited."""
        super().after_train_iter(runner, *args, **kwargs)
        if self.is_due:
            self._save_checkpoint(runner)

    def _save_checkpoint(self, runner: Runner) -> None:
        can_wait = not self.by_epoch and not self.is_last_train_iter(runner)
        is_bad = bool(runner.message_hub.get_info(NOT_FINITE))
        if is_bad and can_wait and not self.is_due:
            runner.logger.warning("no checkpoint is written until losses are finite again")
        self.is_due = can_wait and (is_bad or _accumulates(runner))
        if not self.is_due:
            super()._save_checkpoint(runner)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        keep = self.max_keep_ckpts
        if keep <= 0:
            super()._save_checkpoint_with_step(runner, step, meta)
            return
        steps = [*(each for each in self.keep_ckpt_ids if each != step), step]
        self.keep_ckpt_ids = deque(steps[-keep:], keep)
        # The stored list includes the checkpoints that are removed below. If the training is
        # killed before they are, mmengine removes them when the training is resumed.
        runner.message_hub.update_info("keep_ckpt_ids", steps)
        self.max_keep_ckpts = -1  # mmengine then removes nothing itself
        try:
            super()._save_checkpoint_with_step(runner, step, meta)
        finally:
            self.max_keep_ckpts = keep
        for old in steps[:-keep]:
            _remove(Path(self.out_dir, self.filename_tmpl.format(old)))

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        backend, self.file_backend = self.file_backend, _LateRemovals(self.file_backend)
        removed = self.file_backend.removed
        try:
            super()._save_best_checkpoint(runner, metrics)
        finally:
            self.file_backend = backend
        best = getattr(self, "best_ckpt_path_dict", {"": getattr(self, "best_ckpt_path", None)})
        kept = {Path(path).name for path in best.values() if path}
        for name in {Path(path).name for path in removed} - kept:
            # The paths come from a checkpoint, which may name any file.
            if name.startswith("best_"):
                # If the work dir is a copy, the paths point to the original.
                _remove(Path(self.out_dir, name))


class _LateRemovals:
    """File backend that collects the paths of files to remove, and removes none."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.removed: list[str] = []

    def remove(self, path: str) -> None:
        self.removed.append(path)

    def rmtree(self, path: str) -> None:
        """Do nothing: DenseRunner writes checkpoints as files, so a folder is not one of them."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)


def _progress(runner: Runner) -> tuple[int, int]:
    """Return the progress of a training and its end, in the unit of its loop.

    The unit is epochs for an EpochBasedTrainLoop, else iterations.
    """
    loop = runner.train_loop
    if isinstance(loop, EpochBasedTrainLoop):
        return loop.epoch, loop.max_epochs
    return loop.iter, loop.max_iters


def _accumulates(runner: Runner) -> bool:
    """Return whether accumulated gradients wait for a step; checkpoints do not hold gradients."""
    wrapper = runner.optim_wrapper
    counts = getattr(wrapper, "_accumulative_counts", 1)
    return counts > 1 and wrapper._inner_count % counts != 0


def _remove(path: Path) -> None:
    if is_main_process():
        path.unlink(missing_ok=True)
