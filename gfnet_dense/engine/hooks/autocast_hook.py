"""Mixed precision of a test."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from gfnet_dense.registry import HOOKS
from gfnet_dense.utils.amp import autocast


@HOOKS.register_module()
class AutocastHook(Hook):
    """Hook that tests a model in mixed precision.

    mmengine's ``test_cfg=dict(fp16=True)`` knows the default dtype of the device alone.

    Args:
        amp: See :func:`gfnet_dense.utils.amp.amp_dtype`.
    """

    def __init__(self, amp: str) -> None:
        self.amp = amp

    def before_test(self, runner: Runner) -> None:
        """Wrap the model's ``test_step``.

        Raises:
            InputError: If the device has no such dtype.
        """
        model = runner.model
        self.test_step = test_step = model.test_step
        with autocast(model, self.amp):  # raises what is wrong before the first image is loaded
            pass

        def autocasting(data: Any) -> Any:
            with autocast(model, self.amp):
                return test_step(data)

        model.test_step = autocasting

    def after_test(self, runner: Runner) -> None:
        """Give the model its ``test_step`` back."""
        runner.model.test_step = self.test_step
