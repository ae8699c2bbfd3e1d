import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from PIL import Image
from torch import nn

from gfnet_dense.models import GFNet, backbones
from gfnet_dense.models.backbones.base import FilterBackbone
from gfnet_dense.utils.channels import (
    BACKBONES,
    Channels,
    channels_of,
    image_channels,
    read_shown,
    shown_input,
)
from gfnet_dense.utils.errors import InputError
from tests.conftest import TINY


def bands(count, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 256, (6, 8, count)).astype(dtype)


def test_pictures_show_red_green_and_blue():
    image = bands(6)
    assert np.array_equal(Channels(6, (4, 0, 2)).shown(image), image[..., [4, 0, 2]])
    assert np.array_equal(Channels(6).shown(image), image[..., :3])


@pytest.mark.parametrize("count", [1, 2])
def test_pictures_of_fewer_bands_show_the_first_one_as_gray(count):
    image = bands(count)
    assert np.array_equal(Channels(count).shown(image), image[..., [0, 0, 0]])


def test_values_that_are_not_of_8_bits_are_stretched():
    ramp = np.arange(100, dtype=np.float32).reshape(10, 10, 1) * 37 - 500
    picture = Channels(4, (0, 1, 2)).shown(ramp.repeat(4, axis=2))
    assert picture.dtype == np.uint8 and picture.shape == (10, 10, 3)
    low, high = 0.02 * 99, 0.98 * 99  # places of the percentiles
    expected = np.rint(255 * ((np.arange(100) - low) / (high - low)).clip(0, 1))
    assert np.abs(picture[..., 0].ravel() - expected).max() <= 1
    assert picture.min() == 0 and picture.max() == 255
    flat = Channels(4).shown(np.full((3, 3, 4), 7.5, np.float32))
    assert (flat == 0).all()


def test_an_input_of_three_bands_is_blue_green_red():
    image = bands(3)
    for given in (image, image.astype(np.float32)):
        assert np.array_equal(shown_input(given, Channels(3)), image[..., ::-1])
        assert np.array_equal(shown_input(given, None), image[..., ::-1])
    image = bands(4)
    assert np.array_equal(shown_input(image, Channels(4, (2, 1, 0))), image[..., [2, 1, 0]])


def test_the_bands_of_models_and_configs():
    backbone = GFNet(TINY, img_size=64, in_channels=4, rgb_channels=[2, 1, 0])
    model, augmented, distributed = nn.Module(), nn.Module(), nn.Module()
    model.backbone, augmented.module, distributed.module = backbone, model, augmented
    for each in (backbone, model, augmented, distributed):
        assert channels_of(each) == Channels(4, (2, 1, 0)) and image_channels(each) == 4
    settings = dict(type="gfnet_dense.GFNet", in_channels=4, rgb_channels=[2, 1, 0])
    for config in (dict(backbone=settings), dict(module=dict(backbone=settings))):
        assert channels_of(ConfigDict(config)) == Channels(4, (2, 1, 0))
    assert channels_of(dict(backbone=dict(type=GFNet))) == Channels(3, None)  # a lazy config


def test_all_backbones_of_this_project_are_known():
    kinds = [kind for kind in vars(backbones).values() if isinstance(kind, type)]
    assert len(kinds) >= 3 and all(issubclass(kind, FilterBackbone) for kind in kinds)
    assert {kind.__name__ for kind in kinds} == set(BACKBONES)
    for kind in kinds:
        settings = dict(type=f"gfnet_dense.{kind.__name__}", in_channels=5)
        assert channels_of(dict(backbone=settings)) == Channels(5)


def test_models_with_other_backbones_are_not_known():
    assert channels_of(nn.Linear(2, 2)) is None and image_channels(nn.Linear(2, 2)) == 3
    model = nn.Module()
    model.backbone = nn.Module()
    model.backbone.in_channels = (512, 2048)  # as of mmsegmentation's ICNet
    assert channels_of(model) is None and image_channels(model) == 3
    assert channels_of(None) is None
    for backbone in (dict(type="ResNet", in_channels=4), None):
        assert channels_of(dict(backbone=backbone)) is None
    assert channels_of(ConfigDict(type="Toy")) is None


def test_files_are_shown_by_the_bands_of_the_model(tmp_path):
    image = bands(4)
    Image.fromarray(image).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", image)
    for path in (tmp_path / "a.png", tmp_path / "a.npy"):
        picture = read_shown(path, {}, Channels(4, (3, 1, 0)))
        assert np.array_equal(picture, image[..., [3, 1, 0]])
    assert np.array_equal(read_shown(tmp_path / "a.png", {}, None), image[..., :3])  # the rule
    assert np.array_equal(read_shown(tmp_path / "a.png", {}, Channels(3)), image[..., :3])
    with pytest.raises(InputError, match="NumPy file"):
        read_shown(tmp_path / "a.npy", {}, Channels(3))


def test_a_palette_image_of_a_gray_model_is_shown(tmp_path):
    Image.fromarray(bands(3)).convert("P").save(tmp_path / "a.png")
    assert read_shown(tmp_path / "a.png", {}, Channels(1)).shape == (6, 8, 3)


def test_a_bare_backbone_takes_its_own_number_of_bands():
    backbone = GFNet(TINY, img_size=64, in_channels=7).eval()
    with torch.no_grad():
        assert [y.shape[2] for y in backbone(torch.zeros(1, image_channels(backbone), 64, 64))]


def test_flops_are_counted_for_images_of_the_models_bands():
    from gfnet_dense.benchmark.complexity import count_flops

    three, five = (GFNet(TINY, img_size=64, in_channels=count) for count in (3, 5))
    more = count_flops(five, (64, 64)).total - count_flops(three, (64, 64)).total
    assert more == 2 * 16 * 16 * 8 * 4 * 4  # two bands more in the first convolution
