from dataclasses import asdict

import pytest
import torch
from torch import nn

import gpu_cases
from gfnet_dense.benchmark import whole_model
from gfnet_dense.benchmark.measure import Settings, measure, tf32
from gfnet_dense.benchmark.processes import OK, Case
from gfnet_dense.benchmark.sweep import describe_machine, run_sweep
from tests.benchmark.test_measure import MIB, Allocating
from tests.conftest import ROOT


def multiply(size, device):
    """Multiply matrices on a device, and return how the process was started."""
    import multiprocessing.process

    x = torch.ones(size, size, device=device)
    name = type(multiprocessing.process.current_process()).__name__
    return {"sum": float((x @ x).sum()), "process": name}


def test_processes_of_a_sweep_use_the_device_and_share_their_imports(device, tmp_path):
    results = run_sweep([Case("a", 4, multiply, {"device": device})], tmp_path / "r.json", 1, 60)
    (entry,) = results["cases"]
    assert entry["status"] == OK, (tmp_path / "r.log").read_text()
    assert entry["records"] == [{"sum": 64, "process": "ForkServerProcess"}]


def test_machine_names_gpu_and_driver():
    machine = describe_machine()
    assert torch.cuda.get_device_name() in machine["gpu"]
    assert machine["driver"][0].isdigit()


class OnGpu(Allocating):
    def forward(self, x):
        with torch.device("cuda"):
            return super().forward(x)


def test_extra_and_peak_memory_are_measured_on_cuda():
    record = measure(OnGpu(64, 100), (torch.ones(1),), Settings(device="cuda", amp="float16"))
    assert record["extra_memory"] == pytest.approx(164 * MIB, rel=0.02)
    assert record["peak_memory"] >= record["extra_memory"] + 8 * MIB


@pytest.mark.parametrize("train", [False, True])
def test_workspace_of_cublas_is_no_extra_memory(train):
    record = measure(nn.Linear(8, 8), (torch.ones(4, 8),), Settings(device="cuda", train=train))
    assert record["extra_memory"] < 2 * MIB  # cuBLAS's workspace has 8 and more, cuBLASLt's has 1


def test_times_are_those_of_the_finished_work():
    x = torch.ones(1, 8192, 8192)

    class Product(nn.Module):
        def forward(self, x):
            return x @ x

    record = measure(Product(), (x,), Settings(device="cuda"))
    seconds = 2 * 8192**3 / 1e15  # no GPU computes 1e15 float32 operations in a second
    assert min(record["latencies"]) > seconds


@pytest.mark.parametrize("convolution", [False, True])
def test_float32_is_no_tf32(convolution):
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("this GPU has no TF32")
    layer = nn.Conv2d(256, 256, 3) if convolution else nn.Linear(2048, 256)
    x = torch.randn(4, 256, 32, 32) if convolution else torch.randn(512, 2048)
    exact, errors = layer.double()(x.double()), []
    layer = layer.float().cuda()
    for allowed in (False, True):
        with tf32(allowed), torch.no_grad():
            y = layer(x.cuda()).cpu().double()
        errors.append(float((y - exact).norm() / exact.norm()))
    assert errors[0] < 5e-6 < 5e-5 < errors[1] < 5e-3


@pytest.mark.parametrize("label", ["float32", "tf32", "float16", "bfloat16"])
def test_resizing_is_exact_in_every_precision(device, label):
    if label == "float16" and device == "cpu":
        pytest.skip("no float16 on a CPU")
    amp = label if label.endswith("16") else None
    settings = Settings(device=device, amp=amp, tf32=label == "tf32")
    errors = gpu_cases.run_precision(40, 24, asdict(settings))
    assert max(errors[key] for key in ("resized_error", "output_error", "gradient_error")) < 2e-6
    assert errors["backbone_error"] < (1e-5 if label == "float32" else 0.1)


@pytest.mark.parametrize("train", [False, True])
def test_plan_cache_bounds_the_plans_of_many_shapes(train):
    records = {}
    before = torch.backends.cuda.cufft_plan_cache.max_size
    torch.backends.cuda.cufft_plan_cache.clear()
    try:
        for plans in (0, 16, 4096):
            settings = asdict(Settings(device="cuda", train=train))
            records[plans] = gpu_cases.run_shapes(12, plans, settings, 64)
    finally:
        torch.backends.cuda.cufft_plan_cache.max_size = before
    assert records[0]["plans"] == 0 < records[16]["plans"] <= 16 < records[4096]["plans"]
    assert records[0]["plan_memory"] == 0 <= records[4096]["plan_memory"]
    assert torch.backends.cuda.cufft_plan_cache.size == 0


def test_shares_of_a_whole_segmentor_add_up(device):
    pytest.importorskip("mmseg")
    config = str(ROOT / "configs" / "fpn_gfnet-h-ti_ade20k.py")
    (case,) = whole_model.cases(config, [64], Settings(device=device), demo=True)
    record = case.run(case.size, **case.options)
    assert sum(record["shares"].values()) == pytest.approx(1)
    assert all(0 < record["shares"][part] < 1 for part in ("backbone", "neck", "heads"))
