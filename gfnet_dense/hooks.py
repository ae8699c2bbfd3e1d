"""Hooks of mmengine's runner."""

from pathlib import Path

import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement

from .data_check import guard_pipeline
from .pictures import draw_curves, draw_detection_sheet, draw_segmentation_sheet
from .registry import HOOKS


@HOOKS.register_module()
class CheckDataHook(Hook):
    """Say in one sentence which image or label map is broken, when it is met."""

    def before_train(self, runner: Runner) -> None:
        guard_pipeline(runner.train_dataloader.dataset)
        if runner.val_loop is not None:
            guard_pipeline(runner.val_dataloader.dataset)

    def before_test(self, runner: Runner) -> None:
        guard_pipeline(runner.test_dataloader.dataset)


@HOOKS.register_module()
class CufftPlanCacheHook(Hook):
    """Bound the memory of cuFFT's plans, of which PyTorch keeps 4096: one for each shape of a map.

    A detector's batches are of a new shape nearly every time, and a plan may hold memory for its
    work (https://docs.pytorch.org/docs/stable/notes/cuda.html#cufft-plan-cache).

    Args:
        max_size: Number of plans kept on each GPU. GFNet-H needs eight for a shape of images.
    """

    def __init__(self, max_size: int):
        self.max_size = max_size

    def before_run(self, runner: Runner) -> None:
        if torch.cuda.is_available():
            torch.backends.cuda.cufft_plan_cache.max_size = self.max_size


@HOOKS.register_module()
class ContactSheetHook(Hook):
    """Save a picture of image, truth and prediction for some samples of every validation.

    Args:
        num_samples: Number of samples shown, spread evenly over the validation set.
    """

    def __init__(self, num_samples: int = 6):
        self.num_samples = num_samples
        self._samples = []

    def before_val_epoch(self, runner: Runner) -> None:
        self._samples = []

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        stride = max(1, len(runner.val_dataloader) // self.num_samples)
        if batch_idx % stride == 0 and len(self._samples) < self.num_samples:
            sample = outputs[0]
            kept = BaseDataElement(metainfo=dict(img_path=sample.img_path))
            for name in ("gt_sem_seg", "pred_sem_seg", "gt_instances", "pred_instances"):
                if name in sample:  # without the logits, which are large
                    setattr(kept, name, getattr(sample, name))
            self._samples.append(kept.cpu())

    @master_only
    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        path = Path(runner.work_dir) / "contact_sheets" / f"iter_{runner.iter}.png"
        detected = "pred_instances" in self._samples[0]
        draw_sheet = draw_detection_sheet if detected else draw_segmentation_sheet
        draw_sheet(self._samples, runner.val_dataloader.dataset.metainfo, path)
        print_log(f"contact sheet: {path}", logger="current")


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
