"""Every input size."""

import math

import torch

from gfnet_dense.models import GFNet
from tests.conftest import TINY

SIZES = range(32, 201)


def sizes(everything):
    """Every height with some width, and the other way round; or all of both."""
    if everything:
        return [(h, w) for h in SIZES for w in SIZES]
    count = len(SIZES)
    return [(SIZES[i], SIZES[(37 * i + 5) % count]) for i in range(count)]  # 37 and 169: coprime


def test_every_size(torture, figure):
    torch.manual_seed(0)
    model = GFNet(TINY, img_size=64).eval()
    tried = sizes(torture)
    assert {h for h, _ in tried} == {w for _, w in tried} == set(SIZES)
    with torch.inference_mode():
        for h, w in tried:
            maps = model(torch.randn(1, 3, h, w))
            for i, (x, dim) in enumerate(zip(maps, TINY["dims"], strict=True)):
                # The stem takes ceil(n / 4) patches, every stage ceil(n / 2) of those before.
                expected = (1, dim, math.ceil(h / (4 * 2**i)), math.ceil(w / (4 * 2**i)))
                assert x.shape == expected, (h, w)
                assert x.isfinite().all(), (h, w)
    figure("input sizes from 32x32 to 200x200, of 28561", len(tried))


def test_mirrored_images_give_mirrored_maps(figure):
    """Where the maths says so: circular filters whose kernels are even, an even patch embedding,
    sizes that need no padding."""
    torch.manual_seed(0)
    model = GFNet({**TINY, "layer_scale_init_value": None}, img_size=64).double().eval()
    model.pos_embed.data.zero_()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("complex_weight"):
                p[..., 1] = 0  # real gains: k(-x) = k(x)
                n = p.shape[0]
                mirrored = p[(-torch.arange(n)) % n]  # and of each axis alone: k(-y, x) = k(y, x)
                p.copy_((p + mirrored) / 2)
            elif "patch_embed" in name and p.dim() == 4:
                p.copy_((p + p.flip(-1) + p.flip(-2) + p.flip(-1, -2)) / 4)
    tried, worst = 0, 0.0
    for h, w in [(32, 32), (64, 96), (96, 160), (128, 32), (192, 160), (160, 192), (192, 192)]:
        x = torch.randn(1, 3, h, w, dtype=torch.float64)
        for dims in ((-1,), (-2,), (-1, -2)):
            with torch.no_grad():
                straight, mirrored = model(x), model(x.flip(dims))
            for a, b in zip(straight, mirrored, strict=True):
                worst = max(worst, float((a.flip(dims) - b).abs().max() / a.abs().max()))
            tried += 1
    assert worst < 1e-10
    figure("mirrored images whose maps are mirrored, largest difference", f"{tried}, {worst:.1e}")
