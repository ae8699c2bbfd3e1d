"""Curves of a training and the paths of its results."""

from pathlib import Path

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from gfnet_dense.registry import HOOKS
from gfnet_dense.visualization.curves import draw_curves


@HOOKS.register_module()
class CurvesHook(Hook):
    """At the end of training, draw its curves and say where its results are."""

    priority = "LOWEST"  # after the last checkpoint was saved

    def before_val_epoch(self, runner: Runner) -> None:
        # Kept in checkpoints, which are written behind the validation, as the metrics are: a
        # resumed training draws the curves from the beginning.
        runner.message_hub.update_scalar("curves/val_iteration", runner.iter)

    @master_only
    def after_train(self, runner: Runner) -> None:
        scalars = {name: buffer.data[0] for name, buffer in runner.message_hub.log_scalars.items()}
        path = Path(runner.work_dir) / "curves.png"
        draw_curves(scalars, path)
        print_log(f"curves: {path}", logger="current")
        if last := runner.message_hub.get_info("last_ckpt"):
            print_log(f"checkpoint: {last}", logger="current")
