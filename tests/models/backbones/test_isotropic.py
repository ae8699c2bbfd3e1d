import pytest
import torch

from gfnet_dense.checkpoint.loading import load_pretrained
from gfnet_dense.models import IsotropicGFNet
from gfnet_dense.utils.errors import InputError
from tests.published import isotropic_map, official_isotropic_state_dict

TINY = dict(dim=16, depth=4)


def tiny(**kwargs):
    return IsotropicGFNet(TINY, img_size=kwargs.pop("img_size", 64), **kwargs)


@pytest.mark.parametrize(
    "arch, millions", [("tiny", 7), ("xsmall", 16), ("small", 25), ("base", 43)]
)
def test_number_of_parameters_equals_the_published_number(arch, millions):
    """Counted with the classifier, for images of 224 x 224 (paper, table 1)."""
    model = IsotropicGFNet(arch)
    total = sum(p.numel() for p in model.parameters()) + (model.dim + 1) * 1000
    assert abs(total / 1e6 - millions) < 1  # published as whole millions


def test_official_file_gives_the_published_map_and_can_be_resized(tmp_path):
    state = official_isotropic_state_dict(**TINY, img_size=64)
    torch.save({"model": state}, tmp_path / "gfnet-ti.pth")
    model = tiny().eval()
    report = load_pretrained(model, str(tmp_path / "gfnet-ti.pth"))
    total = len(model.state_dict())
    assert f"loaded {total} of {total} tensors; resized 0; new: nothing; not used: no" in report
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(model(x)[0], isotropic_map(state, x), rtol=0, atol=1e-5)

    native = tiny(img_size=(96, 80)).eval()
    report = load_pretrained(native, str(tmp_path / "gfnet-ti.pth"))
    assert "resized 5 (filters and position embedding, to the grid 6x5)" in report
    x = torch.randn(1, 3, 96, 80)
    torch.testing.assert_close(native(x)[0], model(x)[0], rtol=1e-4, atol=1e-4)


def test_weights_of_another_depth_are_refused(tmp_path):
    torch.save({"model": official_isotropic_state_dict(16, 6, img_size=64)}, tmp_path / "x.pth")
    with pytest.raises(InputError, match="expected dims 16 and depths 4, found dims 16 and depths"):
        load_pretrained(tiny(), str(tmp_path / "x.pth"))
    with pytest.raises(InputError, match="another arch"):  # even if the model has fewer blocks
        load_pretrained(tiny(out_indices=(1,)), str(tmp_path / "x.pth"))


@pytest.mark.parametrize("size", [(32, 32), (33, 95), (160, 64)])
def test_any_image_size_and_output_depth_give_maps_and_gradients(size):
    model = tiny(out_indices=(0, 2), drop_path_rate=0.0)
    assert len(model.blocks) == 3
    outs = model(torch.randn(2, 3, *size))
    for out in outs:
        assert out.shape == (2, 16, -(-size[0] // 16), -(-size[1] // 16))
    sum(out.square().mul(torch.rand_like(out)).sum() for out in outs).backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())


def test_frozen_blocks_are_not_trainable_and_stay_in_eval_mode():
    model = tiny(frozen_stages=2).train()
    trained = {name.split(".")[1] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {"2", "3", "weight", "bias"}  # blocks 2 and 3, and the norm of the output
    assert not model.blocks[1].training and model.blocks[2].training
