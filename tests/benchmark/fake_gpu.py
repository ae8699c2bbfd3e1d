"""PyTorch as on a machine with a GPU, as far as imports ask, except in a process of a sweep.

PyTorch marks a process as unable to use CUDA in its forks when it calls ``_cuda_getDeviceCount``
(``poison_fork`` in torch/csrc/cuda/Module.cpp), a function that a CPU build does not have.
"""

import sys

import torch
import torch._dynamo  # it imports more from a build with CUDA, so it comes first

CALLS = []


def _count_devices():
    CALLS.append(1)
    return 1


if not hasattr(sys, "is_sweep"):
    torch._C._cuda_getDeviceCount = _count_devices
    torch.cuda._device_count_nvml = lambda: 1

from gfnet_dense.benchmark import backbones, mixers, transfer, whole_model  # noqa: E402, F401


def calls(size):
    return {"calls": len(CALLS)}
