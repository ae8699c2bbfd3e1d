"""What a training needs in its checkpoints to be resumed, beyond what mmengine keeps there.

Private names of mmengine's Runner are used here, as seen in onedl-mmengine 0.10.12.
"""

from mmengine.hooks import EMAHook, Hook
from mmengine.runner import BaseLoop, Runner

from gfnet_dense.engine.settings import drop_functions, settings_of
from gfnet_dense.engine.state_keys import AVERAGES, SETTINGS


class ResumeHook(Hook):
    """Hook that records the settings of a training in its checkpoints.

    Checkpoints of a training with an EMAHook hold the averaged weights in place of the trained
    ones. Where such a training is resumed without that hook, the trained weights are put back.
    """

    def before_run(self, runner: Runner) -> None:
        """Note the settings before a checkpoint changes them."""
        if isinstance(runner._train_loop, BaseLoop):
            self.settings = settings_of(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Record the settings, and leave out functions of schedulers, which are no data."""
        checkpoint["meta"][SETTINGS] = self.settings
        drop_functions(checkpoint.get("param_schedulers"))

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Put back the trained weights if the training averages no longer."""
        averages = checkpoint.get(AVERAGES)
        averaging = any(isinstance(hook, EMAHook) for hook in runner.hooks)
        if runner._resume and isinstance(averages, dict) and not averaging:
            weights = checkpoint["state_dict"]
            # The hook has exchanged the two, and prefixed its own.
            weights.update(
                {
                    name: averages[f"module.{name}"]
                    for name in weights
                    if f"module.{name}" in averages
                }
            )
