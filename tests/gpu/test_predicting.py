"""Predictions on a GPU: the labels of the CPU, few plans of cuFFT, mixed precision."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image

from gfnet_dense.apis.inference import predict
from gfnet_dense.apis.inputs import find_inputs
from gfnet_dense.apis.predict_files import PredictOptions, predict_files
from gfnet_dense.models.utils.label_maps import resized, rows_of
from gfnet_dense.utils.cufft import MAX_PLANS, plan_limit
from tests.apis.test_predict_files import DET, SEG, small_model
from tests.conftest import needs_operators

pytest.importorskip("mmseg")
NEAR_TIES = 0.005  # share of pixels whose two best classes may change places in float32
ROUNDED = 0.05  # and in half precision, of a head with random weights


def images():
    random = np.random.default_rng(0)
    coarse = [random.integers(0, 256, (h, w, 3), np.uint8) for h, w in ((5, 7), (9, 4), (6, 6))]
    return [np.asarray(Image.fromarray(each).resize((101, 75), 3)) for each in coarse]


@pytest.fixture(scope="module")
def segmentors():
    """The same segmentor on the CPU and on the device."""
    from tests.gpu.conftest import DEVICE

    model = small_model(SEG)
    own = copy.deepcopy(model).to(DEVICE)
    own.cfg, own.dataset_meta = model.cfg, model.dataset_meta
    return model, own


def labels(model, **settings):
    return [s.pred_sem_seg.data.numpy() for s in predict(model, images(), **settings)]


def share_of_others(found, expected):
    pairs = zip(found, expected, strict=True)
    return float(np.mean([(a != b).mean() for a, b in pairs]))


@pytest.mark.parametrize(
    "settings", [{}, dict(batch_size=3), dict(window=(64, 48)), dict(window=(64, 48), batch_size=4)]
)
def test_labels_equal_those_of_the_cpu(device, segmentors, settings):
    on_cpu, on_device = segmentors
    window = {key: value for key, value in settings.items() if key == "window"}
    expected = labels(on_cpu, **window)  # one at a time
    assert len(np.unique(expected)) > 3
    assert share_of_others(labels(on_device, **settings), expected) < NEAR_TIES


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("channels_last", [False, True])
def test_bands_of_enlarged_logits_are_those_of_the_whole_bit_for_bit(device, dtype, channels_last):
    if device == "cpu" and dtype == torch.float16:
        pytest.skip("float16 is for GPUs")
    layout = torch.channels_last if channels_last else torch.contiguous_format
    logits = torch.randn(1, 19, 37, 50).to(device, dtype).to(memory_format=layout)
    whole = torch.nn.functional.interpolate(logits, (148, 200), mode="bilinear")[0]
    rows = resized(rows_of(logits[0]), (148, 200), False)
    if channels_last and device != "cpu":  # whose kernel rounds differently, seen on an H100
        assert not rows.exact
        return
    assert rows.exact
    for start in range(0, 148, 10):
        stop = min(start + 10, 148)
        assert torch.equal(rows.read(start, stop), whole[:, start:stop])


@pytest.mark.parametrize("amp", ["auto", "bfloat16", "float16"])
@pytest.mark.parametrize("window", [None, (64, 48)])
def test_mixed_precision_changes_few_labels(device, segmentors, amp, window):
    if device == "cpu" and amp == "float16":
        pytest.skip("float16 is for GPUs")
    _, model = segmentors
    expected = labels(model, window=window)
    found = labels(model, window=window, amp=amp)
    assert 0 < share_of_others(found, expected) < ROUNDED
    assert share_of_others(labels(model, window=window), expected) == 0  # it ends with the call


@needs_operators
@pytest.mark.parametrize("amp", [None, "bfloat16"])
def test_detections_are_near_those_of_the_cpu(device, amp):
    model = small_model(DET)
    own = copy.deepcopy(model).to(device)
    own.cfg, own.dataset_meta = model.cfg, model.dataset_meta
    for a, b in zip(predict(own, images(), amp=amp), predict(model, images()), strict=True):
        found, expected = a.pred_instances.scores, b.pred_instances.scores
        assert len(expected) > 0 and found.device.type == "cpu"
        best = min(len(found), len(expected), 5)
        torch.testing.assert_close(
            found[:best], expected[:best], rtol=0, atol=0.05 if amp else 1e-3
        )


def test_files_are_predicted(device, segmentors, tmp_path):
    for i, image in enumerate(images()):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    inputs = find_inputs([str(tmp_path)]).files
    options = PredictOptions(tmp_path / "out", batch_size=2, amp="auto")
    summary = predict_files(segmentors[1], inputs, options)
    assert summary.images == 3 and not summary.skipped


def test_images_of_many_shapes_keep_few_plans(device, segmentors):
    """The plans of the caller's own transforms have their former limit again."""
    _, model = segmentors
    place = next(model.parameters()).device
    caches = torch.backends.cuda.cufft_plan_cache
    former = caches[place].max_size if device == "cuda" else None
    shapes = [(32 + 3 * i, 40 + 5 * i, 3) for i in range(20)]
    for _ in predict(model, [np.zeros(shape, np.uint8) for shape in shapes], window=(500, 500)):
        if device == "cuda":
            assert caches[place].size <= MAX_PLANS and caches[place].max_size == former
    with plan_limit(place, 4):
        torch.fft.rfft2(torch.ones(8, 8, device=place))
        if device == "cuda":
            assert caches[place].max_size == 4 and caches[place].size <= 4
