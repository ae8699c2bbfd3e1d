"""Images of any number of bands in predict, as files and as arrays."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from PIL import Image

from gfnet_dense.apis.inference import predict
from gfnet_dense.apis.reading import reader_of
from gfnet_dense.utils.errors import InputError

pytest.importorskip("mmseg")
import gfnet_dense.datasets  # noqa: E402, F401 (registers)

NUM_CLASSES = 100


class LastBand:
    """A segmentor of five bands whose class at a pixel is the value of the last band."""

    align_corners = False
    decode_head = SimpleNamespace()
    dataset_meta = dict(classes=[str(i) for i in range(NUM_CLASSES)])
    backbone = SimpleNamespace(in_channels=5, rgb_channels=(4, 2, 0))
    pipeline = [dict(type="gfnet_dense.LoadImageBands"), dict(type="PackSegInputs")]

    def __init__(self):
        dataset = dict(pipeline=self.pipeline)
        self.cfg = ConfigDict(default_scope="mmseg", test_dataloader=dict(dataset=dataset))

    def parameters(self):
        yield torch.zeros(1)

    def data_preprocessor(self, data, training):
        return {"inputs": torch.stack(data["inputs"]), "data_samples": data["data_samples"]}

    def encode_decode(self, inputs, metas):
        assert inputs.shape[1] == 5
        return F.one_hot(inputs[:, -1].long(), NUM_CLASSES).permute(0, 3, 1, 2).float()

    inference = encode_decode


def image(dtype=np.uint8, count=5):
    return np.random.default_rng(0).integers(0, NUM_CLASSES, (12, 15, count)).astype(dtype)


@pytest.mark.parametrize("window", [None, (5, 6)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64, np.float32])
def test_files_and_arrays_of_all_bands_are_predicted_in_their_order(dtype, window, tmp_path):
    bands = image(dtype)
    np.save(tmp_path / "a.npy", bands)
    for each in predict(LastBand(), [bands, tmp_path / "a.npy"], window=window):
        assert np.array_equal(each.pred_sem_seg.data[0].numpy(), bands[..., -1])


def test_files_and_arrays_of_another_number_of_bands_are_refused(tmp_path):
    Image.fromarray(image(count=4)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="a.png has 4 bands, the model takes 5"):
        list(predict(LastBand(), [tmp_path / "a.png"]))
    with pytest.raises(InputError, match="an array has 3 bands, the model takes 5"):
        list(predict(LastBand(), [image(count=3)]))


@pytest.mark.parametrize(
    "array", [image()[..., 0], image(bool), image(complex), image()[:0], np.full((2, 2, 5), "a")]
)
def test_arrays_of_other_kinds_are_refused(array):
    with pytest.raises(InputError, match=r"an array \(H, W, bands\) of numbers, got an array"):
        list(predict(LastBand(), [array]))
    with pytest.raises(InputError, match=r"\(H, W, bands\) of numbers, got an object"):
        list(predict(LastBand(), [torch.zeros(2, 2, 5)[None]]))


def test_pictures_show_red_green_and_blue():
    reader = reader_of(LastBand())
    assert np.array_equal(reader.shown(image()), image()[..., [4, 2, 0]])
    assert np.array_equal(reader.loaded(image()), image())


def test_a_model_of_three_colors_is_read_as_before(tmp_path):
    class Color(LastBand):
        pipeline = [dict(type="LoadImageFromFile"), dict(type="PackSegInputs")]
        backbone = SimpleNamespace()

    reader, photo = reader_of(Color()), image(count=3)
    Image.fromarray(image(count=4)).save(tmp_path / "a.png")
    assert np.array_equal(reader.read(tmp_path / "a.png"), image(count=4)[..., :3])  # no alpha
    assert np.array_equal(reader.loaded(photo), photo[..., ::-1])
    assert np.array_equal(reader.shown(photo), photo)
    with pytest.raises(InputError, match=r"\(H, W, 3\) of uint8, RGB, got an array \(12, 15, 4\)"):
        reader.read(image(count=4))
