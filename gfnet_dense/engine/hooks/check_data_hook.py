"""Naming the file when an image or annotation is broken."""

from mmengine.hooks import Hook
from mmengine.runner import Runner

from gfnet_dense.datasets.loading_guards import guard_pipeline
from gfnet_dense.registry import HOOKS


@HOOKS.register_module()
class CheckDataHook(Hook):
    """Say in one sentence which image or label map is broken, when it is met."""

    def before_train(self, runner: Runner) -> None:
        guard_pipeline(runner.train_dataloader.dataset)
        if runner.val_loop is not None:
            guard_pipeline(runner.val_dataloader.dataset)

    def before_test(self, runner: Runner) -> None:
        guard_pipeline(runner.test_dataloader.dataset)
