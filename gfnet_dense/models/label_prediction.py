"""Class indices that a segmentor of mmsegmentation predicts, without logits at the images' size.

mmsegmentation resizes the logits of all classes to the size of the network's input, and then to
the size of the image. Here both are done for a band of rows at a time, with the same labels. Names
of mmsegmentation are used here as seen in onedl-mmsegmentation 1.4.2.
"""

from collections.abc import Sequence
from typing import Any

from mmengine.structures import BaseDataElement, PixelData
from torch import Tensor, nn

from .utils.label_maps import (
    Rows,
    cropped,
    flipped,
    label_map,
    resized,
    rows_of,
    streamed_rows,
)
from .utils.sliding_window import slide

SEGMENTOR = "mmseg.models.segmentors.encoder_decoder"
HEAD = "mmseg.models.decode_heads.decode_head"


def predict_labels(
    model: Any, inputs: Tensor, samples: Sequence[BaseDataElement]
) -> list[BaseDataElement]:
    """Set ``pred_sem_seg`` of samples as mmsegmentation's ``predict`` does, but no logits.

    The labels are those of ``predict``, see :func:`.label_map`.

    Args:
        model: The segmentor, mmsegmentation's EncoderDecoder or a class with its ``inference``.
        inputs: Images (B, bands, H, W) as the model's data preprocessor returns them.
        samples: mmsegmentation's SegDataSample of each image.

    Returns:
        The samples; ``pred_sem_seg`` has class indices (1, H, W), int64, on the model's device.
    """
    metas = [sample.metainfo for sample in samples]
    for rows, meta, sample in zip(_logits(model, inputs, metas), metas, samples, strict=True):
        padding = meta.get("img_padding_size", meta.get("padding_size", (0, 0, 0, 0)))
        rows = cropped(rows, padding)
        if meta.get("flip"):
            rows = flipped(rows, meta["flip_direction"])
        rows = resized(rows, tuple(meta["ori_shape"]), model.align_corners)
        set_labels(sample, label_map(rows, threshold_of(model)))
    return list(samples)


def set_labels(sample: BaseDataElement, labels: Tensor) -> BaseDataElement:
    """Set class indices (H, W) as the prediction of mmseg's SegDataSample, and return the sample.

    All other fields of the sample stay.
    """
    sample.set_data({"pred_sem_seg": PixelData(data=labels[None])})
    return sample


def threshold_of(model: Any) -> float | None:
    """Return the probability above which a segmentor of one class predicts it, else None."""
    head = model.decode_head
    return getattr(head[-1] if isinstance(head, nn.ModuleList) else head, "threshold", None)


def is_from(module: str, *methods: Any) -> bool:
    """Return whether methods are those of a module, and not overridden."""
    return all(getattr(method, "__module__", None) == module for method in methods)


def _logits(model: Any, inputs: Tensor, metas: list[dict[str, Any]]) -> list[Rows]:
    """Return the logits of each image at the size of the network's input.

    Models with methods of their own make them as a whole.
    """
    mode = model.test_cfg.get("mode") if is_from(SEGMENTOR, model.inference) else None
    if mode == "slide" and is_from(SEGMENTOR, model.slide_inference):
        return _slide(model, inputs, metas)
    if mode == "whole" and is_from(SEGMENTOR, model.whole_inference, model.encode_decode):
        head = model.decode_head
        if is_from(HEAD, head.predict, head.predict_by_feat):
            logits = head.forward(model.extract_feat(inputs))
            # The size to which the head would resize them, without the work
            sized = head.predict_by_feat(logits[:1, :1].to("meta"), metas)
            size = (sized.shape[2], sized.shape[3])
            return [resized(rows_of(each), size, head.align_corners) for each in logits]
    return [rows_of(each) for each in model.inference(inputs, metas)]


def _slide(model: Any, inputs: Tensor, metas: list[dict[str, Any]]) -> list[Rows]:
    """Return the averaged logits of sliding windows, in which the images are as a batch."""

    def predict(places: list[tuple[slice, slice]]) -> Tensor:
        ((y, x),) = places
        window = inputs[:, :, y, x]
        metas[0]["img_shape"] = window.shape[2:]  # by its type the head knows a window
        logits = model.encode_decode(window, metas).to(inputs.dtype)  # autocast's are added up so
        return logits.flatten(0, 1)[None]

    size = (inputs.shape[2], inputs.shape[3])
    bands = slide(predict, size, model.test_cfg.crop_size, model.test_cfg.stride)
    rows = streamed_rows(bands, size)
    if len(inputs) == 1:
        return [rows]
    whole = rows.read(0, size[0])
    return [rows_of(each) for each in whole.unflatten(0, (len(inputs), -1))]
