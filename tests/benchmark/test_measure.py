import subprocess
import sys
import time

import pytest
import torch
from torch import nn

from gfnet_dense.benchmark.measure import MAX_CALLS, Settings, measure, tf32
from tests.conftest import ROOT

MIB = 2**20


class Allocating(nn.Module):
    """Fill ``temporary`` MiB and free them; in the first call keep ``kept`` MiB as well."""

    def __init__(self, temporary: int, kept: int = 0):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8 * MIB // 4))  # allocated before: no extra memory
        self.temporary, self.kept, self.cache = temporary, kept, None

    def forward(self, x):
        y = x + torch.ones(self.temporary * MIB // 4).sum()
        if self.cache is None:
            self.cache = torch.ones(self.kept * MIB // 4)
        return y


MEASURE = """
import os
import resource
from pathlib import Path
import torch
from gfnet_dense.benchmark import measure as m
from tests.benchmark.test_measure import MIB, Allocating

for size, kept, has_proc in ((0, 0, True), (64, 0, True), (64, 100, True), (64, 100, False)):
    if os.fork() != 0:
        os.wait()
        continue
    if not has_proc:
        m.CLEAR_REFS = Path("/nowhere")
        # ru_maxrss includes the peak of the parent process: allocate beyond it.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        above = torch.ones(peak * 1024 // 4)
    junk = [torch.ones(MIB // 40) for _ in range(300)]
    if has_proc:
        del junk  # freed memory must not hide later allocations
    record = m.measure(Allocating(size, kept), (torch.ones(1),), m.Settings())
    print(record["extra_memory"] / MIB, record["peak_memory"] / MIB, flush=True)
    os._exit(0)
"""


def test_extra_memory_is_what_the_calls_need():
    result = subprocess.run(
        [sys.executable, "-c", MEASURE], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    lines = result.stdout.splitlines()
    assert len(lines) == 4, result.stderr
    extras, peaks = zip(*(map(float, line.split()) for line in lines), strict=True)
    assert extras == pytest.approx([0, 64, 164, 164], rel=0.1, abs=1)
    assert all(peak > extra + 100 for extra, peak in zip(extras, peaks, strict=True))


class Recording(nn.Module):
    """Record the modes of each call; return a nested output, one of integers, and None."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.calls = []

    def forward(self, x, scale):
        y = self.linear(x) * scale
        modes = self.training, torch.is_inference_mode_enabled(), torch.is_grad_enabled()
        self.calls.append((*modes, y.dtype, self.linear.weight.grad))
        return {"a": [y, (y.sum(1),)], "b": torch.ones(3, dtype=torch.long), "c": None}


INPUTS = torch.arange(12.0).view(3, 4), torch.full((1,), 2.0)


def test_forward_is_in_evaluation_and_inference_mode():
    module = Recording().train()
    record = measure(module, INPUTS, Settings())
    assert module.calls == [(False, True, False, torch.float32, None)] * (2 + MAX_CALLS)
    assert len(record["latencies"]) == MAX_CALLS and min(record["latencies"]) > 0
    assert record["batch_size"] == 3


def test_training_step_reaches_every_parameter_and_drops_gradients():
    module = Recording().eval()
    gradients = []
    module.linear.weight.register_hook(gradients.append)
    measure(module, INPUTS, Settings(train=True))
    assert module.calls == [(True, False, True, torch.float32, None)] * (2 + MAX_CALLS)
    assert module.linear.weight.grad is None
    # d/dW of mean(y) + mean(rows' sums) with y = 2 (W x + b): 2 (1 / 12 + 1 / 3) * sum of x
    expected = 2 * (1 / 12 + 1 / 3) * INPUTS[0].sum(0).expand(4, 4)
    torch.testing.assert_close(gradients[0], expected)


def test_autocast_is_bfloat16_on_cpu():
    class Cast(Recording):
        def forward(self, x, scale):
            self.calls.append(self.linear(x).dtype)
            return super().forward(x, scale)

    for train in (False, True):
        module = Cast()
        measure(module, INPUTS, Settings(amp="auto", train=train))
        assert module.calls[0] == torch.bfloat16


def flags():
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("allowed", [False, True])
def test_tf32_is_allowed_to_products_and_convolutions_or_to_neither(allowed):
    seen = []

    class Watching(Recording):
        def forward(self, x, scale):
            seen.append(flags())
            self.linear.weight.register_hook(lambda gradient: seen.append(flags()))
            return super().forward(x, scale)

    before = flags()
    assert before == (False, True)  # PyTorch's default, with which "float32" would be half TF32
    measure(Watching(), INPUTS, Settings(tf32=allowed, train=True))
    assert set(seen) == {(allowed, allowed)} and len(seen) > 2 + MAX_CALLS
    assert flags() == before
    with pytest.raises(KeyboardInterrupt), tf32(allowed):
        raise KeyboardInterrupt
    assert flags() == before


def test_compiling_is_neither_timed_nor_counted_as_memory(monkeypatch):
    events = []

    class Memory:
        def reset_peak(self):
            events.append("reset")

        def read(self):
            events.append("read")
            return 5, 7

    class Compiled(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module, self.compiled = module, False

        def forward(self, *inputs):
            events.append("call")
            if not self.compiled:
                time.sleep(0.3)
            self.compiled = True
            return self.module(*inputs)

    monkeypatch.setattr("gfnet_dense.benchmark.measure._ResidentMemory", Memory)
    monkeypatch.setattr("gfnet_dense.benchmark.measure.SLOW_CALL_SECONDS", 0.2)
    monkeypatch.setattr(torch, "compile", Compiled)
    record = measure(Recording(), INPUTS, Settings(compile=True))
    assert events[:4] == ["call", "reset", "call", "read"]
    assert record["compile_seconds"] >= 0.3 > 0.2 > min(record["latencies"])
    assert len(record["latencies"]) == events.count("call") - 2
    assert (record["extra_memory"], record["peak_memory"]) == (5, 7)
    events.clear()
    assert "compile_seconds" not in measure(Recording(), INPUTS, Settings())
    assert events == ["read"]


def test_slow_modules_are_called_less_often(monkeypatch):
    monkeypatch.setattr("gfnet_dense.benchmark.measure.MIN_TIMED_SECONDS", 0)
    monkeypatch.setattr("gfnet_dense.benchmark.measure.SLOW_CALL_SECONDS", 0)
    module = Recording()
    assert len(measure(module, INPUTS, Settings())["latencies"]) == 1
    assert len(module.calls) == 2


def test_number_of_threads_is_set():
    before = torch.get_num_threads()
    measure(nn.Identity(), (torch.ones(1),), Settings(threads=before + 1))
    assert torch.get_num_threads() == before + 1
