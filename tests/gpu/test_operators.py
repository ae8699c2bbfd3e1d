"""The operator of the global filter on a GPU."""

import pytest
import torch

from gfnet_dense.models import GFNet
from tests.conftest import TINY

FILTER = torch.ops.gfnet_dense.spectral_filter.default


@pytest.mark.parametrize("fft_size", [(8, 6), (12, 9)])
def test_filter_passes_the_checks_of_torch_library(device, fft_size):
    x = torch.randn(2, 8, 6, 3, device=device).permute(0, 3, 1, 2).requires_grad_()
    response = torch.fft.rfft2(torch.randn(3, *fft_size, device=device))  # cuFFT takes no other
    response = torch.view_as_real(response).contiguous().requires_grad_()
    torch.library.opcheck(FILTER, (x, response, fft_size, True))


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_the_compiled_backbone_gives_the_same_maps_and_gradients(mode):
    """The second mode captures CUDA graphs, in which nothing may wait for the GPU."""
    model = GFNet(TINY, img_size=64).cuda().train()
    x = torch.randn(2, 3, 96, 128, device="cuda")
    results = []
    model(x)  # makes the resizing matrices outside of the graphs' memory
    compiled = torch.compile(model, fullgraph=True, mode=mode)
    for run in (model, compiled, compiled, compiled):
        model.zero_grad()
        maps = [y.clone() for y in run(x)]
        sum(y.square().mean() for y in maps).backward()
        results.append([*maps, *(p.grad.clone() for p in model.parameters())])
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=1e-3, atol=1e-4)
