"""ImageNet stems in models of another number of bands, and weights of several bands."""

import re

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import load_checkpoint

from gfnet_dense import load_backbone
from gfnet_dense.checkpoint.contents import find_weights
from gfnet_dense.checkpoint.convert import convert
from gfnet_dense.checkpoint.loading import load_partly, load_pretrained, load_whole
from gfnet_dense.checkpoint.publish import publish
from gfnet_dense.checkpoint.safe_reader import read_checkpoint
from gfnet_dense.models import GFNet, IsotropicGFNet
from gfnet_dense.utils.errors import InputError
from tests.checkpoint.weights import Messages, tiny_config, tiny_weights
from tests.conftest import TINY
from tests.published import official_isotropic_state_dict, official_state_dict, stage_maps


@pytest.fixture
def official(tmp_path):
    state = official_state_dict(TINY["dims"], TINY["depths"], img_size=64)
    torch.save({"model": state}, tmp_path / "gfnet-h-ti.pth")
    return tmp_path / "gfnet-h-ti.pth", state


def tiny(in_channels=4, rgb_channels=None, **settings):
    return GFNet(TINY, 64, in_channels=in_channels, rgb_channels=rgb_channels, **settings).eval()


def segmentor(in_channels):
    cfg = tiny_config()
    cfg.model.backbone.update(in_channels=in_channels, init_cfg=None)
    cfg.model.data_preprocessor.update(mean=[0], std=[1], bgr_to_rgb=False)
    init_default_scope("mmseg")
    return MODELS.build(cfg.model)


def saved(model, path, prefix=""):
    state = {f"{prefix}{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"state_dict": state, "meta": {}}, path)
    return path


def test_an_official_file_starts_a_model_of_four_bands_and_the_report_says_how(official):
    path, state = official
    model = tiny(4, (2, 1, 0))
    report = load_pretrained(model, path)
    sentence = "; stem: 3 -> 4 channels, RGB at 2, 1, 0, the others from their mean, scaled by 3/4;"
    assert sentence in report and "resized 0; " in report
    image = torch.randn(1, 1, 64, 64)  # gray
    with torch.no_grad():
        found = model(image.expand(-1, 4, -1, -1))
    expected = stage_maps(state, image.expand(-1, 3, -1, -1))
    torch.testing.assert_close(found[3], expected[3], rtol=1e-4, atol=1e-5)


def test_init_cfg_adapts_the_stem_and_another_grid(official):
    path, _ = official
    init_cfg = dict(type="Pretrained", checkpoint=str(path))
    with Messages() as texts:
        GFNet(TINY, 96, in_channels=1, init_cfg=init_cfg).init_weights()
    (report,) = (text for text in texts if "gfnet-h-ti.pth: loaded" in text)
    assert re.search(r"resized \d+ \(filters and position embedding, to the grid 24x24\)", report)
    assert "; stem: 3 -> 1 channels, the sum of red, green and blue; " in report


def test_a_model_of_three_channels_says_nothing_of_the_stem(official):
    assert "stem" not in load_pretrained(tiny(3), official[0])


def test_isotropic_models_adapt_their_stem(tmp_path):
    state = official_isotropic_state_dict(8, 3, img_size=64)
    torch.save({"model": state}, tmp_path / "gfnet-ti.pth")
    model = IsotropicGFNet(dict(dim=8, depth=3), img_size=64, in_channels=13)
    report = load_pretrained(model, tmp_path / "gfnet-ti.pth")
    assert "stem: 3 -> 13 channels, each the mean of red, green and blue (rgb_channels is" in report
    total = state["patch_embed.proj.weight"].sum(1)
    torch.testing.assert_close(model.patch_embed.proj.weight.sum(1), total)


@pytest.mark.parametrize("given, own", [(4, 3), (4, 5), (1, 3)])
def test_a_file_of_another_number_of_bands_is_refused_by_name(given, own, tmp_path):
    path = saved(tiny(given), tmp_path / "bands.pth")
    match = f"bands.pth does not fit: the stem is for images of {given} bands, the backbone has"
    with pytest.raises(InputError, match=match):
        load_pretrained(tiny(own), path)
    whole = saved(segmentor(given), tmp_path / "bands.pth")
    model = segmentor(own)
    weights = find_weights(read_checkpoint(whole), whole, model.state_dict())
    for load in (load_whole, load_partly):
        with pytest.raises(InputError, match=match):
            load(model, weights, whole)
    with pytest.raises(InputError, match=f"for images of {given} bands"):
        load_checkpoint(model, str(whole), "cpu")  # mmengine's, which would only warn


@pytest.mark.parametrize("load", [load_whole, load_partly])
def test_whole_checkpoints_of_three_bands_are_adapted_with_the_report(load, tmp_path):
    path = saved(segmentor(3), tmp_path / "iter_1.pth")
    model = segmentor(4)
    report = load(model, find_weights(read_checkpoint(path), path, model.state_dict()), path)
    assert "; stem: 3 -> 4 channels, each the mean" in report


def test_whole_checkpoints_of_four_bands_are_loaded_unchanged(tmp_path):
    model = segmentor(4)
    state = tiny_weights(model)
    torch.save({"state_dict": state, "meta": {}}, tmp_path / "iter_1.pth")
    content = read_checkpoint(tmp_path / "iter_1.pth")
    report = load_whole(model, find_weights(content, "iter_1.pth", model.state_dict()), "iter_1")
    assert "stem" not in report and "new: nothing; not used: nothing" in report
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, state[name], rtol=0, atol=0)


def test_the_stem_of_a_model_inside_another_one_is_described(official):
    outer = torch.nn.Module()
    outer.student = torch.nn.Module()
    outer.student.backbone = tiny(4, (0, 1, 2))
    source = tiny(3)
    state = {f"student.backbone.{n}": t for n, t in source.state_dict().items()}
    report = load_whole(outer, find_weights(state, "a.pth", outer.state_dict()), "a.pth")
    assert "; stem: 3 -> 4 channels, RGB at 0, 1, 2" in report


def test_a_backbone_is_built_from_a_file_of_any_number_of_bands(tmp_path):
    for model in (tiny(6), IsotropicGFNet(dict(dim=8, depth=4), img_size=64, in_channels=2).eval()):
        path = saved(model, tmp_path / "iter_4.pth", "backbone.")
        built = load_backbone(path)
        assert built.in_channels == model.in_channels
        x = torch.randn(1, model.in_channels, 64, 64)
        with torch.no_grad():
            torch.testing.assert_close(built(x)[-1], model(x)[-1], rtol=0, atol=0)


@pytest.mark.parametrize("to", ["official", "ours"])
def test_converted_weights_keep_their_bands_and_it_is_said(to, tmp_path):
    source = saved(tiny(4), tmp_path / "four.pth")
    with Messages() as texts:
        target = convert(source, tmp_path / "out.pth", to, 96, "trigonometric")
    assert any("four.pth; the stem stays for images of 4 bands, official mo" in t for t in texts)
    model = GFNet(TINY, 96, in_channels=4)
    assert "stem" not in load_pretrained(model, target)
    assert torch.equal(model.patch_embed[0].proj.weight, tiny_stem(source))


def tiny_stem(path):
    return read_checkpoint(path)["state_dict"]["patch_embed.0.proj.weight"]


def test_published_weights_keep_their_bands(tmp_path):
    source = saved(tiny(5), tmp_path / "five.pth")
    published = publish(source, tmp_path / "out.pth")
    assert torch.equal(tiny_stem(published), tiny_stem(source))
