"""The operator of the global filter on a GPU."""

import pytest
import torch

from tests.gpu.test_backbones import backbone, check_close, step

FILTER = torch.ops.gfnet_dense.spectral_filter.default


@pytest.mark.parametrize("fft_size", [(8, 6), (12, 9)])
def test_filter_passes_the_checks_of_torch_library(device, fft_size):
    x = torch.randn(2, 8, 6, 3, device=device).permute(0, 3, 1, 2).requires_grad_()
    response = torch.fft.rfft2(torch.randn(3, *fft_size, device=device))  # cuFFT takes no other
    response = torch.view_as_real(response).contiguous().requires_grad_()
    torch.library.opcheck(FILTER, (x, response, fft_size, True))


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_the_compiled_backbone_gives_the_same_maps_and_gradients(device, mode):
    """The second mode captures CUDA graphs, in which nothing may wait for the GPU."""
    if device == "cpu":
        pytest.skip("tests/models/backbones/test_graphs.py compiles for CPUs")
    model, x = backbone().to(device), torch.randn(2, 3, 96, 128, device=device)
    outputs, gradients = step(model, x)  # makes the resizing matrices outside of the graphs' memory
    model.compile(fullgraph=True, mode=mode)
    for _ in range(3):
        found, found_gradients = step(model, x)
        for a, b in zip(found, outputs, strict=True):
            check_close(a, b, 1e-4)
        for name, gradient in gradients.items():
            check_close(found_gradients[name], gradient, 1e-4)
