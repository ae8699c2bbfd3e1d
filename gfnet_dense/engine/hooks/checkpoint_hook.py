"""Trainings that are interrupted at any moment, and go on with nothing lost."""

from collections import deque
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook as MMEngineCheckpointHook
from mmengine.runner import EpochBasedTrainLoop, Runner

from gfnet_dense.engine.state_keys import LAST_CHECKPOINT, NONE_YET, NOT_FINITE, VALIDATED
from gfnet_dense.registry import HOOKS


@HOOKS.register_module()
class CheckpointHook(MMEngineCheckpointHook):
    """mmengine's, whose old checkpoints go when the new ones are whole.

    It removes the oldest checkpoint, and the best one so far, before it writes another. A training
    that was interrupted between a checkpoint and the validation behind it goes on with that
    validation. A checkpoint that is due while losses are not finite, or between two steps of an
    optimizer that accumulates gradients, is written when they are, and at the step, if it is one
    of iterations and not the last.
    """

    is_due = False

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        loop = runner.train_loop
        done, end = _progress(runner)
        if done == 0 and is_main_process():
            # Whatever else is in the folder is of another training.
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
            self.last_ckpt = runner.message_hub.get_info("last_ckpt")  # to be written again if best
            runner.val_loop.run()

    def after_val_epoch(self, runner: Runner, metrics: dict) -> None:
        runner.message_hub.update_info(VALIDATED, _progress(runner)[0])
        super().after_val_epoch(runner, metrics)

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
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
        # With those that go: if the training is killed before they have, resuming removes them.
        runner.message_hub.update_info("keep_ckpt_ids", steps)
        self.max_keep_ckpts = -1  # nothing to remove for it
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
            if name.startswith("best_"):  # whatever a checkpoint says
                # The path may be of a folder that this one is a copy of.
                _remove(Path(self.out_dir, name))


class _LateRemovals:
    """A file backend that only notes what is to be removed."""

    def __init__(self, backend):
        self.backend, self.removed = backend, []

    def remove(self, path: str) -> None:
        self.removed.append(path)

    def rmtree(self, path: str) -> None:
        """Leave folders alone: what this project writes are files."""

    def __getattr__(self, name: str):
        return getattr(self.backend, name)


def _progress(runner: Runner) -> tuple[int, int]:
    """Return how far a training is, and its end: in epochs or iterations, as its loop counts."""
    loop = runner.train_loop
    if isinstance(loop, EpochBasedTrainLoop):
        return loop.epoch, loop.max_epochs
    return loop.iter, loop.max_iters


def _accumulates(runner: Runner) -> bool:
    """Tell whether gradients wait for the next step, which no checkpoint holds."""
    wrapper = runner.optim_wrapper
    counts = getattr(wrapper, "_accumulative_counts", 1)
    return counts > 1 and wrapper._inner_count % counts != 0


def _remove(path: Path) -> None:
    if is_main_process():
        path.unlink(missing_ok=True)
