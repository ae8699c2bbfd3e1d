import pytest
import torch

from gfnet_dense.models import GFNet, IsotropicGFNet
from gfnet_dense.models.utils.stem import describe_expansion, expand
from gfnet_dense.utils.errors import InputError
from tests.conftest import TINY

FLAT = dict(dim=8, depth=2)


def built(in_channels=3, rgb_channels=None, cls=GFNet, arch=TINY):
    model = cls(arch, img_size=64, in_channels=in_channels, rgb_channels=rgb_channels)
    return model.eval()


def colors():
    return torch.arange(1.0, 2 * 3 * 4 + 1).reshape(2, 3, 2, 2) ** 2


def test_bands_take_their_color_or_the_mean_scaled_by_three_over_their_number():
    weight = colors()
    red, green, blue = weight.unbind(1)
    mean = (red + green + blue) / 3
    found = expand(weight, 5, (3, 0, 4))
    expected = torch.stack([green, mean, mean, red, blue], 1) * 3 / 5
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(expand(weight, 5, None), torch.stack([mean] * 5, 1) * 3 / 5)
    torch.testing.assert_close(expand(weight, 1, None)[:, 0], red + green + blue)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("count, places", [(1, None), (2, None), (4, (2, 1, 0)), (13, (3, 2, 1))])
def test_the_response_to_gray_stays(count, places, dtype):
    weight = torch.randn(16, 3, 4, 4).to(dtype)
    found = expand(weight, count, places)
    assert found.dtype == dtype and found.shape == (16, count, 4, 4)
    tolerance = 4 * count * torch.finfo(dtype).eps  # each weight is rounded once
    total = found.double().sum(1) - weight.double().sum(1)
    assert total.abs().max() <= tolerance * weight.abs().max()


@pytest.mark.parametrize("cls, arch", [(GFNet, TINY), (IsotropicGFNet, FLAT)])
@pytest.mark.parametrize("count", [1, 2, 4, 12, 13])
def test_gray_images_have_the_same_features_in_every_number_of_bands(cls, arch, count):
    three, other = built(cls=cls, arch=arch), built(count, cls=cls, arch=arch)
    other.load_state_dict(three.state_dict())  # by torch's own loader
    gray = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        expected = three(gray.expand(-1, 3, -1, -1))
        found = other(gray.expand(-1, count, -1, -1))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cls, arch", [(GFNet, TINY), (IsotropicGFNet, FLAT)])
def test_features_stay_if_the_fourth_band_and_its_weights_are_zero(cls, arch):
    three, four = built(cls=cls, arch=arch), built(4, cls=cls, arch=arch)
    state = three.state_dict()
    name = next(name for name in state if name.endswith("proj.weight"))
    state[name] = torch.cat([state[name], torch.zeros_like(state[name][:, :1])], 1)
    four.load_state_dict(state)
    image = torch.randn(2, 3, 70, 90)
    with torch.no_grad():
        expected = three(image)
        found = four(torch.cat([image, torch.zeros_like(image[:, :1])], 1))
        changed = four(torch.cat([image, torch.ones_like(image[:, :1])], 1))
    for each, same, other in zip(expected, found, changed, strict=True):
        torch.testing.assert_close(same, each)
        torch.testing.assert_close(other, each)  # whatever the band holds


def test_rgb_channels_name_the_places_of_the_colors_in_the_model():
    three, four = built(), built(4, (2, 1, 0))
    four.load_state_dict(three.state_dict())
    image = torch.randn(1, 3, 64, 64)
    mean = image.mean(1, keepdim=True)
    weight = three.patch_embed[0].proj.weight
    bands = torch.cat([image.flip(1), mean], 1)
    with torch.no_grad():
        found = four.patch_embed[0](bands)
        other = torch.nn.functional.conv2d(mean, weight.mean(1, keepdim=True), stride=4)
        expected = 0.75 * (torch.nn.functional.conv2d(image, weight, stride=4) + other)
    bias = three.patch_embed[0].proj.bias[:, None, None]
    torch.testing.assert_close(found.permute(0, 3, 1, 2), expected + bias, rtol=1e-4, atol=1e-5)


def test_weights_of_as_many_bands_are_loaded_unchanged():
    source, model = built(4), built(4, (2, 1, 0))
    model.load_state_dict(source.state_dict())
    for name, tensor in source.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name


@pytest.mark.parametrize("given, own", [(4, 3), (4, 5), (1, 3), (13, 4)])
def test_a_stem_of_another_number_of_bands_is_refused(given, own):
    state = built(given).state_dict()
    match = f"for images of {given} bands, .* in_channels={own}: set in_channels={given}"
    with pytest.raises(InputError, match=match):
        built(own).load_state_dict(state, strict=False)  # mmengine's loader would only warn


@pytest.mark.parametrize("count", [0, -1, 3.0, "4", True, None])
def test_other_numbers_of_channels_are_refused(count):
    with pytest.raises(InputError, match="in_channels is an integer above 0, got"):
        built(count)


@pytest.mark.parametrize(
    "places",
    [
        (0, 1),
        (0, 1, 2, 3),
        (0, 1, 1),
        (0, 1, 2, 2),
        (1, 2, 4),
        (-1, 0, 1),
        5,
        "012",
        ([0], 1, 2),
        (),
    ]
    + [(0.0, 1, 2), (True, 0, 2)],
)
def test_other_places_of_the_colors_are_refused(places):
    with pytest.raises(InputError, match=r"three different numbers within 0\.\.3, got"):
        built(4, places)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_places_in_up_to_three_bands_are_refused(count):
    with pytest.raises(InputError, match=f"above 3, got .* with {count}: .* bgr_to_rgb"):
        built(count, (2, 1, 0))


def test_the_expansion_is_described():
    text = describe_expansion(4, (2, 1, 0))
    assert text == "3 -> 4 channels, RGB at 2, 1, 0, the others from their mean, scaled by 3/4"
    assert describe_expansion(1, None) == "3 -> 1 channels, the sum of red, green and blue"
    assert "(rgb_channels is not set), scaled by 3/6" in describe_expansion(6, None)
