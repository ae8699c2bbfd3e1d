"""Curves of a training, and the paths of its results."""

from pathlib import Path

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from gfnet_dense.registry import HOOKS
from gfnet_dense.visualization.curves import draw_curves


@HOOKS.register_module()
class CurvesHook(Hook):
    """Hook that draws the curves of a training at its end, and logs where its results are.

    The curves are ``curves.png`` in the work dir.
    """

    priority = "LOWEST"  # after the last checkpoint was saved

    def before_val_epoch(self, runner: Runner) -> None:
        """Note the iteration of this validation in the message hub."""
        # Checkpoints hold the message hub: a resumed training draws the curves from its beginning.
        runner.message_hub.update_scalar("curves/val_iteration", runner.iter)

    @master_only
    def after_train(self, runner: Runner) -> None:
        """Draw the curves, and log their path and the path of the last checkpoint."""
        scalars = {name: buffer.data[0] for name, buffer in runner.message_hub.log_scalars.items()}
        path = Path(runner.work_dir) / "curves.png"
        draw_curves(scalars, path)
        print_log(f"curves: {path}", logger="current")
        if last := runner.message_hub.get_info("last_ckpt"):
            print_log(f"checkpoint: {last}", logger="current")
