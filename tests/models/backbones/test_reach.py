"""How far the filters of a stack reach, which README and pages tell."""

import pytest
import torch
from torch import nn

from gfnet_dense import GFNet, GlobalFilter
from gfnet_dense.models.layers.block import Block
from tests.conftest import ROOT


def reach(depths, img_size=224):
    """Return the pixels to each side that blocks of GFNet-H reach, from kernel sizes and strides.

    A kernel of n positions, in the middle of which is the position itself, has n // 2 to each side:
    for even n the outermost position is half on the one side, half on the other.
    """
    strides = [4 * 2**i for i in range(len(depths))]
    sizes = [img_size // stride for stride in strides]
    return sum(d * (n // 2) * s for d, n, s in zip(depths, sizes, strides, strict=True))


@pytest.mark.parametrize("img_size", [224, 96])
@pytest.mark.parametrize("depths", [(1, 1, 1, 1), (2, 1), (1,)])
def test_gradients_reach_as_far_as_kernels_and_strides_add_up_to(depths, img_size):
    arch = dict(dims=[4] * len(depths), depths=depths)
    network = GFNet(arch, img_size=img_size, out_indices=[len(depths) - 1]).double().eval()
    for module in network.modules():
        if isinstance(module, Block):  # what is left is linear: x + filter(x)
            module.norm1 = module.norm2 = module.mlp = nn.Identity()
            module.gamma = None
        if isinstance(module, GlobalFilter):  # all positions of the kernel have the same weight
            n = module.complex_weight.shape[0]
            kernel = torch.ones(n, n, 4, dtype=torch.float64)
            spectrum = torch.view_as_real(torch.fft.rfft2(kernel, dim=(0, 1)))
            module.complex_weight.data.copy_(spectrum)
    cell = 4 * 2 ** (len(depths) - 1)  # pixels of a position of the output
    position = reach(depths, img_size) // cell + 2
    width = cell * (2 * position + 1)
    x = torch.zeros(1, 3, cell, width, dtype=torch.float64, requires_grad=True)
    out = network(x)[-1]
    (gradient,) = torch.autograd.grad(out[0, 1, 0, position], x)
    size = gradient.abs().amax(dim=(0, 1, 2))
    columns = (size > 1e-12 * size.max()).nonzero().flatten().tolist()
    first, last = cell * position, cell * position + cell - 1
    assert (first - columns[0], columns[-1] - last) == (reach(depths, img_size),) * 2


@pytest.mark.parametrize("arch, pixels", [("h-tiny", 2080), ("h-small", 2080), ("h-base", 3984)])
def test_reach_that_the_pages_tell(arch, pixels):
    with torch.device("meta"):
        depths = GFNet(arch).built_depths
    assert reach(depths) == pixels
    for page in ("README.md", "docs/resizing.md", "gfnet_dense/models/backbones/gfnet.py"):
        assert f"{pixels} " in (ROOT / page).read_text()
