"""From images to predictions, as tools/test.py makes them, without its dataset."""

from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import DefaultScope
from mmengine.structures import BaseDataElement, PixelData
from torch import nn

from gfnet_dense.utils.config import find_datasets
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.images import read_image
from gfnet_dense.utils.types import Size

from .sliding_window import labels_of, resized_labels, slide

_SCOPE_LOCK = Lock()  # mmengine's default scope is one for all threads


def predict(
    model: nn.Module,
    images: Iterable[np.ndarray | str | Path],
    batch_size: int = 1,
    window: Size | None = None,
    stride: Size | None = None,
) -> Iterator[BaseDataElement]:
    """Yield the prediction of each image.

    Images go through the test pipeline of the config, which resizes them, and predictions come
    back at the size of the image: those of ``tools/test.py``.

    Args:
        model: As :func:`.api.load_model` returns it.
        images: Files, or arrays (H, W, 3), uint8, RGB.
        batch_size: How many go through the model at once; images of different size after the
            pipeline never do.
        window: Of a segmentor: slide a window of this size (h, w) over the image at its own
            resolution, and average logits where windows overlap. Memory grows with the window and
            with the width of the image, not with its height.
        stride: From window to window; two thirds of the window if None.

    Yields:
        mmseg's SegDataSample with ``pred_sem_seg``, or mmdet's DetDataSample with
        ``pred_instances``, on the CPU.

    Raises:
        InputError: For a window with a detector, or a file that is no image.
    """
    images = (each if isinstance(each, np.ndarray) else read_image(each) for each in images)
    check_window(model, window)
    if window is not None:
        stride = stride or tuple(max(2 * n // 3, 1) for n in window)
        for image in images:
            yield _predict_in_windows(model, image, window, stride)
        return
    pipeline = _pipeline(model)
    packed = (pipeline(_as_loaded(image)) for image in images)
    for _, group in groupby(packed, key=lambda data: data["inputs"].shape):
        while batch := list(islice(group, batch_size)):
            # Not while the caller holds the generator, whose code would run without gradients.
            with torch.no_grad():
                samples = (_segment if _is_segmentor(model) else _detect)(
                    model, pseudo_collate(batch)
                )
            yield from samples


def check_window(model: nn.Module, window: Size | None) -> None:
    """Raise InputError for a sliding window with a detector."""
    if window is not None and not _is_segmentor(model):
        raise InputError("a sliding window is for segmentors, the model is a detector")


def _is_segmentor(model: nn.Module) -> bool:
    return hasattr(model, "encode_decode")


def _pipeline(model: nn.Module) -> Compose:
    """Return the transforms of the config's test images behind those that read files."""
    dataset = find_datasets(model.cfg.test_dataloader.dataset)[0]
    readers = ("LoadImage", "LoadAnnotations", "LoadPanoptic")
    transforms = [t for t in dataset["pipeline"] if not _name(t).startswith(readers)]
    with _SCOPE_LOCK, DefaultScope.overwrite_default_scope(model.cfg.default_scope):
        return Compose(transforms)


def _name(transform: dict) -> str:
    return transform["type"].rpartition(".")[2]


def _as_loaded(image: np.ndarray) -> dict:
    """Return what LoadImageFromFile would: BGR, since OpenCV reads so."""
    size = image.shape[:2]
    return dict(
        img=np.ascontiguousarray(image[..., ::-1]),
        img_shape=size,
        ori_shape=size,
        img_path="",
        img_id=0,
    )


def _detect(model: nn.Module, batch: dict) -> list[BaseDataElement]:
    return [sample.cpu() for sample in model.test_step(batch)]


def _segment(model: nn.Module, batch: dict) -> list[BaseDataElement]:
    """As the segmentor's ``predict`` and ``postprocess_result``, which would hold the logits of
    all classes at the size of the image."""
    data = model.data_preprocessor(batch, False)
    samples = data["data_samples"]
    logits = model.inference(data["inputs"], [sample.metainfo for sample in samples])
    predicted = []
    for one, sample in zip(logits, samples, strict=True):
        meta = sample.metainfo
        left, right, top, bottom = meta.get("img_padding_size", meta.get("padding_size", [0] * 4))
        one = one[:, top : one.shape[1] - bottom, left : one.shape[2] - right]
        labels = resized_labels(one, meta["ori_shape"], model.align_corners, threshold_of(model))
        predicted.append(_as_sample(sample, labels))
    return predicted


def _predict_in_windows(
    model: nn.Module, image: np.ndarray, window: Size, stride: Size
) -> BaseDataElement:
    from mmseg.structures import SegDataSample

    def logits_of(place: tuple[slice, slice]) -> torch.Tensor:
        crop = torch.from_numpy(np.ascontiguousarray(image[place][..., ::-1])).permute(2, 0, 1)
        size = tuple(crop.shape[1:])
        sample = SegDataSample(metainfo=dict(img_shape=size, ori_shape=size))
        data = model.data_preprocessor({"inputs": [crop], "data_samples": [sample]}, False)
        inputs = data["inputs"]  # padded, below and to the right, where the config does so
        metas = [dict(img_shape=tuple(inputs.shape[2:]))]
        return model.encode_decode(inputs, metas)[0, :, : size[0], : size[1]]

    with torch.no_grad():
        bands = slide(logits_of, image.shape[:2], window, stride)
        labels = torch.cat([labels_of(band, threshold_of(model)).cpu() for band in bands])
    return _as_sample(SegDataSample(metainfo=dict(ori_shape=image.shape[:2])), labels)


def threshold_of(model: nn.Module) -> float | None:
    """Return from which probability on a segmentor of one class says yes."""
    head = model.decode_head
    return getattr(head[-1] if isinstance(head, nn.ModuleList) else head, "threshold", None)


def _as_sample(sample: BaseDataElement, labels: torch.Tensor) -> BaseDataElement:
    sample.set_data({"pred_sem_seg": PixelData(data=labels[None].cpu())})
    return sample
