"""Tests that need a GPU.

GFNET_DENSE_TEST_DEVICE=cpu runs those with the fixture ``device`` on a CPU, so that they stay right
on machines without a GPU.
"""

import os

import pytest
import torch

DEVICE = os.environ.get("GFNET_DENSE_TEST_DEVICE", "cuda")

# cuBLAS demands it of deterministic trainings, and PyTorch looks once, at the first product
# (https://docs.nvidia.com/cuda/cublas/#results-reproducibility).
if DEVICE == "cuda":
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def pytest_collection_modifyitems(items):
    """Mark the tests of this folder, and skip them without their device."""
    for item in items:
        if "tests/gpu/" in item.path.as_posix():
            item.add_marker(pytest.mark.gpu)
            if DEVICE == "cuda" and not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU, see make gpu"))
            elif DEVICE == "cpu" and "device" not in item.fixturenames:
                item.add_marker(pytest.mark.skip(reason="is of GPUs alone"))


@pytest.fixture
def device():
    """Return the type of the device that is tested, and keep float32 free of TF32 on a GPU."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    former = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    yield DEVICE
    matmul.allow_tf32, cudnn.allow_tf32 = former


@pytest.fixture
def no_waiting(device):
    """Return a context in which no operation may wait for the GPU."""

    class NoWaiting:
        def __enter__(self):
            if device == "cuda":
                torch.cuda.set_sync_debug_mode("error")

        def __exit__(self, *args):
            if device == "cuda":
                torch.cuda.set_sync_debug_mode("default")

    return NoWaiting()
