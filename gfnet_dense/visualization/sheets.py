"""Contact sheets: images, ground truth and predictions side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from mmengine.structures import BaseDataElement

from gfnet_dense.utils.channels import Channels, read_shown

from .figures import save_figure
from .overlays import Color, class_colors, overlay_instances

LINE = 0.16  # height of a line of a caption, in inches
MAX_RATIO = 3  # height over width of a cell: narrower images are drawn smaller


def draw_segmentation_sheet(
    samples: Sequence[BaseDataElement],
    metainfo: dict[str, Any],
    path: Path,
    channels: Channels | None = None,
) -> None:
    """Draw image, ground truth and prediction of segmented samples side by side, with a legend.

    Args:
        samples: mmseg's SegDataSamples with ``img_path``, ``gt_sem_seg`` and ``pred_sem_seg``.
        metainfo: Metainfo of the dataset, with ``classes`` and ``palette``.
        path: The PNG file to write.
        channels: The bands of the images, see :func:`.read_shown`.
    """
    palette = np.full((256, 3), 255, np.uint8)  # unlabeled pixels stay white
    palette[: len(metainfo["palette"])] = metainfo["palette"]
    rows = []
    present: set[int] = set()
    for sample in samples:
        truth, prediction = (
            getattr(sample, name).data[0].numpy().astype(np.uint8)
            for name in ("gt_sem_seg", "pred_sem_seg")
        )
        image = read_shown(sample.img_path, metainfo, channels)
        rows.append((image, palette[truth], palette[prediction]))
        present |= set(np.unique(truth)) | set(np.unique(prediction))
    draw_sheet(rows, ("image", "truth", "prediction"), class_colors(metainfo, present), path)


def draw_detection_sheet(
    samples: Sequence[BaseDataElement],
    metainfo: dict[str, Any],
    path: Path,
    channels: Channels | None = None,
) -> None:
    """Draw ground truth and prediction of detection samples side by side.

    Args:
        samples: mmdet's DetDataSamples with ``img_path``, ``gt_instances`` and ``pred_instances``,
            both in pixels of the image file. Masks are drawn if there are any.
        metainfo: Metainfo of the dataset, with ``classes`` and ``palette``.
        path: The PNG file to write.
        channels: The bands of the images, see :func:`.read_shown`.
    """
    rows = []
    for sample in samples:
        image = read_shown(sample.img_path, metainfo, channels)
        truth, prediction = (
            overlay_instances(image, getattr(sample, name), metainfo)
            for name in ("gt_instances", "pred_instances")
        )
        rows.append((truth, prediction))
    draw_sheet(rows, ("truth", "prediction"), {}, path, dpi=180)


def draw_sheet(
    rows: Sequence[Sequence[np.ndarray]],
    titles: Sequence[str],
    legend: dict[str, Color],
    path: Path,
    dpi: int = 110,
    captions: Sequence[Sequence[str]] = (),
) -> None:
    """Draw rows of images, with a title over each column and a legend of colors below.

    Args:
        rows: Rows of images (H, W, 3), uint8, RGB, of any sizes. The last row may be shorter.
        titles: Titles of the columns.
        legend: RGB colors, 0..255, by name.
        path: The PNG file to write.
        dpi: Pixels per inch; a column is 3.6 inches wide.
        captions: Rows of texts under the images, which may have several lines and be wider than an
            image, as those of a row are; none if empty.
    """
    num_columns, cell_width = len(titles), 3.6
    height, width = np.median([row[0].shape[:2] for row in rows], axis=0)
    cell_height = cell_width * min(height / width, MAX_RATIO)
    num_lines = max((text.count("\n") + 1 for row in captions for text in row), default=0)
    caption_height = LINE * (num_lines + bool(num_lines))
    legend_columns = 2 * num_columns
    legend_height = 0.3 * -(-len(legend) // legend_columns) + 0.2
    figure_height = (cell_height + caption_height) * len(rows) + legend_height + 0.4
    figure = Figure(figsize=(num_columns * cell_width, figure_height))
    axes = figure.subplots(len(rows), num_columns, squeeze=False)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title)
    for axis in axes.flat:
        axis.set_axis_off()
    for row, cells in zip(axes, rows, strict=True):
        for axis, cell in zip(row, cells, strict=False):
            axis.imshow(cell)
    for row, texts in zip(axes, captions, strict=bool(captions)):
        for axis, text in zip(row, texts, strict=False):
            below = dict(xytext=(0, -3), textcoords="offset points", va="top", fontsize=9)
            axis.annotate(text, (0, 0), xycoords="axes fraction", parse_math=False, **below)
    patches = [
        Patch(color=(r / 255, g / 255, b / 255), label=name) for name, (r, g, b) in legend.items()
    ]
    figure.legend(handles=patches, loc="lower center", ncols=legend_columns, frameon=False)
    figure.subplots_adjust(
        left=0.01,
        right=0.99,
        top=1 - 0.35 / figure_height,
        bottom=(legend_height + caption_height) / figure_height,
        wspace=0.02,
        hspace=0.03 + caption_height / cell_height,
    )
    save_figure(figure, path, dpi)
