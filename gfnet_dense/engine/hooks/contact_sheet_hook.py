"""Pictures of some predictions of every validation."""

from pathlib import Path

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement

from gfnet_dense.registry import HOOKS
from gfnet_dense.visualization.sheets import draw_detection_sheet, draw_segmentation_sheet


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
