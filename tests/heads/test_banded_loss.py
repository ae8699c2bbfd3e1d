"""The loss of a band of rows at a time against that of mmsegmentation, in float64."""

import pytest
import torch
from mmengine.registry import MODELS
from mmengine.structures import PixelData

pytest.importorskip("mmseg.models")

from mmseg.structures import SegDataSample

import gfnet_dense.models  # noqa: F401 (registers)
from gfnet_dense.heads import banded_loss

CLASSES = 5
LOSSES = {
    "plain": dict(loss_weight=0.4),
    "weights": dict(class_weight=[0.5, 1, 2, 3, 0.1]),
    "valid": dict(avg_non_ignore=True, loss_name="loss_own"),
}


def build(align_corners=False, **loss):
    settings = dict(in_channels=4, in_index=0, channels=4, num_convs=1, num_classes=CLASSES)
    loss = loss or LOSSES["plain"]
    loss = dict(dict(type="mmseg.CrossEntropyLoss"), **loss)
    settings = dict(settings, align_corners=align_corners, loss_decode=loss)
    return [MODELS.build(dict(settings, type=f"{s}.FCNHead")) for s in ("mmseg", "gfnet_dense")]


def samples_of(labels):
    return [SegDataSample(gt_sem_seg=PixelData(data=each[None])) for each in labels]


def make(size, stride, batch=2):
    generator = torch.Generator().manual_seed(0)
    low = [-(-side // stride) for side in size]
    logits = torch.randn(batch, CLASSES, *low, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, CLASSES + 1, (batch, *size), generator=generator)
    labels[labels == CLASSES] = 255
    return logits.requires_grad_(), labels


def results(head, logits, labels):
    logits = logits.detach().requires_grad_()
    losses = head.loss_by_feat(logits, samples_of(labels))
    (loss,) = [value for key, value in losses.items() if "loss" in key]
    (3 * loss).backward()
    return losses, logits.grad


@pytest.fixture
def small_bands(monkeypatch):
    monkeypatch.setitem(banded_loss.BAND_BYTES, "cpu", 40 * CLASSES * 160 * 8)


# The second does not grow by a power of two, so its bands are whole images.
@pytest.mark.parametrize("size, stride", [((144, 160), 4), ((90, 143), 4), ((64, 160), 1)])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_loss_accuracy_and_gradient_are_those_of_the_stock_head(
    loss, align_corners, size, stride, small_bands
):
    logits, labels = make(size, stride)
    stock, ours = build(align_corners, **LOSSES[loss])
    (expected, gradient), (found, own) = (results(head, logits, labels) for head in (stock, ours))
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key].shape == value.shape
        torch.testing.assert_close(found[key].double(), value.double(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(own, gradient, rtol=1e-6, atol=1e-12)


def test_class_weights_and_valid_pixels_are_the_mean_of_pytorch(small_bands):
    """mmsegmentation's own class raises an IndexError for these arguments (onedl 1.4.2)."""
    logits, labels = make((144, 160), 4)
    _, ours = build(class_weight=[0.5, 1, 2, 3, 0.1], avg_non_ignore=True)
    found, gradient = results(ours, logits, labels)
    large = torch.nn.functional.interpolate(logits, (144, 160), mode="bilinear")
    weight = torch.tensor([0.5, 1, 2, 3, 0.1], dtype=torch.float64)
    expected = torch.nn.functional.cross_entropy(large, labels, weight, ignore_index=255)
    torch.testing.assert_close(found["loss_ce"], expected, rtol=1e-6, atol=0)
    (3 * expected).backward()
    torch.testing.assert_close(gradient, logits.grad, rtol=1e-6, atol=1e-12)


def test_images_without_a_label_have_no_loss(small_bands):
    logits, labels = make((144, 160), 4)
    stock, ours = build(**LOSSES["valid"])
    (expected, gradient), (found, own) = (
        results(head, logits, torch.full_like(labels, 255)) for head in (stock, ours)
    )
    torch.testing.assert_close(found["loss_own"], expected["loss_own"], check_dtype=False)
    torch.testing.assert_close(own, gradient)


@pytest.mark.parametrize("changes", [dict(use_sigmoid=True), dict(type="mmseg.DiceLoss")])
def test_other_losses_are_those_of_the_stock_head(changes, monkeypatch):
    logits, labels = make((144, 160), 4)
    labels[labels == 255] = 0
    stock, ours = build(**changes)
    monkeypatch.setattr(banded_loss._SumOfBands, "apply", None)
    expected, found = (results(head, logits, labels) for head in (stock, ours))
    torch.testing.assert_close(found, expected)


def test_sampled_pixels_have_the_loss_of_the_stock_head(monkeypatch):
    logits, labels = make((144, 160), 4)
    stock, ours = build()
    for head in (stock, ours):
        head.sampler = MODELS.build  # any other than None
        head.sampler = type(
            "All", (), {"sample": lambda self, logits, labels: labels[:, 0] * 0 + 1}
        )()
    monkeypatch.setattr(banded_loss._SumOfBands, "apply", None)
    torch.testing.assert_close(results(ours, logits, labels), results(stock, logits, labels))


def test_without_gradients_the_loss_is_the_same(small_bands):
    logits, labels = make((144, 160), 4)
    stock, ours = build()
    with torch.no_grad():
        expected, found = (h.loss_by_feat(logits, samples_of(labels)) for h in (stock, ours))
    torch.testing.assert_close(found, expected, check_dtype=False)


def test_autocast_sums_in_float32(small_bands):
    logits, labels = make((144, 160), 4)
    stock, ours = build()
    logits = logits.detach().bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected, found = (results(head, logits, labels) for head in (stock, ours))
    assert found[0]["loss_ce"].dtype == torch.float32
    torch.testing.assert_close(found[0]["loss_ce"], expected[0]["loss_ce"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[1], expected[1], rtol=3e-2, atol=1e-6)


def test_no_tensor_has_the_size_of_all_logits(small_bands):
    from torch.utils._python_dispatch import TorchDispatchMode

    largest = [0]

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                largest[0] = max(largest[0], result.numel())
            return result

    logits, labels = make((144, 160), 4)
    _, ours = build()
    with Watch():
        results(ours, logits, labels)
    assert largest[0] < 2 * CLASSES * 144 * 160 / 4
