"""Errors that name the image or annotation file that is broken."""

from mmengine.hooks import Hook
from mmengine.runner import Runner

from gfnet_dense.datasets.loading_guards import guard_pipeline
from gfnet_dense.registry import HOOKS


@HOOKS.register_module()
class CheckDataHook(Hook):
    """Hook that makes the loading of a broken image or annotation raise InputError with its path.

    See :func:`gfnet_dense.datasets.loading_guards.guard_pipeline`.
    """

    def before_train(self, runner: Runner) -> None:
        """Guard the datasets of training and validation."""
        guard_pipeline(runner.train_dataloader.dataset)
        if runner.val_loop is not None:
            guard_pipeline(runner.val_dataloader.dataset)

    def before_test(self, runner: Runner) -> None:
        """Guard the dataset of testing."""
        guard_pipeline(runner.test_dataloader.dataset)
