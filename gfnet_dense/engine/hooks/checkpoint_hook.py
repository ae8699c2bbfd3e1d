"""Checkpoints of a training that may be interrupted at any moment.

Private names of mmengine's CheckpointHook, loops and OptimWrapper are used here, as seen in
onedl-mmengine 0.10.12.
"""

import re
from collections import deque
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.evaluator import Evaluator
from mmengine.hooks import CheckpointHook as MMEngineCheckpointHook
from mmengine.runner import EpochBasedTrainLoop, Runner

from gfnet_dense.engine.settings import optim_wrappers
from gfnet_dense.engine.state_keys import (
    LAST_CHECKPOINT,
    NONE_YET,
    NOT_FINITE,
    REQUESTED,
    VALIDATED,
)
from gfnet_dense.registry import HOOKS
from gfnet_dense.utils.errors import InputError


@HOOKS.register_module()
class CheckpointHook(MMEngineCheckpointHook):
    """mmengine's CheckpointHook for trainings that may be interrupted at any moment.

    It differs from mmengine's hook in five ways:

    - An old checkpoint is removed after the new one is complete, not before it is written.
    - A resumed training first runs the validation that is due at its checkpoint, if the training
      was interrupted before that validation had ended.
    - A checkpoint waits while losses are not finite, and until the gradients that an optimizer
      accumulates have been applied. Only checkpoints of iterations wait, and not at the last
      iteration.
    - :meth:`save_now` saves a checkpoint out of turn. It is counted like the others; where
      checkpoints are those of epochs, it is removed when the next one is complete.
    - A figure of ``save_best`` that no evaluator can have is refused before the training. One that
      a validation lacks, perhaps since nothing was detected, is a warning, and no KeyError.
    """

    is_due = False  # whether a checkpoint waits to be written
    last_ckpt: str | None
    best_ckpt_path: str | None
    key_indicators: list[str]
    filename_tmpl: str
    max_keep_ckpts: int
    keep_ckpt_ids: deque[int]
    file_backend: Any

    def before_train(self, runner: Runner) -> None:
        """Run the validation that was due when the training was interrupted.

        Raises:
            InputError: If no evaluator has the figures of ``save_best``.
        """
        super().before_train(runner)
        self._check_best(runner)
        self._forget_best_of_another_metric(runner)
        loop = runner.train_loop
        done, end = _progress(runner)
        if done == 0 and is_main_process():
            # Checkpoints that are in the folder already belong to another training.
            Path(runner.work_dir, LAST_CHECKPOINT).write_text(NONE_YET)
        loop._decide_current_val_interval()
        due = done > 0 and (done % loop.val_interval == 0 or done == end)
        if runner.val_loop is None or done < loop.val_begin or not due:
            return
        if runner.message_hub.get_info(VALIDATED) != done:
            # If this validation is the best one, mmengine writes the last checkpoint again.
            self.last_ckpt = runner.message_hub.get_info("last_ckpt")
            runner.val_loop.run()

    def _check_best(self, runner: Runner) -> None:
        """Raise InputError if ``save_best`` begins with the prefix of no evaluator."""
        evaluator = getattr(runner.val_loop, "evaluator", None)
        # Other evaluators, such as mmdetection's for several datasets, have names of their own.
        if not self.save_best or evaluator is None or type(evaluator) is not Evaluator:
            return
        prefixes = [metric.prefix for metric in evaluator.metrics]
        if not all(prefixes):  # the names of a metric without prefix are only known later
            return
        for key in self.key_indicators:
            if key != "auto" and not any(key.startswith(f"{prefix}/") for prefix in prefixes):
                raise InputError(
                    f"save_best of the CheckpointHook is {key}, but the figures of the "
                    f"val_evaluator begin with {' or '.join(f'{each}/' for each in prefixes)}: set "
                    "default_hooks.checkpoint.save_best to one of them, or to 'auto'"
                )

    def _forget_best_of_another_metric(self, runner: Runner) -> None:
        """Begin anew with the best score: mmengine keeps a single one without the metric's name."""
        path = getattr(self, "best_ckpt_path", None)
        if not path or self.key_indicators == ["auto"]:
            return
        metric = self.key_indicators[0]
        if not Path(path).name.startswith(f"best_{metric.replace('/', '_')}_"):
            runner.logger.warning(
                f"the best checkpoint is now searched for by {metric}; {path} stays, the best "
                "until now by another metric"
            )
            self.best_ckpt_path = None
            for key in ("best_ckpt", "best_score"):
                runner.message_hub.runtime_info.pop(key, None)

    def after_val_epoch(self, runner: Runner, metrics: dict) -> None:
        """Note in the message hub how far the training was, and save the best checkpoint."""
        runner.message_hub.update_info(VALIDATED, _progress(runner)[0])
        super().after_val_epoch(runner, metrics)

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Save a checkpoint that is due at this iteration, or that has waited."""
        super().after_train_iter(runner, *args, **kwargs)
        if self.is_due:
            self._save_checkpoint(runner)

    def save_now(self, runner: Runner, alone: bool = False) -> str:
        """Save a checkpoint between two iterations, unless the last one has a checkpoint.

        Args:
            runner: The runner of the training.
            alone: Whether the main process saves without the others, which may have ended.

        Returns:
            Name of the checkpoint.
        """
        step, meta = runner.iter, dict(epoch=runner.epoch, iter=runner.iter)
        name = self.filename_tmpl.format(step) if not self.by_epoch else f"iter_{step}.pth"
        if Path(self.last_ckpt or "").name == name:
            return name
        runner.saves_alone = alone
        if not self.by_epoch:
            self._save_checkpoint_with_step(runner, step, meta)
            return name
        runner.message_hub.update_info(REQUESTED, name)
        template, self.filename_tmpl = self.filename_tmpl, "iter_{}.pth"
        keep, self.max_keep_ckpts = self.max_keep_ckpts, -1  # it is none of the counted ones
        try:
            super()._save_checkpoint_with_step(runner, step, meta)
        finally:
            self.filename_tmpl, self.max_keep_ckpts = template, keep
        return name

    def _save_checkpoint(self, runner: Runner) -> None:
        can_wait = not self.by_epoch and not self.is_last_train_iter(runner)
        is_bad = bool(runner.message_hub.get_info(NOT_FINITE))
        if is_bad and can_wait and not self.is_due:
            runner.logger.warning("no checkpoint is written until losses are finite again")
        self.is_due = can_wait and waits_for_step(runner)
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
        requested = str(runner.message_hub.get_info(REQUESTED))
        if self.by_epoch and re.fullmatch(r"iter_\d+\.pth", requested):
            _remove(Path(self.out_dir, requested))
            runner.message_hub.update_info(REQUESTED, "")

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        if self.save_best:
            missing = [key for key in self.key_indicators if key not in ("auto", *metrics)]
            if missing:
                runner.logger.warning(
                    f"the validation has no {' and no '.join(missing)}, by which save_best chooses "
                    f"the best checkpoint, but {', '.join(metrics)}"
                )
            metrics = {**metrics, **dict.fromkeys(missing)}  # mmengine skips None
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


def waits_for_step(runner: Runner) -> bool:
    """Return whether losses are not finite, or accumulated gradients wait for a step.

    Checkpoints do not hold gradients.
    """
    return bool(runner.message_hub.get_info(NOT_FINITE)) or _accumulates(runner)


def _accumulates(runner: Runner) -> bool:
    for wrapper in optim_wrappers(runner).values():
        counts = getattr(wrapper, "_accumulative_counts", 1)
        if counts > 1 and wrapper._inner_count % counts != 0:
            return True
    return False


def _remove(path: Path) -> None:
    if is_main_process():
        path.unlink(missing_ok=True)
