"""Results of a test as files: label maps and pictures, under the names of the images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement

from gfnet_dense.registry import HOOKS
from gfnet_dense.utils.channels import Channels, channels_of, read_shown
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.images import write_image
from gfnet_dense.utils.results import Writing, mark_results, unique_names
from gfnet_dense.visualization.overlays import (
    add_legend,
    class_colors,
    overlay_instances,
    overlay_labels,
)
from gfnet_dense.visualization.predictions import draw, label_map, without_logits, write_key

OPACITY = 0.5  # of colors and masks in pictures


@HOOKS.register_module()
class ResultsHook(Hook):
    """Hook that writes label maps and pictures of all images of a test, in all its processes.

    The hooks of mmsegmentation and mmdetection write the pictures of the main process alone, under
    running numbers, and mmsegmentation's IoUMetric writes label maps of equal file names in
    different folders over each other, and numbers above 255 modulo 256.

    A result has the name of its image. Where images have the same name, results have their paths
    from the images' common folder. Classes are numbered from 0, or from 1 if the dataset has
    ``reduce_zero_label``, as its label files are; ``classes.txt`` says it.

    Args:
        label_dir: Folder for label maps (PNG); none are written if None.
        picture_dir: Folder for pictures (JPEG), ground truth left and prediction right; none are
            written if None.
    """

    def __init__(self, label_dir: str | None = None, picture_dir: str | None = None) -> None:
        self.label_dir = None if label_dir is None else Path(label_dir)
        self.picture_dir = None if picture_dir is None else Path(picture_dir)
        self._names: dict[str, Path] = {}
        self._first = 0  # number of the first class
        self._writing = Writing()

    def before_test(self, runner: Runner) -> None:
        """Name the results, and write the key of label maps."""
        dataset = runner.test_dataloader.dataset
        paths = list(
            dict.fromkeys(dataset.get_data_info(i)["img_path"] for i in range(len(dataset)))
        )
        names = unique_names([Path(Path(path).name) for path in paths], list(map(Path, paths)))
        self._names = dict(zip(paths, names, strict=True))
        for folder in (self.label_dir, self.picture_dir):
            if folder is not None and is_main_process():
                mark_results(folder)
        self._first = int(bool(dataset.metainfo.get("reduce_zero_label")))
        if self.label_dir is not None and is_main_process():
            path = self.label_dir / "classes.txt"
            write_key(dataset.metainfo["classes"], path, self._first)

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | tuple | list | None = None,
        outputs: Sequence[BaseDataElement] | None = None,
    ) -> None:
        """Write the results of a batch.

        Raises:
            InputError: If the disk is full.
        """
        metainfo = runner.test_dataloader.dataset.metainfo
        for sample in outputs or ():
            name = self._names[sample.img_path]
            with self._writing.of(sample.img_path):
                if self.label_dir is not None:
                    labels = label_map(sample, self._first)
                    write_image(labels, self.label_dir / f"{name}.png")
                if self.picture_dir is not None:
                    picture = draw_beside_truth(sample, metainfo, channels_of(runner.model))
                    write_image(picture, self.picture_dir / f"{name}.jpg")

    def after_test(self, runner: Runner) -> None:
        """Say what could not be written.

        Raises:
            InputError: If there is any such result.
        """
        failures = self._writing.failures
        if failures:
            more = f", and {len(failures) - 1} more" if len(failures) > 1 else ""
            raise InputError(f"{failures[0]}{more}; the other {self._writing.count} were written")


def draw_beside_truth(
    sample: BaseDataElement, metainfo: dict[str, Any], channels: Channels | None = None
) -> np.ndarray:
    """Draw a prediction over its image, to the right of the ground truth if there is any.

    Args:
        sample: mmseg's SegDataSample or mmdet's DetDataSample with ``img_path``, at the size of the
            image file.
        metainfo: Metainfo of the dataset, with ``classes`` and ``palette``.
        channels: The bands of the images, see :func:`.read_shown`.

    Returns:
        (H, W, 3), uint8, RGB; a segmentation has a legend below.
    """
    image = read_shown(sample.img_path, metainfo, channels)
    kept = without_logits(sample)
    if "pred_instances" in kept:
        panels = [draw(image, kept, metainfo, OPACITY)]
        if "gt_instances" in kept:
            panels.insert(0, overlay_instances(image, kept.gt_instances, metainfo, OPACITY))
        return np.concatenate(panels, axis=1)
    maps = [label_map(kept)]
    if "gt_sem_seg" in kept and kept.gt_sem_seg.shape[-2:] == image.shape[:2]:
        maps.insert(0, kept.gt_sem_seg.data[0].numpy())
    panels = [overlay_labels(image, labels, metainfo, OPACITY) for labels in maps]
    present = set().union(*map(np.unique, maps))
    return add_legend(np.concatenate(panels, axis=1), class_colors(metainfo, present))
