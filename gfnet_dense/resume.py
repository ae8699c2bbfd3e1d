"""Trainings that are interrupted at any moment, and go on with nothing lost."""

from collections import deque
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook as MMEngineCheckpointHook
from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop, Runner

from .checkpoints import read_checkpoint
from .errors import InputError
from .registry import HOOKS

LAST_CHECKPOINT = "last_checkpoint"  # mmengine's name for the file that names the newest one


# In the message hub, which checkpoints hold:
VALIDATED = "validated_at"  # how far the training was at the last validation
NOT_FINITE = "not_finite"  # how many losses in a row were not, until now; of FiniteLossHook


@HOOKS.register_module()
class CheckpointHook(MMEngineCheckpointHook):
    """mmengine's, whose old checkpoints go when the new ones are whole.

    It removes the oldest checkpoint, and the best one so far, before it writes another. A training
    that was interrupted between a checkpoint and the validation behind it goes on with that
    validation. While losses are not finite no checkpoint is written; the one that is due comes
    when they are again.
    """

    is_due = False

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        loop = runner.train_loop
        done, end = _progress(runner)
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
        if self.is_due and not runner.message_hub.get_info(NOT_FINITE) and not self.by_epoch:
            self._save_checkpoint(runner)

    def _save_checkpoint(self, runner: Runner) -> None:
        self.is_due = bool(runner.message_hub.get_info(NOT_FINITE))
        if self.is_due:
            runner.logger.warning("the checkpoint is not written while losses are not finite")
            return
        super()._save_checkpoint(runner)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        keep = self.max_keep_ckpts
        if keep <= 0:
            super()._save_checkpoint_with_step(runner, step, meta)
            return
        steps = [*(each for each in self.keep_ckpt_ids if each != step), step]
        self.keep_ckpt_ids = deque(steps[-keep:], keep)
        runner.message_hub.update_info("keep_ckpt_ids", steps[-keep:])
        self.max_keep_ckpts = -1  # nothing to remove for it
        try:
            super()._save_checkpoint_with_step(runner, step, meta)
        finally:
            self.max_keep_ckpts = keep
        for old in steps[:-keep]:
            _remove(Path(self.out_dir, self.filename_tmpl.format(old)))

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        if not hasattr(self, "best_ckpt_path"):  # none is kept, or one for each of several metrics
            super()._save_best_checkpoint(runner, metrics)
            return
        old, self.best_ckpt_path = self.best_ckpt_path, None  # nothing to remove for it
        try:
            super()._save_best_checkpoint(runner, metrics)
        finally:
            new = self.best_ckpt_path
            self.best_ckpt_path = new or old
        if old and new and new != old:
            _remove(Path(old))


def _progress(runner: Runner) -> tuple[int, int]:
    """Return how far a training is, and its end: in epochs or iterations, as its loop counts."""
    loop = runner.train_loop
    if isinstance(loop, EpochBasedTrainLoop):
        return loop.epoch, loop.max_epochs
    return loop.iter, loop.max_iters


def _remove(path: Path) -> None:
    if is_main_process():
        path.unlink(missing_ok=True)


def newest_checkpoint(work_dir: Path) -> tuple[Path, dict] | None:
    """Return the newest whole checkpoint of a training, with what it holds.

    It is the one that ``last_checkpoint`` names; where that is missing, torn or damaged, the one
    that was written last and can be read.

    Returns:
        Its path and its content, None if there is no checkpoint.

    Raises:
        InputError: If there are checkpoints but none can be read.
    """
    files = [p for name in ("iter_*.pth", "epoch_*.pth") for p in work_dir.glob(name)]
    files.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    pointer = work_dir / LAST_CHECKPOINT
    if pointer.is_file():
        named = Path(pointer.read_text(errors="replace").strip())
        named = named if named.is_file() else work_dir / named.name  # the folder was moved
        if named.is_file():
            files = [named, *(path for path in files if path != named)]
    reasons = []
    for path in files:
        try:
            return path, read_checkpoint(path)
        except InputError as e:
            reasons.append(str(e))
            print_log(f"left out: {e}", logger="current")
    if reasons:
        raise InputError(
            f"nothing to resume from: of {len(files)} checkpoints in {work_dir} none can be read "
            f"({reasons[0]}); without --resume the training starts anew"
        )
    return None
