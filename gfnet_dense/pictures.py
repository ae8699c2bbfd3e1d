"""Pictures of data, predictions and training runs, for people."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import mmcv
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image, ImageDraw, ImageFont

from .data_check import check_header
from .errors import InputError
from .files import whole

READABLE_WIDTH = 512  # pixels of a picture on which names and scores are written
NOT_LABELLED = (0, 0, 0)  # of pixels in overlays
# Metrics that are drawn: label, and factor to per cent.
METRICS = {
    "val/mIoU": ("mIoU", 1),
    "val/mAcc": ("mAcc", 1),
    "val/aAcc": ("aAcc", 1),
    "val/coco/bbox_mAP_50": ("box AP50", 100),
    "val/coco/bbox_mAP": ("box AP", 100),
    "val/coco/segm_mAP": ("mask AP", 100),
}


def read_image(path: str | Path) -> np.ndarray:
    """Return an image file as (H, W, 3), uint8, RGB, upright as its EXIF orientation says.

    What OpenCV reads: 16 bits are reduced to 8, grey becomes three channels, transparency is left
    out.

    Raises:
        InputError: If there is no such file, or it is no image.
    """
    if not Path(path).is_file():
        raise InputError(f"the image {path} does not exist or is not a file")
    check_header(path)
    try:
        image = mmcv.imread(path, channel_order="rgb")
    except cv2.error:  # of more pixels than OpenCV takes, or an empty file
        image = None
    if image is None:
        raise InputError(f"{path} is no image that OpenCV can read, or a damaged one")
    return image


def save_figure(figure: Figure, path: Path, dpi: int = 110) -> None:
    """Save a figure in the format of the path's suffix, whole or not at all."""
    with whole(path) as part:
        figure.savefig(part, format=path.suffix[1:], dpi=dpi)


def draw_segmentation_sheet(samples: list, metainfo: dict, path: Path) -> None:
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
    draw_sheet(rows, ("image", "truth", "prediction"), class_colours(metainfo, present), path)


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


def overlay_labels(
    image: np.ndarray,
    labels: np.ndarray,
    metainfo: dict,
    opacity: float = 0.65,
    shown: Sequence[int] | None = None,
) -> np.ndarray:
    """Return an image with the colours of a label map; dark where there is no label.

    Args:
        image: (H, W, 3), uint8, RGB.
        labels: (H, W), integers from 0.
        metainfo: The dataset's, with ``palette``.
        opacity: Of the colours, 0..1.
        shown: Classes to colour, by number; the image stays as it is elsewhere. All if None.
    """
    colours = metainfo["palette"]
    count = max(int(labels.max(initial=0)) + 1, len(colours))
    palette = np.full((count, 3), NOT_LABELLED, np.uint8)
    palette[: len(colours)] = colours
    image = np.ascontiguousarray(image)
    coloured = cv2.addWeighted(palette[labels], opacity, image, 1 - opacity, 0)
    if shown is None:
        return coloured
    return np.where(np.isin(labels, shown)[..., None], coloured, image)


def add_legend(image: np.ndarray, legend: dict[str, tuple], rows: int | None = None) -> np.ndarray:
    """Return an image with names and colours on a white strip below.

    Args:
        image: (H, W, 3), uint8, RGB.
        legend: RGB colour, 0..255, by name.
        rows: Height of the strip in rows of names; as many as it takes if None.
    """
    width = image.shape[1]
    size = int(np.clip(width / 50, 12, 48))
    font = ImageFont.load_default(size)
    cell = int(max((font.getlength(name) for name in legend), default=0)) + 3 * size
    columns = max(width // cell, 1)
    if rows is None:
        rows = -(-len(legend) // columns)
    strip = Image.new("RGB", (width, int((rows + 0.5) * 1.5 * size)), "white")
    draw = ImageDraw.Draw(strip)
    for i, (name, colour) in enumerate(legend.items()):
        x, y = i % columns * cell + size // 2, int((i // columns + 0.25) * 1.5 * size)
        box = (x, y + size // 8, x + size, y + size + size // 8)
        draw.rectangle(box, fill=colour, outline="black")
        draw.text((x + 1.5 * size, y), name, fill="black", font=font)
    return np.concatenate([image, np.asarray(strip)])


def overlay_instances(
    image: np.ndarray, instances, metainfo: dict, opacity: float = 0.4
) -> np.ndarray:
    """Return an image with boxes, names, scores and masks; a small one is enlarged to be readable.

    Args:
        image: (H, W, 3) uint8, RGB.
        instances: mmdet's InstanceData with ``bboxes`` and ``labels`` and, where they are known,
            ``scores`` and ``masks``.
        metainfo: The dataset's, with ``classes`` and ``palette``.
        opacity: Of the masks, 0..1.
    """
    from mmdet.structures import DetDataSample
    from mmdet.visualization import DetLocalVisualizer

    visualizer = DetLocalVisualizer(line_width=2, alpha=opacity)
    visualizer.dataset_meta = metainfo
    factor = max(1, READABLE_WIDTH // image.shape[1])
    predicted = "scores" in instances
    enlarged = {("pred" if predicted else "gt") + "_instances": _enlarge(instances, factor)}
    visualizer.add_datasample(
        "",
        image.repeat(factor, 0).repeat(factor, 1),
        DetDataSample(**enlarged),
        draw_gt=not predicted,
        draw_pred=predicted,
    )
    return visualizer.get_image()


def _enlarge(instances, factor: int):
    """Return mmdet's InstanceData for an image that is ``factor`` times as large."""
    enlarged = instances.clone()
    enlarged.bboxes = getattr(instances.bboxes, "tensor", instances.bboxes) * factor
    if "masks" in instances:
        masks = instances.masks
        masks = np.asarray(masks if isinstance(masks, torch.Tensor) else masks.to_ndarray())
        enlarged.masks = torch.from_numpy(masks.repeat(factor, 1).repeat(factor, 2))
    return enlarged


def class_colours(metainfo: dict, present: set[int]) -> dict[str, tuple]:
    """Return the colours by name of those classes of a dataset that are ``present``."""
    classes, palette = metainfo["classes"], metainfo["palette"]
    return {classes[i]: tuple(palette[i]) for i in sorted(present) if i < len(classes)}


def draw_sheet(
    rows: list[tuple[np.ndarray, ...]],
    titles: tuple[str, ...],
    legend: dict[str, tuple],
    path: Path,
    dpi: int = 110,
) -> None:
    """Draw rows of pictures, with the name of each column and a legend of colours.

    Args:
        rows: Pictures (H, W, 3), uint8, RGB, of any sizes.
        titles: One for each picture of a row.
        legend: RGB colour, 0..255, by name.
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
    patches = [Patch(color=np.divide(colour, 255), label=name) for name, colour in legend.items()]
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


def draw_curves(scalars: dict[str, np.ndarray], path: Path) -> None:
    """Draw loss, learning rate and metric of a training run over its iterations.

    Args:
        scalars: Histories by name as kept by mmengine's MessageHub: 'train/loss' and 'train/lr'
            with a value an iteration, 'val/...' and 'curves/val_iteration' with one a validation.
        path: The PNG file.
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
    # "train/lr" is the first group's: with layer-wise decay the stem's.
    rates = scalars.get("train/base_lr", scalars["train/lr"])
    axes[1].plot(np.arange(1, len(rates) + 1), rates)
    axes[1].set(title="learning rate", ylim=(0, None))
    if metrics:
        for name, values in metrics.items():
            # mmdetection has no metric where nothing was found, in the first validations.
            axes[2].plot(scalars["curves/val_iteration"][-len(values) :], values, "o-", label=name)
        axes[2].set(title="validation, %", ylim=(0, 100))
        axes[2].legend(frameon=False)
    for axis in axes:
        axis.set_xlabel("iteration")
        axis.grid(alpha=0.3)
    save_figure(figure, path)
