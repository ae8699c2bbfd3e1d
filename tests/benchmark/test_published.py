import pytest
import torch
import torch.nn.functional as F

from gfnet_dense.benchmark.published import PublishedGFNet
from gfnet_dense.models import GFNet
from gfnet_dense.models.backbones.gfnet import ARCHS
from tests.conftest import TINY
from tests.published import official_state_dict, stage_maps


@pytest.mark.parametrize("img_size", [32, 96])
def test_maps_equal_those_of_the_functional_reference(img_size):
    state = official_state_dict(TINY["dims"], TINY["depths"], img_size)
    x = torch.randn(2, 3, img_size, img_size)
    expected = stage_maps(state, x)
    for i, dim in enumerate(TINY["dims"][:3]):  # new norms; the last map has the official norm
        expected[i] = F.layer_norm(expected[i].movedim(1, -1), (dim,), eps=1e-6).movedim(-1, 1)

    model = PublishedGFNet(TINY, img_size)
    for name in ("weight", "bias"):
        state[f"norm3.{name}"] = state.pop(f"norm.{name}")
        del state[f"head.{name}"]
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and {key[:5] for key in missing} == {"norm0", "norm1", "norm2"}
    for out, want in zip(model(x), expected, strict=True):
        assert out.is_contiguous()
        torch.testing.assert_close(out, want, rtol=0, atol=1e-5)


@pytest.mark.parametrize("arch", ARCHS)
def test_state_dict_has_the_keys_and_shapes_of_gfnet(arch):
    with torch.device("meta"):
        published, ours = PublishedGFNet(arch, 256), GFNet(arch, 256)
    published, ours = published.state_dict(), ours.state_dict()
    assert published.keys() == ours.keys()
    assert all(published[key].shape == ours[key].shape for key in ours)


@pytest.mark.parametrize("img_size", [64, (96, 32)])
def test_outputs_and_gradients_equal_those_of_gfnet(img_size):
    ours = GFNet(TINY, img_size, drop_path_rate=0.0)
    published = PublishedGFNet(TINY, img_size)
    published.load_state_dict(ours.state_dict())
    H, W = (img_size, img_size) if isinstance(img_size, int) else img_size
    x = torch.randn(2, 3, H, W)
    factors = [torch.rand(dim, 1, 1) for dim in TINY["dims"]]
    gradients = []
    outs = [model(x) for model in (ours, published)]
    for model, maps in zip((ours, published), outs, strict=True):
        sum((f * out.square()).sum() for f, out in zip(factors, maps, strict=True)).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    torch.testing.assert_close(outs[0], outs[1], rtol=0, atol=1e-5)
    for name, want in gradients[1].items():
        assert (gradients[0][name] - want).norm() <= 1e-4 * want.norm(), name
