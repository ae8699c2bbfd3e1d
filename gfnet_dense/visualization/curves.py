"""Curves of a training run while it runs: loss, learning rate and metrics."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from .figures import save_figure

# The metrics to draw: label, and factor that makes them percent
METRICS = {
    "val/mIoU": ("mIoU", 1),
    "val/mAcc": ("mAcc", 1),
    "val/aAcc": ("aAcc", 1),
    "val/coco/bbox_mAP_50": ("box AP50", 100),
    "val/coco/bbox_mAP": ("box AP", 100),
    "val/coco/segm_mAP": ("mask AP", 100),
}


def draw_curves(scalars: dict[str, np.ndarray], path: Path) -> None:
    """Draw loss, learning rate and metrics of a training run over its iterations.

    Args:
        scalars: Values by name, from mmengine's MessageHub: 'train/loss' and 'train/lr' (or
            'train/base_lr') with one value per iteration, 'val/...' and 'curves/val_iteration'
            with one value per validation.
        path: The PNG file to write.
    """
    metrics = {
        label: np.multiply(scalars[name], factor)
        for name, (label, factor) in METRICS.items()
        if name in scalars
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
    # "train/lr" is the rate of the first parameter group, which layer-wise decay makes the lowest.
    rates = scalars.get("train/base_lr", scalars["train/lr"])
    axes[1].plot(np.arange(1, len(rates) + 1), rates)
    axes[1].set(title="learning rate", ylim=(0, None))
    if metrics:
        for name, values in metrics.items():
            # The first validations have no metric if mmdetection has not detected anything.
            axes[2].plot(scalars["curves/val_iteration"][-len(values) :], values, "o-", label=name)
        axes[2].set(title="validation, %", ylim=(0, 100))
        axes[2].legend(frameon=False)
    for axis in axes:
        axis.set_xlabel("iteration")
        axis.grid(alpha=0.3)
    save_figure(figure, path)
