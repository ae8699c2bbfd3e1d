"""Saving a checkpoint when somebody asks for it, such as a signal of a scheduler.

A training that is asked to stop loses no iteration: it saves when the running one has ended.
"""

from typing import Any

import torch
import torch.distributed
from mmengine.dist import is_distributed, is_main_process
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner

from .checkpoint_hook import CheckpointHook, waits_for_step

SAVE, STOP = 1, 2  # the kinds of requests; the greater one holds


class Stopped(BaseException):
    """Raised to end a training on request; like KeyboardInterrupt it is no Exception."""


class SaveRequestHook(Hook):
    """Hook that saves a checkpoint at the end of the running iteration if one was requested.

    It is saved by the CheckpointHook of this project, where there is one. As other checkpoints it
    waits while losses are not finite, and until accumulated gradients have been applied. All
    processes of a distributed training save at the same iteration, whichever got the request.
    """

    priority = "VERY_HIGH"  # before the hooks that exchange the weights for a validation

    wanted = 0
    has_begun = False  # whether an iteration has been trained
    is_whole = False  # whether the state of the training is that between two iterations
    is_validating = False
    group: Any = None  # processes that communicate by gloo, which needs no GPU to be idle

    def request(self, stop: bool) -> None:
        """Ask for a checkpoint; a signal handler may call this method.

        Args:
            stop: Whether the training stops then.

        Raises:
            Stopped: If it stops at once: during a validation, since no iteration is running, or
                before the first iteration.
        """
        self.wanted = max(self.wanted, STOP if stop else SAVE)
        if stop and (not self.has_begun or (self.is_validating and self.is_whole)):
            raise Stopped

    def before_train(self, runner: Runner) -> None:
        """Wrap the iterations of the loops."""
        if is_distributed() and torch.distributed.get_backend() != "gloo":
            self.group = torch.distributed.new_group(backend="gloo")
        train, val = runner.train_loop, runner.val_loop
        train_iter = train.run_iter

        def train_one(*args: Any) -> None:
            self.is_whole, self.has_begun = False, True
            train_iter(*args)  # with all hooks, and the count of iterations
            self.is_whole = True
            self._answer(runner)

        train.run_iter = train_one
        if val is None:
            return
        val_iter = val.run_iter

        def val_one(*args: Any) -> None:
            self.is_whole = self.has_begun
            if self.wanted == STOP:
                raise Stopped
            val_iter(*args)

        val.run_iter = val_one

    def before_train_epoch(self, runner: Runner) -> None:
        """Note that the epoch before, if any, is counted."""
        self.is_whole = self.has_begun

    def after_train_epoch(self, runner: Runner) -> None:
        """Note that schedulers of epochs make a step now, and that the epoch is not counted."""
        self.is_whole = False

    def before_val_epoch(self, runner: Runner) -> None:
        """Note that hooks may exchange the weights now."""
        self.is_whole, self.is_validating = False, True

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Note that hooks may exchange the weights now."""
        self.is_whole = False

    def after_val(self, runner: Runner) -> None:
        """Note that the weights are the trained ones again."""
        self.is_whole, self.is_validating = self.has_begun, False

    def save_if_whole(self, runner: Runner) -> None:
        """Save the state of a training that something has ended between two iterations.

        The main process saves alone, since the others may have ended already.
        """
        if not self.is_whole or not is_main_process():
            return
        if self.is_validating:
            for hook in runner.hooks:
                if isinstance(hook, EMAHook):
                    hook.after_val_epoch(runner)  # puts the trained weights back
        self.is_whole = False
        _save(runner, alone=True)

    def _answer(self, runner: Runner) -> None:
        wanted = torch.tensor(self.wanted)
        if is_distributed():
            torch.distributed.all_reduce(wanted, torch.distributed.ReduceOp.MAX, self.group)
        if not wanted or waits_for_step(runner):
            return
        name = _save(runner)
        if wanted == STOP:
            raise Stopped
        self.wanted = 0
        runner.logger.info(f"{name or 'no checkpoint'} was saved on request; the training goes on")


def _save(runner: Runner, alone: bool = False) -> str | None:
    """Save a checkpoint of the last iteration, unless there is one, and return its name."""
    hook = next((each for each in runner.hooks if isinstance(each, CheckpointHook)), None)
    return None if hook is None or waits_for_step(runner) else hook.save_now(runner, alone)
