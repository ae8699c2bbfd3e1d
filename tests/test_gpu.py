"""The tests of tests/gpu, on a CPU: where there is no GPU they stay right all the same."""

import os
import re
import subprocess
import sys

import pytest
import torch

from tests.conftest import ROOT

SLOW = "processes or detections"  # tests/engine/runner and tests/apis test the same on CPUs


@pytest.mark.skipif(torch.cuda.is_available(), reason="they run on the GPU")
def test_tests_for_gpus_pass_on_a_cpu(tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    environment["GFNET_DENSE_TEST_DEVICE"] = "cpu"
    command = [sys.executable, "-m", "pytest", "-q", "tests/gpu", "-k", f"not ({SLOW})"]
    command += ["-p", "no:cacheprovider", "--basetemp", str(tmp_path / "temp")]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-5000:]
    assert int(re.search(r"(\d+) passed", result.stdout)[1]) >= 40
