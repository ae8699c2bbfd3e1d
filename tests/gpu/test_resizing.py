"""Resizing matrices on a GPU: exact under TF32, kept there, usable in CUDA graphs."""

import pytest
import torch

from gfnet_dense.models import GFNet
from gfnet_dense.models.layers.base_filter import BORDERS
from gfnet_dense.models.utils.filter_resize import resize_filter, resize_position_embedding
from tests.conftest import TINY


def backbone_and_images(device, border, size=(75, 109)):
    model = GFNet(TINY, img_size=64, border=border, drop_path_rate=0.1).to(device)
    return model, torch.randn(2, 3, *size, device=device)


@pytest.fixture
def reduced_precision(device):
    """Allow TF32 on a GPU; CPUs with bfloat16 instructions use these."""
    torch.set_float32_matmul_precision("high" if device == "cuda" else "medium")
    yield
    torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("mode", ["trigonometric", "spectral_pad"])
def test_resizing_and_its_gradient_are_exact_under_tf32(device, reduced_precision, mode):
    results = []
    for dtype in (torch.float32, torch.float64):
        torch.manual_seed(0)
        weight = torch.randn(56, 29, 64, 2).to(device, dtype).requires_grad_()
        embedding = torch.randn(1, 56 * 56, 64).to(device, dtype).requires_grad_()
        outs = (
            resize_filter(weight, (56, 56), (128, 128), mode),
            resize_position_embedding(embedding, (56, 56), (128, 128)),
        )
        loss = sum(out.pow(3).sum() for out in outs)
        results.append([*outs, *torch.autograd.grad(loss, (weight, embedding))])
    for found, expected in zip(*results, strict=True):
        assert (found - expected).abs().max() < 2e-6 * expected.abs().max()


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("size", [(64, 64), (75, 109)])
def test_a_second_training_step_never_waits_for_the_gpu(device, no_waiting, border, size):
    """A copy of pageable memory, such as that of a tensor made of numbers, waits for the GPU."""
    model, images = backbone_and_images(device, border, size)

    def train_once():
        sum(out.pow(2).sum() for out in model(images)).backward()

    train_once()
    with no_waiting:
        train_once()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("border", BORDERS)
def test_a_forward_captured_in_a_cuda_graph_gives_the_same_maps(border):
    model, images = backbone_and_images("cuda", border)
    model.eval()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.no_grad(), torch.cuda.stream(side):
        model(images)  # once before, as PyTorch's manual demands
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph):
        outs = model(images)
    images.copy_(torch.randn_like(images))
    model.eval()  # clears the cache of filters, whose memory others then take
    others = [torch.full((2**14,), torch.nan, device="cuda") for _ in range(100)]
    graph.replay()
    del others
    with torch.no_grad():
        for found, expected in zip(outs, model(images), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
