"""A stand-in for a GPU on machines without one."""

import pytest
import torch
from torch.overrides import TorchFunctionMode

from gfnet_dense.models.utils import resize_matrices


class GpuStandIn(TorchFunctionMode):
    """Makes code on a CPU take the branches for a GPU, where inverse transforms are stricter.

    The result of cuFFT's complex-to-real transform is undefined for a spectrum that no real map
    has. This class refuses responses that are no such spectrum, and counts the filterings.
    """

    def __init__(self):
        super().__init__()
        self.filterings = 0
        self.patch = pytest.MonkeyPatch()

    def __enter__(self):
        make = resize_matrices._make  # runs in another thread, where this mode is not active
        self.patch.setattr(resize_matrices, "_kept", {})
        self.patch.setattr(
            resize_matrices, "_make", lambda *key: make(*key[:-1], torch.device("cpu"))
        )
        return super().__enter__()

    def __exit__(self, *args):
        self.patch.undo()
        return super().__exit__(*args)

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if function == torch.Tensor.device.__get__:
            return torch.device("cuda")
        if torch.device("cuda") == kwargs.get("device"):
            kwargs["device"] = "cpu"
        if function is torch.ops.gfnet_dense.spectral_filter.default:
            response, fft_size = torch.view_as_complex(args[1]), tuple(args[2])
            spectrum = torch.fft.rfft2(torch.fft.irfft2(response, s=fft_size))
            torch.testing.assert_close(spectrum, response, rtol=0, atol=1e-11)
            self.filterings += 1
        return function(*args, **kwargs)
