"""All input sizes from 32x32 to 200x200."""

import math

import pytest
import torch

from gfnet_dense.models import GFNet
from tests.conftest import TINY

SIZES = range(32, 201)


def sizes(everything):
    """Return all pairs of height and width, or pairs with each height and each width once."""
    if everything:
        return [(h, w) for h in SIZES for w in SIZES]
    count = len(SIZES)
    return [(SIZES[i], SIZES[(37 * i + 5) % count]) for i in range(count)]  # 37 and 169: coprime


def test_every_input_size_gives_finite_maps_of_the_right_shape(torture, figure):
    """The implementations with and without gradients agree."""
    torch.manual_seed(0)
    model = GFNet(TINY, img_size=64).eval()
    tried = sizes(torture)
    assert {h for h, _ in tried} == {w for _, w in tried} == set(SIZES)
    differences = {}
    for number, (h, w) in enumerate(tried):
        x = torch.randn(1, 3, h, w)
        with torch.no_grad():
            maps = model(x)
        for i, (a, dim) in enumerate(zip(maps, TINY["dims"], strict=True)):
            # The stem makes ceil(n / 4) patches, each later stage ceil(n / 2) of the stage before.
            expected = (1, dim, math.ceil(h / (4 * 2**i)), math.ceil(w / (4 * 2**i)))
            assert a.shape == expected, (h, w)
            assert a.isfinite().all(), (h, w)
        if not torture or number % 11 == 0:  # in full: each height with 15 widths or more
            with_gradients = [y.detach() for y in model(x)]
            pairs = zip(maps, with_gradients, strict=True)
            differences[h, w] = max(float((a - b).norm() / b.norm()) for a, b in pairs)
    assert all(difference < 1e-5 for difference in differences.values())
    figure("input sizes from 32x32 to 200x200, of 28561", len(tried))
    figure("with gradients as well, largest difference",
           f"{len(differences)}, {max(differences.values()):.1e}")  # fmt: skip


@pytest.mark.parametrize(
    "stages, multiple", [(1, 4), (2, 8), (4, 32)], ids=["stage 1", "stages 1-2", "all stages"]
)
def test_mirrored_images_give_mirrored_maps(stages, multiple, torture, figure):
    """Maps are mirrored if filters are circular with even kernels, patch embeddings are even, and
    sizes need no padding. The sizes of the last maps are both even and odd."""
    torch.manual_seed(0)
    arch = dict(dims=TINY["dims"][:stages], depths=TINY["depths"][:stages])
    arch |= dict(layer_scale_init_value=None)
    model = GFNet(arch, img_size=64, out_indices=range(stages)).double().eval()
    model.pos_embed.data.zero_()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("complex_weight"):
                p[..., 1] = 0  # real gains: k(-x) = k(x)
                n = p.shape[0]
                mirrored = p[(-torch.arange(n)) % n]  # even along each axis: k(-y, x) = k(y, x)
                p.copy_((p + mirrored) / 2)
            elif "patch_embed" in name and p.dim() == 4:
                p.copy_((p + p.flip(-1) + p.flip(-2) + p.flip(-1, -2)) / 4)
    sides = range(32, 201, multiple)
    step = 1 if torture else 5
    tried = [(h, w) for h in sides for w in sides][::step]
    differences = []
    for h, w in tried:
        x = torch.randn(1, 3, h, w, dtype=torch.float64)
        for dims in ((-1,), (-2,), (-1, -2)):
            with torch.no_grad():
                straight, mirrored = model(x), model(x.flip(dims))
            for a, b in zip(straight, mirrored, strict=True):
                differences.append(float((a.flip(dims) - b).abs().max() / a.abs().max()))
    assert all(difference < 1e-10 for difference in differences)
    figure(f"mirrored images of sizes that are multiples of {multiple}, largest difference",
           f"{len(tried)}, {max(differences):.1e}")  # fmt: skip
