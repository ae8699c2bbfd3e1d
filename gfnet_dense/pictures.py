"""Pictures of data, predictions and training runs, for people."""

import os
from pathlib import Path

import mmcv
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch


def save_figure(figure: Figure, path: Path, dpi: int = 110) -> None:
    """Save a figure as a PNG, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        figure.savefig(part, format="png", dpi=dpi)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def draw_contact_sheet(samples: list, metainfo: dict, path: Path) -> None:
    """Draw image, truth and prediction of segmented samples side by side, with a legend.

    Args:
        samples: mmseg's SegDataSample with ``img_path``, ``gt_sem_seg`` and ``pred_sem_seg``.
        metainfo: The dataset's, with ``classes`` and ``palette``.
        path: The PNG file.
    """
    palette = np.full((256, 3), 255, np.uint8)  # unlabelled pixels stay white
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
    present = [index for index in sorted(present) if index < len(metainfo["classes"])]

    height, width = rows[0][0].shape[:2]
    cell_width = 3.6
    cell_height = cell_width * height / width
    legend_height = 0.3 * -(-len(present) // 6) + 0.2
    figure_height = cell_height * len(rows) + legend_height + 0.4
    figure = Figure(figsize=(3 * cell_width, figure_height))
    axes = figure.subplots(len(rows), 3, squeeze=False)
    for axis, title in zip(axes[0], ("image", "truth", "prediction"), strict=True):
        axis.set_title(title)
    for row, cells in zip(axes, rows, strict=True):
        for axis, cell in zip(row, cells, strict=True):
            axis.imshow(cell)
            axis.set_axis_off()
    patches = [Patch(color=palette[i] / 255, label=metainfo["classes"][i]) for i in present]
    figure.legend(handles=patches, loc="lower center", ncols=6, frameon=False)
    figure.subplots_adjust(
        left=0.01,
        right=0.99,
        top=1 - 0.35 / figure_height,
        bottom=legend_height / figure_height,
        wspace=0.02,
        hspace=0.03,
    )
    save_figure(figure, path)


def draw_curves(scalars: dict[str, np.ndarray], path: Path) -> None:
    """Draw loss, learning rate and metric of a training run over its iterations.

    Args:
        scalars: Histories by name as kept by mmengine's MessageHub: 'train/loss' and 'train/lr'
            with a value an iteration, 'val/...' and 'curves/val_iteration' with one a validation.
        path: The PNG file.
    """
    metrics = {
        name.removeprefix("val/"): values
        for name, values in scalars.items()
        if name in ("val/mIoU", "val/mAcc", "val/aAcc")
    }
    num_plots = 2 + bool(metrics)
    figure = Figure(figsize=(4.5 * num_plots, 3.4), layout="constrained")
    axes = figure.subplots(1, num_plots)
    loss = scalars["train/loss"]
    iterations = np.arange(1, len(loss) + 1)
    axes[0].plot(iterations, loss, color="tab:blue", alpha=0.25, linewidth=0.8)
    window = max(1, len(loss) // 30)
    smooth = np.convolve(loss, np.ones(window) / window, mode="valid")
    axes[0].plot(
        iterations[window - 1 :], smooth, color="tab:blue", label=f"mean of {window} iterations"
    )
    axes[0].set(title="training loss", ylim=(0, None))
    axes[0].legend(frameon=False)
    axes[1].plot(np.arange(1, len(scalars["train/lr"]) + 1), scalars["train/lr"])
    axes[1].set(title="learning rate", ylim=(0, None))
    if metrics:
        for name, values in metrics.items():
            axes[2].plot(scalars["curves/val_iteration"], values, "o-", label=name)
        axes[2].set(title="validation, %", ylim=(0, 100))
        axes[2].legend(frameon=False)
    for axis in axes:
        axis.set_xlabel("iteration")
        axis.grid(alpha=0.3)
    save_figure(figure, path)
