"""Time and memory of one module."""

import ctypes
import gc
import re
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from gfnet_dense.utils.errors import InputError

MAX_CALLS = 20
ENOUGH = 1.0  # seconds of timed calls
LONG = 10.0  # seconds of a call that is not repeated to measure memory
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt(3)
STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Settings:
    """How a module is run.

    Attributes:
        device: PyTorch's name of it.
        threads: On CPU; None leaves PyTorch's number.
        amp: Autocast to bfloat16 on CPU, to float16 on a GPU.
        compile: With torch.compile, which compiles in the warm-up call.
        train: A training step, not a forward.
        batch_size: For the caller, who makes the inputs.
    """

    device: str = "cpu"
    threads: int | None = None
    amp: bool = False
    compile: bool = False
    train: bool = False
    batch_size: int = 1


def check_settings(settings: Settings) -> None:
    """Raise InputError for a device that is not there, or numbers below 1."""
    try:
        device = torch.device(settings.device)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise InputError(f"the device is cpu, cuda or cuda:NUMBER, got {settings.device!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"the device {settings.device} was not found, there are {torch.cuda.device_count()} "
            "GPUs: leave it out for the CPU"
        )
    for name in ("threads", "batch_size"):
        value = getattr(settings, name)
        if value is not None and value < 1:
            raise InputError(f"{name} is 1 or more, got {value}")


def measure(module: nn.Module, inputs: tuple[Tensor, ...], settings: Settings) -> dict:
    """Return time and memory of a forward in evaluation, or of a training step.

    A training step is a forward, the mean of every output summed, a backward, and dropping the
    gradients. Memory is measured in two calls, so that what the first keeps in caches counts, and
    in one if it takes more than 10 seconds; time in the calls after them.

    To be called once in a process: on a CPU memory is that of the process.

    Args:
        module: It stays on the device and in the mode.
        inputs: What it takes, on the CPU; the first dimension is the batch.
        settings: See there.

    Returns:
        ``latencies``, seconds of each timed call: up to 20 within about a second, at least one;
        ``extra_memory``, bytes needed at the peak beyond what was there before the first call;
        ``peak_memory``, bytes at the peak in all; ``batch_size``. Memory is the resident one of
        the process, on a GPU what PyTorch allocated there.
    """
    device = torch.device(settings.device)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    module.to(device).train(settings.train)
    inputs = tuple(x.to(device) for x in inputs)
    if settings.compile:
        module = torch.compile(module)
    dtype = torch.bfloat16 if device.type == "cpu" else torch.float16

    def call() -> float:
        synchronize(device)
        start = time.perf_counter()
        with ExitStack() as stack:
            if not settings.train:
                stack.enter_context(torch.inference_mode())
            if settings.amp:
                stack.enter_context(torch.autocast(device.type, dtype))
            outputs = module(*inputs)
            if settings.train:
                loss = sum(tensor.float().mean() for tensor in _tensors(outputs))
        if settings.train:
            loss.backward()
            module.zero_grad(set_to_none=True)
        synchronize(device)
        return time.perf_counter() - start

    memory = _CudaMemory(device) if device.type == "cuda" else _ResidentMemory()
    if call() < LONG:
        call()
    extra, peak = memory.read()
    latencies = []
    while not latencies or (len(latencies) < MAX_CALLS and sum(latencies) < ENOUGH):
        latencies.append(call())
    return {
        "latencies": latencies,
        "extra_memory": extra,
        "peak_memory": peak,
        "batch_size": len(inputs[0]),
    }


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _tensors(outputs) -> Iterator[Tensor]:
    """Yield the tensors with gradient in nested dicts, lists and tuples."""
    if isinstance(outputs, Tensor):
        if outputs.requires_grad:
            yield outputs
    elif isinstance(outputs, dict):
        yield from _tensors(list(outputs.values()))
    elif isinstance(outputs, list | tuple):
        for output in outputs:
            yield from _tensors(output)


class _CudaMemory:
    """Peak of what PyTorch has allocated on a GPU, from here on."""

    def __init__(self, device: torch.device):
        torch.cuda.reset_peak_memory_stats(device)
        self.device, self.before = device, torch.cuda.memory_allocated(device)

    def read(self) -> tuple[int, int]:
        peak = torch.cuda.max_memory_allocated(self.device)
        return peak - self.before, peak


class _ResidentMemory:
    """Peak of the resident memory of this process, from here on."""

    def __init__(self):
        gc.collect()
        self.resets = CLEAR_REFS.exists()
        library = ctypes.CDLL(None)
        self.glibc = library if hasattr(library, "malloc_trim") else None
        if self.resets:
            if self.glibc is not None:
                # Its heap would serve the calls from what was freed before, or grow in gaps. Large
                # blocks are to be mapped, and given back when freed.
                self.glibc.malloc_trim(0)
                self.glibc.mallopt(M_MMAP_THRESHOLD, 128 * 1024)
            CLEAR_REFS.write_text("5")  # resets the peak: proc(5)
        self.before, self.code_before, _ = self._now()

    def _now(self) -> tuple[int, int, int]:
        """Return resident bytes, those of them that map files, and the peak."""
        if self.resets:
            kib = dict(re.findall(r"^(\w+):\s+(\d+) kB", STATUS.read_text(), re.MULTILINE))
            return tuple(1024 * int(kib.get(key, 0)) for key in ("VmRSS", "RssFile", "VmHWM"))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        peak *= 1 if sys.platform == "darwin" else 1024
        return peak, 0, peak

    def read(self) -> tuple[int, int]:
        _, code, peak = self._now()
        if self.glibc is not None:
            # To where it adapts by itself when large blocks are freed: mapping is slow.
            self.glibc.mallopt(M_MMAP_THRESHOLD, 32 * 2**20)
            self.glibc.mallopt(M_TRIM_THRESHOLD, 64 * 2**20)
        # The code of libraries becomes resident when it first runs: no memory of the module's.
        return max(0, peak - self.before - (code - self.code_before)), peak
