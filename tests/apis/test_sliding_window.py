from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from mmseg.models.segmentors import EncoderDecoder
from torch.overrides import TorchFunctionMode

from gfnet_dense.apis import sliding_window
from gfnet_dense.apis.sliding_window import labels_of, resized_labels, slide, windows


@pytest.mark.parametrize(
    "length, window, stride, expected",
    [
        (10, 4, 4, [(0, 4), (4, 8), (6, 10)]),
        (10, 4, 3, [(0, 4), (3, 7), (6, 10)]),
        (10, 4, 2, [(0, 4), (2, 6), (4, 8), (6, 10)]),
        (10, 10, 5, [(0, 10)]),
        (3, 10, 5, [(0, 3)]),
        (1, 1, 1, [(0, 1)]),
    ],
)
def test_windows_cover_the_whole_length(length, window, stride, expected):
    assert windows(length, window, stride) == expected


@pytest.mark.parametrize("size", [(40, 50), (33, 64), (16, 16), (9, 70), (47, 13)])
@pytest.mark.parametrize("stride", [(16, 16), (10, 7), (3, 16)])
def test_logits_equal_those_of_mmsegmentation(size, stride):
    """The outputs of the network depend on the position of a pixel in its window."""
    torch.manual_seed(0)
    image = torch.randn(1, 3, *size)
    convolution = torch.nn.Conv2d(3, 5, 3, padding=1)  # zero padding depends on the window

    def encode_decode(crop, metas=None):
        h, w = crop.shape[2:]
        return convolution(crop) + torch.arange(h * w).reshape(h, w) / (h * w)

    model = SimpleNamespace(
        test_cfg=SimpleNamespace(crop_size=(16, 16), stride=stride),
        out_channels=5,
        encode_decode=encode_decode,
    )
    with torch.no_grad():
        expected = EncoderDecoder.slide_inference(model, image, [{}])[0]
        for batch_size in (1, 3):
            bands = list(
                slide(
                    lambda places: torch.cat([encode_decode(image[:, :, y, x]) for y, x in places]),
                    size, (16, 16), stride, batch_size,
                )
            )  # fmt: skip
            assert max(band.shape[1] for band in bands) <= 16
            torch.testing.assert_close(torch.cat(bands, dim=1), expected)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(37, 50), (8, 9), (5, 4), (1, 7), (100, 3)])
@pytest.mark.parametrize("classes", [6, 1])
def test_labels_computed_in_bands_equal_those_of_the_whole_map(
    size, align_corners, classes, monkeypatch
):
    torch.manual_seed(0)
    logits = torch.randn(classes, 8, 9, dtype=torch.float64)
    whole = F.interpolate(logits[None], size, mode="bilinear", align_corners=align_corners)[0]
    expected = labels_of(whole, 0.4)
    assert torch.equal(resized_labels(logits, size, align_corners, 0.4), expected)
    monkeypatch.setattr(sliding_window, "BAND_BYTES", 8 * classes * size[1] * 3)
    assert torch.equal(resized_labels(logits, size, align_corners, 0.4), expected)


class NoFloat64(TorchFunctionMode):
    """Refuse tensors of float64 on the model's device, as MPS does."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.device.type == "meta":
            assert result.dtype != torch.float64, func
        return result


def test_bands_need_no_float64_on_the_device(monkeypatch):
    monkeypatch.setattr(sliding_window, "BAND_BYTES", 4 * 6 * 50 * 3)
    with NoFloat64():
        labels = resized_labels(torch.zeros(6, 8, 9, device="meta"), (37, 50), False)
    assert labels.shape == (37, 50) and labels.device.type == "meta"


def test_labels_need_argmax_for_many_classes_and_a_threshold_for_one():
    assert labels_of(torch.tensor([[[1.0, 2.0]], [[0.0, 3.0]]])).tolist() == [[0, 1]]
    assert labels_of(torch.tensor([[[-1.0, 1.0]]]), 0.5).tolist() == [[0, 1]]
