"""Mixed precision: which dtypes a device takes, and that every head of the configs works in it."""

import copy
from threading import Event, Thread

import pytest
import torch
from mmengine.structures import InstanceData
from torch import nn

from gfnet_dense.utils.amp import amp_dtype, autocast, is_slow_in_bfloat16
from gfnet_dense.utils.errors import InputError
from tests.conftest import config_param, needs_operators
from tests.test_no_labels import build, detection_samples, segmentation_samples


@pytest.mark.parametrize(
    "word, device, dtype",
    [
        ("auto", "cuda", torch.float16),
        ("auto", "cpu", torch.bfloat16),
        ("bfloat16", "cuda", torch.bfloat16),
        ("float16", "cuda", torch.float16),
        ("bfloat16", "cpu", torch.bfloat16),
    ],
)
def test_dtype_is_the_one_that_is_asked_for_or_the_usual_one_of_the_device(word, device, dtype):
    assert amp_dtype(word, device) == dtype


@pytest.mark.parametrize(
    "word, device, message",
    [
        ("half", "cuda", "one of auto, float16, bfloat16, got 'half'"),
        ("float16", "cpu", "float16 needs a GPU"),
        ("auto", "meta", "no mixed precision on the device meta"),
    ],
)
def test_what_a_device_does_not_have_is_refused(word, device, message):
    with pytest.raises(InputError, match=message):
        amp_dtype(word, device)


def test_cpus_without_bfloat16_are_known_as_far_as_pytorch_tells(monkeypatch):
    for capabilities, is_slow in (
        (dict(avx2=True, avx512_bf16=False, amx_bf16=False, cpu_name="x"), True),
        (dict(avx2=True, avx512_bf16=True), False),
        (dict(neon=True, bf16=True), False),
        ({}, False),
    ):
        has = dict(capabilities)
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has=has: has, raising=False)
        assert is_slow_in_bfloat16() == is_slow
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert not is_slow_in_bfloat16()


class Head(nn.Module):
    """A head by the name of its method."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return [self.layer(x)], {"inner": (self.layer(x), None, 3)}

    def predict_by_feat(self):
        """Not called."""


class Op(nn.Module):
    """Stands for a module of mmcv's operators."""

    __module__ = "mmcv.ops.some_op"

    def forward(self, x, scale):
        assert not torch.is_autocast_enabled("cpu")
        return (x * scale["by"]).dtype


def test_heads_return_float32_and_operators_get_it():
    model = nn.ModuleList([Head(), Op(), nn.Linear(4, 4)])
    own = model[0].forward = model[0].forward  # a user may have wrapped it
    x = torch.randn(2, 4)
    with autocast(model, "bfloat16"):
        y = model[2](x)
        assert y.dtype == torch.bfloat16
        (first,), rest = model[0](y)
        assert first.dtype == rest["inner"][0].dtype == torch.float32
        assert rest["inner"][1:] == (None, 3)
        assert model[1](y, scale={"by": y}) == torch.float32
    assert vars(model[0])["forward"] == own and "forward" not in vars(model[1])
    assert model[2](x).dtype == torch.float32
    with autocast(model, None):
        assert model[2](x).dtype == torch.float32


def test_threads_may_share_a_model():
    """Their blocks end in any order: a head is wrapped until the last one has ended."""
    head, entered, ended = Head(), Event(), Event()

    def run():
        with autocast(head, "bfloat16"):
            entered.set()
            ended.wait()

    first = Thread(target=run)
    first.start()
    entered.wait()
    with autocast(head, "bfloat16"):
        ended.set()
        first.join()
        assert head(torch.randn(2, 4))[0][0].dtype == torch.float32
        assert "forward" in vars(head)
    assert "forward" not in vars(head)


@pytest.mark.parametrize(
    "name",
    [
        config_param("upernet_gfnet_ade20k"),
        config_param("segformer_gfnet-h-ti_ade20k"),
        config_param("atss_gfnet-h-ti_coco"),
        config_param("mask-rcnn_gfnet-h-ti_coco"),
        config_param("dino-4scale_gfnet-h-ti_coco"),
    ],
)
def test_kinds_of_heads_train_and_predict_in_bfloat16(name):
    """The loss is that of float32 up to a few percent, and detections come through to the end."""
    model = build(name)
    samples = (detection_samples if "coco" in name else segmentation_samples)(num_labeled=2)
    inputs = [torch.randint(0, 256, (3, 128, 128), dtype=torch.uint8) for _ in samples]
    batch = {"inputs": inputs, "data_samples": samples}
    losses = []
    for word in (None, "bfloat16"):
        torch.manual_seed(1)
        data = model.data_preprocessor(copy.deepcopy(batch), True)
        with autocast(model, word):
            losses.append(model.parse_losses(model(**data, mode="loss"))[0])
    losses[1].backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(each.dtype == torch.float32 and each.isfinite().all() for each in gradients)
    torch.testing.assert_close(losses[1], losses[0], rtol=0.05, atol=0)
    if "coco" in name:  # everything is a detection, so that non-maximum suppression has work
        for part in model.modules():
            test_cfg = getattr(part, "test_cfg", None) or {}
            for each in (test_cfg, test_cfg.get("rcnn") or {}):
                each.update({"score_thr": 0.0} if "score_thr" in each else {})
    model.eval()
    data = model.data_preprocessor(copy.deepcopy(batch), False)
    with torch.no_grad(), autocast(model, "bfloat16"):
        predicted = model(**data, mode="predict")
    for sample in predicted:
        if "coco" in name:
            found: InstanceData = sample.pred_instances
            assert len(found) > 0 and found.scores.dtype == found.bboxes.dtype == torch.float32
        else:
            assert sample.pred_sem_seg.shape == (128, 128)


@needs_operators
def test_operators_of_mmcv_do_not_take_bfloat16():
    """Once they do, autocast() need not keep them in float32."""
    from mmcv.ops import batched_nms

    boxes = torch.tensor([[0.0, 0, 9, 9], [1, 1, 9, 9]], dtype=torch.bfloat16)
    scores = torch.tensor([0.9, 0.8])
    with pytest.raises(RuntimeError, match="expected scalar type Float but found BFloat16"):
        batched_nms(boxes, scores, torch.zeros(2), dict(type="nms", iou_threshold=0.5))
