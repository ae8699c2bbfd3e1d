"""Measure the time and memory of one module."""

import ctypes
import gc
import re
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gfnet_dense.utils.amp import amp_dtype, float32_operators
from gfnet_dense.utils.errors import InputError

MAX_CALLS = 20  # timed calls at most
MIN_TIMED_SECONDS = 1.0  # calls are timed until they took this long together
SLOW_CALL_SECONDS = 10.0  # memory is measured in a single call if that call takes this long
WARM_UP_SECONDS = 0.5  # untimed calls on a GPU, which raises its clocks while it works
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # parameters of glibc's mallopt(3)
# Linux: memory of this process, and the file that resets the peak of it (proc(5))
STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Settings:
    """Settings of a measurement.

    Attributes:
        device: ``cpu``, ``cuda`` or ``cuda:NUMBER``.
        threads: CPU threads of PyTorch; None keeps PyTorch's default.
        amp: Autocast to ``float16``, ``bfloat16``, or ``auto``, see :func:`.amp_dtype`; None: no
            autocast.
        tf32: On a GPU, round the factors of float32 products and convolutions to TensorFloat-32,
            which has 10 bits of mantissa. False forbids this to both; PyTorch's own default allows
            it to convolutions.
        compile: Use torch.compile, which compiles in the first call; that call is not timed.
        train: Measure a training step instead of a forward.
        batch_size: Images of one call; used by the functions that make the inputs.
    """

    device: str = "cpu"
    threads: int | None = None
    amp: str | None = None
    tf32: bool = False
    compile: bool = False
    train: bool = False
    batch_size: int = 1


def check_settings(settings: Settings) -> None:
    """Raise InputError for settings that are unknown, or that this machine does not have."""
    device: torch.device | None
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
    if settings.tf32 and device.type != "cuda":
        raise InputError(f"TF32 is a format of NVIDIA's GPUs, got the device {settings.device}")
    if settings.amp is not None:
        amp_dtype(settings.amp, device.type)
    for name in ("threads", "batch_size"):
        value = getattr(settings, name)
        if value is not None and value < 1:
            raise InputError(f"{name} is 1 or more, got {value}")


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Allow TensorFloat-32 to products and convolutions of float32 on GPUs, or forbid it to both.

    The flags are PyTorch's, for the whole process; at the end they are as before.
    """
    flags: list[Any] = [torch.backends.cuda.matmul, torch.backends.cudnn]
    before = [flag.allow_tf32 for flag in flags]
    try:
        for flag in flags:
            flag.allow_tf32 = allowed
        yield
    finally:
        for flag, value in zip(flags, before, strict=True):
            flag.allow_tf32 = value


def autocast(settings: Settings) -> AbstractContextManager[Any]:
    """Return the autocast of ``settings.amp`` on ``settings.device``; nothing without ``amp``."""
    if settings.amp is None:
        return nullcontext()
    device_type = torch.device(settings.device).type
    return torch.autocast(device_type, amp_dtype(settings.amp, device_type))


def timed_call(
    run: Callable[..., Any], module: nn.Module, inputs: tuple[Tensor, ...], settings: Settings
) -> float:
    """Return the seconds of one call, from an idle device to an idle device.

    Args:
        run: The module, or its compiled form.
        module: The module, whose gradients a training step drops.
        inputs: Arguments of ``run`` on the device of ``settings``.
        settings: How the module is run.
    """
    device = torch.device(settings.device)
    synchronize(device)
    start = time.perf_counter()
    with ExitStack() as stack:
        if not settings.train:
            stack.enter_context(torch.inference_mode())
        stack.enter_context(autocast(settings))
        outputs = run(*inputs)
        if settings.train:
            loss: Any = sum(tensor.float().mean() for tensor in _tensors(outputs))
    if settings.train:
        loss.backward()
        module.zero_grad(set_to_none=True)
    synchronize(device)
    return time.perf_counter() - start


def measure(module: nn.Module, inputs: tuple[Tensor, ...], settings: Settings) -> dict[str, Any]:
    """Return the time and memory of a forward in evaluation, or of a training step.

    The loss of a training step is the sum of the means of all outputs. After the backward the
    gradients are dropped. Memory is measured in the first two calls, so that caches that the first
    one fills count as well; a first call of 10 seconds or more is the only one. With ``compile`` it
    is measured in the second call alone, beyond that before the first: on a GPU this leaves out
    what the compiler tries, on a CPU it includes the memory that the compiler keeps. The calls
    after them are timed, on a GPU after half a second of further calls.

    With ``amp`` a forward keeps mmcv's operators in float32, as :func:`.amp.autocast` does.

    A call is timed from an idle device to an idle device, launching of kernels included: the
    latency of one batch, not the throughput of many.

    Call it once in a process: on a CPU, it measures the memory of the process.

    Args:
        module: Afterwards it is on the device of ``settings``, in the mode of the measurement.
        inputs: Arguments of the module, on the CPU; the first dimension is the batch.
        settings: How the module is run.

    Returns:
        ``latencies``, the seconds of each timed call (1 to 20 calls, about a second in total);
        ``extra_memory``, the bytes at the peak beyond those in use before the first call;
        ``peak_memory``, all bytes at the peak; ``batch_size``; with ``compile`` also
        ``compile_seconds``, the time of the first call. On a CPU, memory is the resident memory of
        the process; on a GPU, the memory that PyTorch allocated there.
    """
    device = torch.device(settings.device)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    module.to(device).train(settings.train)
    inputs = tuple(x.to(device) for x in inputs)
    run: Callable[..., Any] = torch.compile(module) if settings.compile else module

    def call() -> float:
        return timed_call(run, module, inputs, settings)

    with ExitStack() as stack:
        stack.enter_context(tf32(settings.tf32))
        if settings.amp is not None and not settings.train:
            # Not in each call: torch.compile would compile what is wrapped anew again and again.
            stack.enter_context(float32_operators(module, device.type))
        memory = _CudaMemory(device) if device.type == "cuda" else _ResidentMemory()
        first = call()
        if settings.compile:
            memory.reset_peak()
        if settings.compile or first < SLOW_CALL_SECONDS:
            call()
        extra, peak = memory.read()
        end = time.perf_counter() + (WARM_UP_SECONDS if device.type == "cuda" else 0)
        while time.perf_counter() < end:
            call()
        latencies = [call()]
        while len(latencies) < MAX_CALLS and sum(latencies) < MIN_TIMED_SECONDS:
            latencies.append(call())
    record = {
        "latencies": latencies,
        "extra_memory": extra,
        "peak_memory": peak,
        "batch_size": len(inputs[0]),
    }
    return record | ({"compile_seconds": first} if settings.compile else {})


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has finished its work; return at once for a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _tensors(outputs: Any) -> Iterator[Tensor]:
    """Yield the tensors that require a gradient in nested dicts, lists and tuples."""
    if isinstance(outputs, Tensor):
        if outputs.requires_grad:
            yield outputs
    elif isinstance(outputs, dict):
        yield from _tensors(list(outputs.values()))
    elif isinstance(outputs, list | tuple):
        for output in outputs:
            yield from _tensors(output)


class _CudaMemory:
    """Peak of the memory that PyTorch allocates on a GPU from the creation of this object on."""

    def __init__(self, device: torch.device) -> None:
        # cuBLAS keeps a workspace of up to 32 MiB for each thread that multiplies; backward has a
        # thread of its own. PyTorch's allocator counts it, and it is no memory of the module.
        x = torch.ones(8, 8, device=device, requires_grad=True)
        (x @ x).sum().backward()
        del x
        self.device, self.before = device, torch.cuda.memory_allocated(device)
        self.reset_peak()

    def reset_peak(self) -> None:
        """Forget the peak until now."""
        torch.cuda.reset_peak_memory_stats(self.device)

    def read(self) -> tuple[int, int]:
        """Return the bytes at the peak beyond those at the start, and all bytes at the peak."""
        peak = torch.cuda.max_memory_allocated(self.device)
        return peak - self.before, peak


class _ResidentMemory:
    """Peak of the resident memory of this process from the creation of this object on."""

    def __init__(self) -> None:
        gc.collect()
        self.can_reset = CLEAR_REFS.exists()
        library = ctypes.CDLL(None)
        self.glibc = library if hasattr(library, "malloc_trim") else None
        if self.can_reset:
            if self.glibc is not None:
                # Calls that reuse memory from glibc's heap would not raise the peak. Give freed
                # memory back, and let glibc map each large block, which is unmapped when freed.
                self.glibc.malloc_trim(0)
                self.glibc.mallopt(M_MMAP_THRESHOLD, 128 * 1024)
        self.reset_peak()
        self.before, self.code_before, _ = self._now()

    def reset_peak(self) -> None:
        """Forget the peak until now, where the system can."""
        if self.can_reset:
            CLEAR_REFS.write_text("5")  # 5 resets the peak

    def _now(self) -> tuple[int, int, int]:
        """Return resident bytes, resident bytes of mapped files, and the peak of resident bytes."""
        if self.can_reset:
            kib = dict(re.findall(r"^(\w+):\s+(\d+) kB", STATUS.read_text(), re.MULTILINE))
            keys = ("VmRSS", "RssFile", "VmHWM")
            resident, files, peak = (1024 * int(kib.get(key, 0)) for key in keys)
            return resident, files, peak
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        peak *= 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB elsewhere
        return peak, 0, peak

    def read(self) -> tuple[int, int]:
        """Return the bytes at the peak beyond those at the start, and all bytes at the peak."""
        _, code, peak = self._now()
        if self.glibc is not None:
            # Mapping is slow, and time is measured next. glibc itself moves to such thresholds when
            # large blocks are freed, unless mallopt was called.
            self.glibc.mallopt(M_MMAP_THRESHOLD, 32 * 2**20)
            self.glibc.mallopt(M_TRIM_THRESHOLD, 64 * 2**20)
        # Code of libraries becomes resident when it first runs. It is no memory of the module.
        return max(0, peak - self.before - (code - self.code_before)), peak
