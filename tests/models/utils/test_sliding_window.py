from types import SimpleNamespace

import pytest
import torch
from mmseg.models.segmentors import EncoderDecoder

from gfnet_dense.models.utils.sliding_window import slide, windows


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
