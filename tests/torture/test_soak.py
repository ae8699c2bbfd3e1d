"""Long runs over many shapes: memory, caches, files, threads."""

import copy
import functools
import gc
import json
import os
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from gfnet_dense import api, cli
from gfnet_dense.apis.inference import predict
from gfnet_dense.cli.environment import ONEDNN_CACHE
from gfnet_dense.demo import shrink
from gfnet_dense.models import GFNet
from gfnet_dense.models.layers.global_filter import GlobalFilter
from gfnet_dense.models.utils import resize_matrices
from tests.commands import run
from tests.conftest import ROOT, TINY
from tests.toy import toy_runner

# Kind: description, rounds in large and small scale, and MiB by which the last third of the rounds
# may exceed the middle third. glibc sometimes takes 8 MiB at a time.
RUNS = {
    "predicting": ("images predicted by a segmentor", 2000, 300, 12),
    "training": ("training steps by the runner", 1000, 150, 12),
    "evaluating_h_tiny": ("forwards of GFNet-H-Ti", 600, 0, 60),
    "training_h_tiny": ("training steps of GFNet-H-Ti", 300, 0, 90),
}
linux = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="/proc is Linux's")


@pytest.fixture
def soak(tmp_path, monkeypatch):
    """Return a function that runs tests/torture/soak.py and returns its output and the most MiB of
    each third of the rounds."""
    for name, value in ONEDNN_CACHE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def soak(*arguments):
        command = [sys.executable, "-m", "tests.torture.soak", *map(str, arguments)]
        result = run(command, tmp_path)
        assert result.returncode == 0, result.stderr
        found = json.loads(result.stdout.splitlines()[-1])
        memory, third = found["memory"], len(found["memory"]) // 3
        thirds = [memory[:third], memory[third : 2 * third], memory[2 * third :]]
        return found, [round(max(each)) for each in thirds]

    return soak


@linux
@pytest.mark.parametrize("kind", RUNS)
def test_memory_does_not_grow_with_the_number_of_shapes(kind, torture, figure, soak):
    """Caches fill in the first third of the rounds; each round has another shape."""
    name, rounds, few, limit = RUNS[kind]
    rounds = rounds if torture else few
    if not rounds:
        pytest.skip("minutes: only with --torture")
    found, (first, middle, last) = soak(kind, rounds)
    assert len(found["memory"]) == rounds
    figure(f"{name}; most MiB of each third", f"{rounds}; {first}, {middle}, {last}")
    assert last - middle <= limit, found["memory"]
    assert found["filters"] <= found["limit"]
    for name in ("files", "children"):
        before, after = found[name]
        assert after <= before, found
    if kind == "training":
        figure(
            "files, processes opened meanwhile and left",
            f"{max(after - before for before, after in (found['files'], found['children']))}",
        )


@linux
@pytest.mark.parametrize("kind", ["predicting", "training"])
def test_a_leak_would_be_noticed(kind, soak):
    _, rounds, few, limit = RUNS[kind]
    _, (_, middle, last) = soak(kind, few, "leak")
    assert last - middle > limit


def test_caches_of_functions_are_bounded():
    caches = [o for o in gc.get_objects() if isinstance(o, functools._lru_cache_wrapper)]
    ours = [c for c in caches if getattr(c, "__module__", "").startswith("gfnet_dense")]
    for cached in ours:
        takes_arguments = cached.__wrapped__.__code__.co_argcount > 0
        assert cached.cache_parameters()["maxsize"] is not None or not takes_arguments, cached


def test_the_resizing_matrices_of_many_sizes_are_bounded():
    for m in range(1, 600):
        resize_matrices.apply_matrix("bicubic", 56, m, torch.ones(56, 1))
    kept = resize_matrices._kept.values()
    assert len(kept) == resize_matrices.MAX_MATRICES
    assert sum(matrix.nbytes for matrix in kept) <= resize_matrices.MAX_BYTES


@linux
def test_trainings_leave_no_files_open_and_no_workers(tmp_path, figure):
    def children():
        return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()

    def open_files():
        files = (f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd"))
        names = [os.readlink(file) for file in files if os.path.lexists(file)]
        return [name for name in names if not name.endswith(".log")]  # mmengine keeps its log open

    before, left = children(), []
    for i in range(4):
        runner = toy_runner(tmp_path / str(i), val=True, num_workers=2)
        runner.train()
        del runner
        gc.collect()
        left.append(len(open_files()))
    remaining = set(children()) - set(before)
    figure("worker processes left by 4 trainings", len(remaining))
    assert not remaining
    assert left[3] <= left[0], left  # the first opens files that stay, such as devices


SIZES = [(64, 64), (65, 97), (128, 64), (96, 96), (33, 71), (80, 120), (100, 52), (144, 99)]


@pytest.fixture
def fast_switching():
    """Let Python switch threads as often as it can; PyTorch uses one thread for each of them."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    torch.set_num_threads(1)
    yield
    sys.setswitchinterval(interval)


def test_threads_that_share_a_backbone_get_the_maps_of_a_single_thread(
    torture, figure, fast_switching
):
    """There are more sizes than a filter caches, so that filters are resized all the time."""
    model = GFNet(TINY, img_size=56).eval()
    assert len(SIZES) > GlobalFilter.CACHE_SIZE
    images = [torch.randn(1, 3, h, w) for h, w in SIZES]
    rounds = 800 if torture else 200

    def maps(i):
        with torch.no_grad():
            return model(images[i])

    alone = copy.deepcopy(model)
    with torch.no_grad():
        expected = [alone(image) for image in images]
    order = [random.Random(0).randrange(len(images)) for _ in range(rounds)]
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(maps, order))
    for i, result in zip(order, results, strict=True):
        for a, b in zip(result, expected[i], strict=True):
            assert torch.equal(a, b)
    figure("forwards of 4 threads that share a backbone, equal to one thread's", rounds)


def test_threads_that_share_a_segmentor_get_the_labels_of_a_single_thread(
    torture, figure, fast_switching
):
    cfg = cli.read_config(ROOT / "configs" / "fpn_gfnet-h-ti_ade20k.py")
    shrink(cfg)
    model = api.load_model(cfg, None)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in SIZES]

    def labels(i):
        (sample,) = predict(model, [images[i]])
        return sample.pred_sem_seg.data

    expected = [labels(i) for i in range(len(images))]
    order = [i % len(images) for i in range(200 if torture else 24)]
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(labels, order))
    assert all(torch.equal(a, expected[i]) for i, a in zip(order, results, strict=True))
    figure("images that 4 threads predict with one segmentor, as one thread does", len(order))
