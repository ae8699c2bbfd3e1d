"""Long runs over many shapes, in a process of their own: memory, caches, files, threads."""

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
from gfnet_dense.cli import ONEDNN_CACHE
from gfnet_dense.demo import shrink
from gfnet_dense.models import GFNet
from gfnet_dense.models.global_filter import GlobalFilter
from gfnet_dense.predict import predict
from tests.conftest import ROOT, TINY
from tests.tools.test_train import run
from tests.toy import toy_runner

# kind: arch, rounds in full and in the fast test
RUNS = {
    "evaluation": (TINY, 2000, 300),
    "training": (TINY, 1000, 150),
    "evaluation of GFNet-H-Ti": ("h-tiny", 300, 0),
    "training of GFNet-H-Ti": ("h-tiny", 300, 0),
}


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="/proc is Linux's")
@pytest.mark.parametrize("kind", RUNS)
def test_memory_does_not_grow_with_the_number_of_shapes(
    kind, torture, figure, tmp_path, monkeypatch
):
    """As in detection: the pretraining grid, and a new shape in every step."""
    rounds = RUNS[kind][1 if torture else 2]
    if not rounds:
        pytest.skip("minutes: only with --torture")
    for name, value in ONEDNN_CACHE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    command = [sys.executable, "-m", "tests.torture.test_soak", kind, str(rounds)]
    result = run(command, tmp_path)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    memory, third = found["memory"], rounds // 3
    middle, last = max(memory[third : 2 * third]), max(memory[2 * third :])
    assert last < (1.05 if torture else 1.2) * middle, memory  # at first caches fill
    assert found["cached"] <= found["cache_limit"] and found["files"][0] == found["files"][1]
    figure(f"{kind}, shapes; most MiB of each third",
           f"{rounds}; {max(memory[:third])}, {middle}, {last}")  # fmt: skip


def soak(kind: str, rounds: int) -> dict:
    """Return the resident memory in MiB after each of many shapes, and what was kept."""
    arch, training = RUNS[kind][0], kind.startswith("training")
    is_tiny = arch is TINY
    model = GFNet(arch, img_size=64 if is_tiny else 224).train(training)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    rng = random.Random(0)
    sides = (range(32, 257), range(32, 257)) if is_tiny else (range(256, 513), range(256, 737))
    memory, files = [], []
    for i in range(rounds):
        shape = [rng.choice(side) for side in sides]
        with torch.set_grad_enabled(training):
            maps = model(torch.rand(1, 3, *shape))
        if training:
            sum(x.mean() for x in maps).backward()
            optimizer.step()
            optimizer.zero_grad()
        del maps
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        memory.append(round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20))
        if i in (rounds // 3, rounds - 1):
            files.append(len(os.listdir("/proc/self/fd")))
    filters = [m for m in model.modules() if isinstance(m, GlobalFilter)]
    cached = max(sum(g.nbytes for g in m._cache.values()) for m in filters)
    return dict(memory=memory, files=files, cached=cached, cache_limit=GlobalFilter.CACHE_BYTES)


def test_caches_of_functions_are_bounded():
    caches = [o for o in gc.get_objects() if isinstance(o, functools._lru_cache_wrapper)]
    ours = [c for c in caches if getattr(c, "__module__", "").startswith("gfnet_dense")]
    assert len(ours) >= 3
    for cached in ours:
        takes_arguments = cached.__wrapped__.__code__.co_argcount > 0
        assert cached.cache_parameters()["maxsize"] is not None or not takes_arguments, cached


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="/proc is Linux's")
def test_trainings_leave_no_files_open_and_no_workers(tmp_path, figure):
    counts = []
    for i in range(4):
        runner = toy_runner(tmp_path / str(i), val=True, num_workers=2)
        runner.train()
        del runner
        gc.collect()
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        counts.append((len(os.listdir("/proc/self/fd")), len(children)))
    log_files = 1  # each runner's, which mmengine keeps open
    assert counts[3][0] - counts[1][0] <= 2 * log_files, counts
    assert counts[3][1] == counts[1][1], counts
    figure("worker processes left by 4 trainings", counts[3][1] - counts[0][1])


def test_threads_that_share_a_backbone(torture, figure):
    torch.manual_seed(0)
    model = GFNet(TINY, img_size=64).eval()
    images = [torch.randn(1, 3, h, w) for h, w in [(64, 64), (65, 97), (128, 64), (96, 96)]]
    rounds = 400 if torture else 100

    def maps(i):
        with torch.inference_mode():
            return model(images[i])

    expected = [maps(i) for i in range(len(images))]
    order = [random.Random(0).randrange(len(images)) for _ in range(rounds)]
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(maps, order))
    for i, result in zip(order, results, strict=True):
        for a, b in zip(result, expected[i], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    figure("forwards of 4 threads that share a backbone, equal to one thread's", rounds)


def test_threads_that_share_a_segmentor():
    cfg = cli.read_config(ROOT / "configs" / "fpn_gfnet-h-ti_ade20k.py")
    shrink(cfg)
    torch.manual_seed(0)
    model = api.load_model(cfg, None)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (h, w, 3), np.uint8) for h, w in [(64, 96), (50, 70), (96, 64)]]

    def labels(i):
        (sample,) = predict(model, [images[i]])
        return sample.pred_sem_seg.data

    expected = [labels(i) for i in range(len(images))]
    order = [i % len(images) for i in range(24)]
    with ThreadPoolExecutor(4) as threads:
        for i, result in zip(order, threads.map(labels, order), strict=True):
            assert (result == expected[i]).float().mean() > 0.999


if __name__ == "__main__":
    print(json.dumps(soak(sys.argv[1], int(sys.argv[2]))))
