import pytest
import torch
from mmengine.registry import MODELS

import gfnet_dense.models  # noqa: F401 (registers)
from gfnet_dense.utils.errors import InputError
from tests.conftest import needs_operators

pytest.importorskip("mmseg.models")
MEAN, STD = [10.0, 20, 30, 40, 50], [1.0, 2, 4, 8, 16]


def batch_of(inputs, sample):
    return dict(inputs=[inputs], data_samples=[sample])


def normalized(image):
    return torch.stack([(image[c].float() - MEAN[c]) / STD[c] for c in range(5)])


def image():
    return torch.randint(0, 256, (5, 6, 7), dtype=torch.uint8)


def test_segmentation_images_of_any_number_of_bands_are_normalized_and_padded():
    from mmseg.structures import SegDataSample

    settings = dict(type="gfnet_dense.SegDataPreProcessor", mean=MEAN, std=STD, bgr_to_rgb=False)
    built = MODELS.build(dict(settings, test_cfg=dict(size_divisor=8)))
    assert type(built).__name__ == "SegDataPreProcessor"  # the class of mmsegmentation
    assert not built.state_dict()  # so that checkpoints are as with the class of mmsegmentation
    bands = image()
    found = built(batch_of(bands, SegDataSample()), False)["inputs"]
    assert found.shape == (1, 5, 8, 8)
    torch.testing.assert_close(found[0, :, :6, :7], normalized(bands))


@needs_operators
def test_detection_images_of_any_number_of_bands_are_normalized_and_padded():
    import mmdet.models  # noqa: F401 (registers)
    from mmdet.structures import DetDataSample

    settings = dict(type="gfnet_dense.DetDataPreprocessor", mean=MEAN, std=STD)
    built = MODELS.build(dict(settings, pad_size_divisor=32))
    bands = image()
    found = built(batch_of(bands, DetDataSample()), False)["inputs"]
    assert found.shape == (1, 5, 32, 32)
    torch.testing.assert_close(found[0, :, :6, :7], normalized(bands))


def test_the_buffers_go_to_the_device_of_the_model():
    built = MODELS.build(dict(type="gfnet_dense.SegDataPreProcessor", mean=[1] * 4, std=[2] * 4))
    assert built.mean.dtype == torch.float32
    built.to("meta")
    assert built.mean.device.type == built.std.device.type == "meta"


@pytest.mark.parametrize(
    "settings, match",
    [
        (dict(mean=[1, 2, 3, 4], std=[1, 2, 3]), "have a value for each band"),
        (dict(mean=[1, 2, 3, 4], std=[1, 2, 3, 0]), "each std is above 0"),
        (dict(mean=[1] * 4, std=[1] * 4, bgr_to_rgb=True), "for three bands, .* a mean of 4"),
        (dict(mean=[1] * 4, std=[1] * 4, rgb_to_bgr=True), "for three bands, .* a mean of 4"),
    ],
)
def test_wrong_settings_are_refused(settings, match):
    with pytest.raises(InputError, match=match):
        MODELS.build(dict(type="gfnet_dense.SegDataPreProcessor", **settings))
