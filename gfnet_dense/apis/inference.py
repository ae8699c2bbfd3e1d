"""Predicting images in Python with a trained model, with the results of ``tools/test.py``."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import Compose, pseudo_collate
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement

from gfnet_dense.models.label_prediction import predict_labels, set_labels, threshold_of
from gfnet_dense.models.utils.label_maps import labels_of
from gfnet_dense.models.utils.sliding_window import slide
from gfnet_dense.utils.amp import amp_dtype, autocast
from gfnet_dense.utils.config import find_datasets, type_name
from gfnet_dense.utils.cufft import plan_limit
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.scope import default_scope
from gfnet_dense.utils.types import Size

from .reading import ImageReader, reader_of


def predict(
    model: BaseModel,
    images: Iterable[np.ndarray | str | Path],
    batch_size: int = 1,
    window: Size | None = None,
    stride: Size | None = None,
    amp: str | None = None,
) -> Iterator[BaseDataElement]:
    """Yield the prediction of each image, at the size of the image.

    Images go through the test pipeline of the config, as in ``tools/test.py``, and get the same
    predictions as there. With ``window`` they are segmented at their own resolution instead.

    Args:
        model: A model returned by :func:`gfnet_dense.load_model`.
        images: Files, or arrays (H, W, 3), uint8, RGB. For a config that loads images by
            ``gfnet_dense.LoadImageBands``, arrays are (H, W, bands), with the values and in the
            order of the files.
        batch_size: Maximum number of images in one forward pass. Only neighbors that have the same
            size after the pipeline share a batch. With ``window`` it is the maximum number of
            windows, of one row of an image: a GPU is faster with as many as its memory holds, a
            CPU with one.
        window: Size (h, w) of a window that slides over the image; segmentors only. Logits are
            averaged where windows overlap. Memory grows with the size of the window and with the
            width of the image, not with its height.
        stride: Vertical and horizontal distance between windows, in pixels. Defaults to two thirds
            of the window.
        amp: ``bfloat16``, ``float16`` (GPU) or ``auto`` (float16 on a GPU, bfloat16 on a CPU) for
            mixed precision: matrix products and convolutions in half the bits. Classes whose logits
            are almost equal may change. None for float32.

    Yields:
        mmseg's SegDataSample with ``pred_sem_seg``, or mmdet's DetDataSample with
        ``pred_instances``, on the CPU. Its ``img_path`` is the file, '' for an array.

    Raises:
        InputError: If ``images`` is a single one, if ``batch_size``, ``window`` or ``stride`` is
            out of range, if ``window`` is given for a detector, if the device has no ``amp``, if a
            file is not an image, or if an array is of another shape or dtype.
    """
    if getattr(images, "ndim", 4) < 4 or not hasattr(images, "__iter__") or isinstance(images, str):
        raise InputError("predict takes a list, for a single image, too: predict(model, [image])")
    if not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(f"batch_size is an integer of at least 1, got {batch_size!r}")
    reader = reader_of(model)
    read = ((reader.read(each), _path_of(each)) for each in images)
    check_options(model, window, amp)
    if window is not None:
        stride = _stride_of(window, stride)
        for image, path in read:
            sample = _predict_in_windows(model, reader, image, window, stride, batch_size, amp)
            sample.set_metainfo(dict(img_path=path))
            yield sample
        return
    pipeline = _test_pipeline(model)
    packed = (pipeline(_as_loaded(reader.loaded(image), path)) for image, path in read)
    for _, group in groupby(packed, key=lambda data: data["inputs"].shape):
        while batch := list(islice(group, batch_size)):
            # The block ends before the yield: the caller's code between two predictions must not
            # run without gradients.
            with _inference(model, amp):
                samples = (_segment if _is_segmentor(model) else _detect)(
                    model, pseudo_collate(batch)
                )
            yield from samples


@contextmanager
def _inference(model: BaseModel, amp: str | None) -> Iterator[None]:
    """Run a model without gradients, in mixed precision if given, on images of many shapes."""
    with torch.no_grad(), plan_limit(_device_of(model)), autocast(model, amp):
        yield


def check_options(model: BaseModel, window: Size | None, amp: str | None) -> None:
    """Raise InputError for the window of a detector, and if the model's device has no ``amp``."""
    if window is not None and not _is_segmentor(model):
        raise InputError("a sliding window is for segmentors, the model is a detector")
    if amp is not None:
        amp_dtype(amp, _device_of(model).type)


def _device_of(model: BaseModel) -> torch.device:
    return next(model.parameters()).device


def _stride_of(window: Size, stride: Size | None) -> Size:
    """Return the stride, two thirds of the window by default.

    Raises:
        InputError: Unless windows at this distance cover an image.
    """
    try:
        h, w = window
        y, x = (max(2 * h // 3, 1), max(2 * w // 3, 1)) if stride is None else stride
        covers = 1 <= y <= h and 1 <= x <= w
    except (TypeError, ValueError):  # no pairs of numbers
        covers = False
    if not covers:
        raise InputError(
            "window and stride are sizes (h, w) in pixels, and a stride is between 1 and the "
            f"window, or pixels are left out; got window={window!r}, stride={stride!r}"
        )
    return y, x


def _is_segmentor(model: BaseModel) -> bool:
    return hasattr(model, "encode_decode")


def _test_pipeline(model: BaseModel) -> Compose:
    """Build the test transforms of the model's config, without those that read files."""
    dataset = find_datasets(model.cfg.test_dataloader.dataset)[0]
    readers = ("LoadImage", "LoadAnnotations", "LoadPanoptic")
    transforms = [t for t in dataset["pipeline"] if not type_name(t).startswith(readers)]
    for reader in dataset["pipeline"]:
        if type_name(reader).startswith("LoadImage") and reader.get("to_float32"):
            transforms[:0] = [_ToFloat32()]
    with default_scope(model.cfg.default_scope):
        return Compose(transforms)


class _ToFloat32:
    """What ``to_float32`` of mmcv's LoadImageFromFile does to an image."""

    def __call__(self, results: dict) -> dict:
        results["img"] = results["img"].astype(np.float32)
        return results


def _path_of(image: np.ndarray | str | Path) -> str:
    """Return the path of a file, which samples have as ``img_path``; '' for an array."""
    return "" if isinstance(image, np.ndarray) else str(image)


def _as_loaded(image: np.ndarray, path: str) -> dict[str, Any]:
    """Return the dict that mmcv's LoadImageFromFile would make of an image that it has loaded."""
    size = image.shape[:2]
    return dict(
        img=image,
        img_shape=size,
        ori_shape=size,
        img_path=path,
        img_id=0,
    )


def _detect(model: BaseModel, batch: dict[str, Any]) -> list[BaseDataElement]:
    return [sample.cpu() for sample in model.test_step(batch)]


def _segment(model: BaseModel, batch: dict[str, Any]) -> list[BaseDataElement]:
    """Predict a batch like mmseg's ``predict``, without logits at the size of the images."""
    data = model.data_preprocessor(batch, False)
    samples = predict_labels(model, data["inputs"], data["data_samples"])
    return [set_labels(sample, sample.pred_sem_seg.data[0].cpu()) for sample in samples]


def _predict_in_windows(
    model: BaseModel,
    reader: ImageReader,
    image: np.ndarray,
    window: Size,
    stride: Size,
    batch_size: int,
    amp: str | None,
) -> BaseDataElement:
    """Segment an image, as the reader has read it, at its own resolution, some windows at once."""
    from mmseg.structures import SegDataSample

    def logits_of(places: list[tuple[slice, slice]]) -> torch.Tensor:
        loaded = (reader.loaded(image[place]) for place in places)
        crops = [torch.from_numpy(each).permute(2, 0, 1) for each in loaded]
        size = tuple(crops[0].shape[1:])
        samples = [SegDataSample(metainfo=dict(img_shape=size, ori_shape=size)) for _ in crops]
        data = model.data_preprocessor({"inputs": crops, "data_samples": samples}, False)
        inputs = data["inputs"]  # some configs pad them, at the bottom and on the right
        metas = [dict(img_shape=tuple(inputs.shape[2:]))] * len(crops)
        return model.encode_decode(inputs, metas)[:, :, : size[0], : size[1]]

    H, W = image.shape[:2]
    with _inference(model, amp):
        bands = slide(logits_of, (H, W), window, stride, batch_size)
        labels = torch.cat([labels_of(band, threshold_of(model)).cpu() for band in bands])
    return set_labels(SegDataSample(metainfo=dict(ori_shape=(H, W))), labels)
