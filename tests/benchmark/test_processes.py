import os
import subprocess
import sys

import pytest
import torch

from gfnet_dense.benchmark import processes
from gfnet_dense.benchmark.processes import NVML_CHECK, OK, start_method, usable_gpus
from tests.conftest import ROOT

SWEEP = """
import sys
from pathlib import Path
from gfnet_dense.benchmark.sweep import Case, run_sweep

if __name__ == "__main__":
    sys.is_sweep = True  # only the server of the forks and its forks see a GPU
    from tests.benchmark import fake_gpu
    results = run_sweep([Case("a", 1, fake_gpu.calls, {})], Path(sys.argv[1]), 1, 60)
    print(results["cases"][0]["records"])
"""


def test_imports_of_a_sweep_leave_cuda_to_its_forks(tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", SWEEP, tmp_path / "r.json"],
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if key != NVML_CHECK},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "[{'calls': 0}]" in result.stdout, result.stdout + result.stderr


@pytest.mark.parametrize("before", [None, "0"])
def test_variable_of_the_imports_is_as_before_afterwards(monkeypatch, before):
    monkeypatch.delenv(NVML_CHECK, raising=False)
    if before is not None:
        monkeypatch.setenv(NVML_CHECK, before)
    with pytest.raises(KeyboardInterrupt), usable_gpus():
        assert os.environ[NVML_CHECK] == "1"
        raise KeyboardInterrupt
    assert os.environ.get(NVML_CHECK) == before


@pytest.mark.parametrize("status, method", [(OK, "forkserver"), ("failed: x", "spawn")])
def test_new_interpreters_run_the_cases_if_forks_cannot_use_the_gpu(
    monkeypatch, tmp_path, status, method
):
    monkeypatch.setattr(processes, "run_apart", lambda *args: (status, None))
    for has_gpu, expected in ((True, method), (False, "forkserver")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda has_gpu=has_gpu: has_gpu)
        context = start_method({"tests.benchmark.test_sweep"}, tmp_path / "r.log")
        assert context.get_start_method() == expected
