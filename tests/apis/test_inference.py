"""Predictions of a segmentor whose logits are known: a pixel's class is its red value."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from PIL import Image

from gfnet_dense.apis.inference import predict
from gfnet_dense.utils.errors import InputError

pytest.importorskip("mmseg")
NUM_CLASSES = 200


class KnownSegmentor:
    """Pads images, and classifies each of their pixels by its red value.

    Args:
        padding: (left, right, top, bottom) that is put around the images.
        name: Under which the samples' meta information says so.
    """

    align_corners = False
    decode_head = SimpleNamespace()
    cfg = ConfigDict(
        default_scope="mmseg",
        test_dataloader=dict(
            dataset=dict(pipeline=[dict(type="LoadImageFromFile"), dict(type="PackSegInputs")])
        ),
    )

    def __init__(self, padding=(0, 0, 0, 0), name="img_padding_size"):
        self.padding, self.name, self.seen = padding, name, []

    def parameters(self):
        yield torch.zeros(1)  # on the CPU

    def data_preprocessor(self, data, training):
        assert not training
        for sample in data["data_samples"]:
            sample.set_metainfo({self.name: self.padding})
        inputs = [F.pad(each, self.padding, value=NUM_CLASSES - 1) for each in data["inputs"]]
        return {"inputs": torch.stack(inputs), "data_samples": data["data_samples"]}

    def encode_decode(self, inputs, metas):
        self.seen.append(inputs)
        red = inputs[:, 2].long()  # BGR
        return F.one_hot(red, NUM_CLASSES).permute(0, 3, 1, 2).float()

    inference = encode_decode


def image_of(red):
    return np.stack([red, red * 0, red * 0], axis=-1).astype(np.uint8)


def labels(height, width):
    """Return classes of which no row and no column is like another."""
    return np.random.default_rng(0).integers(0, NUM_CLASSES - 1, (height, width))


@pytest.mark.parametrize("name", ["img_padding_size", "padding_size"])
@pytest.mark.parametrize("padding", [(3, 5, 1, 7), (0, 9, 0, 4), (6, 0, 2, 0), (0, 0, 0, 0)])
def test_each_side_of_a_padding_is_taken_off_where_it_was_put(padding, name):
    expected = labels(20, 31)
    model = KnownSegmentor(padding, name)
    (sample,) = predict(model, [image_of(expected)])
    left, right, top, bottom = padding
    assert model.seen[0].shape == (1, 3, 20 + top + bottom, 31 + left + right)
    assert np.array_equal(sample.pred_sem_seg.data[0].numpy(), expected)


def test_the_padding_of_windows_below_and_to_the_right_is_taken_off():
    expected = labels(40, 50)
    model = KnownSegmentor((0, 5, 0, 3))
    (sample,) = predict(model, [image_of(expected)], window=(16, 24), stride=(16, 24))
    assert {tuple(x.shape) for x in model.seen} == {(1, 3, 19, 29)}
    assert np.array_equal(sample.pred_sem_seg.data[0].numpy(), expected)


@pytest.mark.parametrize(
    "window, rows, columns",
    [
        ((30, 48), [0, 20, 40, 60, 70], [0, 32, 64, 82]),
        ((100, 130), [0], [0]),
        ((50, 100), [0, 33, 50], [0, 30]),  # by 33 and 66
        ((200, 31), [0], [0, 20, 40, 60, 80, 99]),
    ],
)
def test_windows_are_two_thirds_of_a_window_apart_by_default(window, rows, columns):
    """The corner of each window tells where it is."""
    y, x = np.mgrid[:100, :130].astype(np.uint8)
    model = KnownSegmentor()
    list(predict(model, [np.stack([y, x, 0 * x], axis=-1)], window=window))
    corners = [(int(x[0, 2, 0, 0]), int(x[0, 1, 0, 0])) for x in model.seen]
    assert corners == [(row, column) for row in rows for column in columns]


def test_the_smallest_windows_are_a_pixel_apart_by_default():
    model = KnownSegmentor()
    list(predict(model, [image_of(labels(2, 3))], window=(1, 1)))
    assert len(model.seen) == 6


def with_loading(**settings):
    model = KnownSegmentor()
    loading = dict(type="mmcv.LoadImageFromFile", **settings)
    pipeline = [loading, dict(type="PackSegInputs")]
    model.cfg = ConfigDict(
        default_scope="mmseg", test_dataloader=dict(dataset=dict(pipeline=pipeline))
    )
    return model


@pytest.mark.parametrize("to_float32", [False, True])
def test_images_are_floats_where_the_config_loads_them_as_floats(to_float32):
    model = with_loading(to_float32=to_float32)
    list(predict(model, [image_of(labels(4, 5))]))
    assert model.seen[0].is_floating_point() == to_float32


@pytest.mark.parametrize("color_type", ["unchanged", "grayscale", "color_ignore_orientation"])
def test_configs_that_load_images_in_another_way_are_refused(color_type):
    with pytest.raises(InputError, match=f"with color_type='{color_type}', and .*tools/test.py"):
        list(predict(with_loading(color_type=color_type), [image_of(labels(4, 5))]))


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 5, 3), np.uint16), np.zeros((4, 5, 3), np.float32), np.zeros((4, 5), np.uint8),
     np.zeros((4, 5, 4), np.uint8), np.zeros((0, 5, 3), np.uint8)],
)  # fmt: skip
def test_arrays_of_another_shape_or_dtype_are_refused(array):
    with pytest.raises(InputError, match=r"is an array \(H, W, 3\) of uint8, RGB, got"):
        list(predict(KnownSegmentor(), [array]))


@pytest.mark.parametrize(
    "settings",
    [
        dict(window=(16, 16), stride=(17, 16)),
        dict(window=(16, 16), stride=(0, 16)),
        dict(window=(0, 16)),
        dict(window=16),
        dict(window=(16, 16), stride=8),
        dict(batch_size=0),
        dict(batch_size=1.5),
    ],
)
def test_windows_with_gaps_and_impossible_batches_are_refused(settings):
    with pytest.raises(InputError, match="window and stride are sizes|batch_size is an integer"):
        list(predict(KnownSegmentor(), [np.zeros((32, 32, 3), np.uint8)], **settings))


@pytest.mark.parametrize("batch_size", [2, 3, 100])
def test_windows_of_a_row_are_predicted_together(batch_size):
    """Windows differ from each other in what they see; the last batch of a row is smaller."""
    expected, model = labels(40, 61), KnownSegmentor((0, 5, 0, 3))
    settings = dict(window=(16, 24), stride=(12, 10), batch_size=batch_size)
    (sample,) = predict(model, [image_of(expected)], **settings)
    in_a_row = {2: [2, 2, 1], 3: [3, 2], 100: [5]}[batch_size]
    assert [len(each) for each in model.seen] == in_a_row * 3
    assert {tuple(x.shape[1:]) for x in model.seen} == {(3, 19, 29)}
    assert np.array_equal(sample.pred_sem_seg.data[0].numpy(), expected)


@pytest.mark.parametrize(
    "amp, message",
    [
        ("half", "mixed precision is one of auto, float16, bfloat16, got 'half'"),
        ("float16", "mixed precision in float16 needs a GPU: on a CPU take bfloat16, or none"),
    ],
)
@pytest.mark.parametrize("window", [None, (16, 16)])
def test_mixed_precision_that_the_device_does_not_have_is_refused(amp, message, window):
    with pytest.raises(InputError, match=message):
        list(predict(KnownSegmentor(), [image_of(labels(20, 30))], window=window, amp=amp))


@pytest.mark.parametrize("images", ["a.png", Path("a.png"), np.zeros((8, 8, 3), np.uint8)])
def test_a_single_image_is_told_from_a_list(images):
    with pytest.raises(InputError, match=r"for a single image, too: predict\(model, \[image\]\)"):
        list(predict(KnownSegmentor(), images))


@pytest.mark.parametrize("window", [None, (4, 4)])
def test_samples_name_their_file(window, tmp_path):
    array = image_of(labels(4, 5))
    Image.fromarray(array).save(tmp_path / "photo.png")
    images = [str(tmp_path / "photo.png"), tmp_path / "photo.png", array]
    names = [sample.img_path for sample in predict(KnownSegmentor(), images, window=window)]
    assert names == [str(tmp_path / "photo.png")] * 2 + [""]
