"""Contact sheets: pictures of some predictions of each validation."""

from collections.abc import Sequence
from pathlib import Path

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement

from gfnet_dense.registry import HOOKS
from gfnet_dense.utils.channels import channels_of
from gfnet_dense.visualization.predictions import without_logits
from gfnet_dense.visualization.sheets import draw_detection_sheet, draw_segmentation_sheet


@HOOKS.register_module()
class ContactSheetHook(Hook):
    """Hook that draws image, ground truth and prediction of some samples of each validation.

    The sheets are ``contact_sheets/iter_<iteration>.png`` in the work dir.

    Args:
        num_samples: Number of samples on a sheet, spread evenly over the validation set. With 0,
            no sheets are drawn.
    """

    def __init__(self, num_samples: int = 6) -> None:
        self.num_samples = num_samples
        self._samples: list[BaseDataElement] = []

    def before_val_epoch(self, runner: Runner) -> None:
        """Forget the samples of the validation before."""
        self._samples = []

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | tuple | list | None = None,
        outputs: Sequence[BaseDataElement] | None = None,
    ) -> None:
        """Keep the first sample of every so many batches, on the CPU."""
        stride = max(1, len(runner.val_dataloader) // max(1, self.num_samples))
        if batch_idx % stride == 0 and len(self._samples) < self.num_samples:
            assert outputs is not None
            self._samples.append(without_logits(outputs[0]))

    @master_only
    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Draw the sheet, if there is a sample."""
        if not self._samples:
            return
        path = Path(runner.work_dir) / "contact_sheets" / f"iter_{runner.iter}.png"
        detected = "pred_instances" in self._samples[0]
        draw_sheet = draw_detection_sheet if detected else draw_segmentation_sheet
        metainfo = runner.val_dataloader.dataset.metainfo
        channels = channels_of(getattr(runner, "model", None))
        draw_sheet(self._samples, metainfo, path, channels)
        print_log(f"contact sheet: {path}", logger="current")
