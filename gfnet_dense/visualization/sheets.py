"""Sheets of pictures side by side: image, truth and prediction."""

from pathlib import Path

import mmcv
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from .figures import save_figure
from .overlays import class_colors, overlay_instances


def draw_segmentation_sheet(samples: list, metainfo: dict, path: Path) -> None:
    """Draw image, truth and prediction of segmented samples side by side, with a legend.

    Args:
        samples: mmseg's SegDataSample with ``img_path``, ``gt_sem_seg`` and ``pred_sem_seg``.
        metainfo: The dataset's, with ``classes`` and ``palette``.
        path: The PNG file.
    """
    palette = np.full((256, 3), 255, np.uint8)  # unlabeled pixels stay white
    palette[: len(metainfo["palette"])] = metainfo["palette"]
    rows, present = [], set()
    for sample in samples:
        truth, prediction = (
            getattr(sample, name).data[0].numpy().astype(np.uint8)
            for name in ("gt_sem_seg", "pred_sem_seg")
        )
        image = mmcv.imread(sample.img_path, channel_order="rgb")
        rows.append((image, palette[truth], palette[prediction]))
        present |= set(np.unique(truth)) | set(np.unique(prediction))
    draw_sheet(rows, ("image", "truth", "prediction"), class_colors(metainfo, present), path)


def draw_detection_sheet(samples: list, metainfo: dict, path: Path) -> None:
    """Draw truth and prediction of samples with boxes, side by side, with names and scores.

    Args:
        samples: mmdet's DetDataSample with ``img_path``, ``gt_instances`` and ``pred_instances``,
            both in pixels of the file; masks are drawn where there are any.
        metainfo: The dataset's, with ``classes`` and ``palette``.
        path: The PNG file.
    """
    rows = []
    for sample in samples:
        image = mmcv.imread(sample.img_path, channel_order="rgb")
        truth, prediction = (
            overlay_instances(image, getattr(sample, name), metainfo)
            for name in ("gt_instances", "pred_instances")
        )
        rows.append((truth, prediction))
    draw_sheet(rows, ("truth", "prediction"), {}, path, dpi=180)


def draw_sheet(
    rows: list[tuple[np.ndarray, ...]],
    titles: tuple[str, ...],
    legend: dict[str, tuple],
    path: Path,
    dpi: int = 110,
) -> None:
    """Draw rows of pictures, with the name of each column and a legend of colors.

    Args:
        rows: Pictures (H, W, 3), uint8, RGB, of any sizes.
        titles: One for each picture of a row.
        legend: RGB color, 0..255, by name.
        path: The PNG file.
        dpi: Pixels per inch; a picture is 3.6 inches wide.
    """
    num_columns, cell_width = len(titles), 3.6
    height, width = np.median([row[0].shape[:2] for row in rows], axis=0)
    legend_columns = 2 * num_columns
    legend_height = 0.3 * -(-len(legend) // legend_columns) + 0.2
    figure_height = cell_width * height / width * len(rows) + legend_height + 0.4
    figure = Figure(figsize=(num_columns * cell_width, figure_height))
    axes = figure.subplots(len(rows), num_columns, squeeze=False)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title)
    for axis in axes.flat:
        axis.set_axis_off()
    for row, cells in zip(axes, rows, strict=True):
        for axis, cell in zip(row, cells, strict=False):  # the last row may be shorter
            axis.imshow(cell)
    patches = [Patch(color=np.divide(color, 255), label=name) for name, color in legend.items()]
    figure.legend(handles=patches, loc="lower center", ncols=legend_columns, frameon=False)
    figure.subplots_adjust(
        left=0.01,
        right=0.99,
        top=1 - 0.35 / figure_height,
        bottom=legend_height / figure_height,
        wspace=0.02,
        hspace=0.03,
    )
    save_figure(figure, path, dpi)
