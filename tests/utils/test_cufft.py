"""The limit on cuFFT's plans, on a stand-in for PyTorch's caches."""

from types import SimpleNamespace

import pytest
import torch

from gfnet_dense.apis.inference import predict
from gfnet_dense.engine.hooks.cufft_plan_cache_hook import CufftPlanCacheHook
from gfnet_dense.utils.cufft import MAX_PLANS, plan_limit
from tests.apis.test_inference import KnownSegmentor, image_of, labels

GPU = torch.device("cuda", 1)


@pytest.fixture
def caches(monkeypatch):
    found = {torch.device("cuda", i): SimpleNamespace(max_size=4096) for i in (0, 1)}
    monkeypatch.setattr(torch.backends.cuda, "cufft_plan_cache", found)
    return found


@pytest.mark.parametrize("former, inside", [(4096, 100), (7, 7)])
def test_the_limit_holds_in_the_block_on_the_gpu_of_the_model(caches, former, inside):
    caches[GPU].max_size = former
    with pytest.raises(ValueError), plan_limit(GPU, 100):
        assert [each.max_size for each in caches.values()] == [4096, inside]
        raise ValueError
    assert caches[GPU].max_size == former


def test_blocks_of_threads_may_end_in_any_order(caches):
    first, second = plan_limit(GPU, 100), plan_limit(GPU, 100)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert caches[GPU].max_size == 100
    second.__exit__(None, None, None)
    assert caches[GPU].max_size == 4096
    with plan_limit(GPU, 100):
        with plan_limit(GPU, 4):
            assert caches[GPU].max_size == 4
        assert caches[GPU].max_size == 100


def test_nothing_is_done_on_other_devices(caches):
    caches.clear()
    for device in ("cpu", "meta", "mps"):
        with plan_limit(torch.device(device)):
            pass


def test_the_hook_sets_the_limit_for_a_run(caches, monkeypatch):
    CufftPlanCacheHook(16).before_run(None)  # without a GPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    hook = CufftPlanCacheHook(16)
    for _ in range(2):
        hook.before_run(None)
        assert [each.max_size for each in caches.values()] == [4096, 16]
        hook.after_run(None)
        assert caches[GPU].max_size == 4096


@pytest.mark.parametrize("window", [None, (16, 16)])
def test_predicting_keeps_few_plans_and_leaves_the_callers_limit(caches, monkeypatch, window):
    """The limit is not there while the caller looks at a prediction."""
    seen = []

    class OnGpu(KnownSegmentor):
        def encode_decode(self, inputs, metas):
            seen.append(caches[GPU].max_size)
            return super().encode_decode(inputs, metas)

        inference = encode_decode

    monkeypatch.setattr("gfnet_dense.apis.inference._device_of", lambda model: GPU)
    for _ in predict(OnGpu(), [image_of(labels(16, 20)), image_of(labels(20, 16))], window=window):
        assert caches[GPU].max_size == 4096
    assert set(seen) == {MAX_PLANS}
