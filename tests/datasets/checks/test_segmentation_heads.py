"""Heads of one output channel, and the losses that can train them: tried on real heads."""

from pathlib import Path

import mmseg
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.models.decode_heads import FCNHead
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules
from torch.nn.functional import one_hot

from gfnet_dense.datasets.checks.datasets import check_classes, class_names
from gfnet_dense.datasets.checks.ignored_labels import differing_ignore_indices
from gfnet_dense.datasets.checks.segmentation_heads import (
    check_heads,
    check_losses_on_cpu,
    find_heads,
)
from gfnet_dense.utils.config import find_datasets
from gfnet_dense.utils.errors import InputError

CLASSES = ["background", "road", "car"]
LOSSES = {
    "cross entropy": dict(type="CrossEntropyLoss"),
    "cross entropy, use_sigmoid": dict(type="CrossEntropyLoss", use_sigmoid=True),
    "Dice": dict(type="DiceLoss"),
    "Lovasz": dict(type="LovaszLoss", reduction="none"),
    "Lovasz, binary": dict(type="LovaszLoss", loss_type="binary", reduction="none"),
    "Tversky": dict(type="TverskyLoss"),
}
R, ZERO, OPPOSITE = "right", "refused (loss 0)", "refused (opposite)"
INDEX, ERROR, NUMBER = "refused (IndexError)", "refused (error)", "refused (number)"
SINGLE = "refused (single class)"
# (number of classes, num_classes, out_channels): what happens with each of LOSSES
ONE_CHANNEL = [INDEX, R, OPPOSITE, ERROR, R, ZERO]
EXPECTED = {
    (1, 1, None): [SINGLE] * 6,
    (1, 1, 1): [SINGLE] * 6,
    (1, 2, None): [SINGLE] * 6,
    (1, 2, 1): [SINGLE] * 6,
    (2, 1, None): ONE_CHANNEL,
    (2, 1, 1): ONE_CHANNEL,
    (2, 2, None): [R, R, R, R, ERROR, R],
    (2, 2, 1): ONE_CHANNEL,
    (2, 2, 2): [R, R, R, R, ERROR, R],
    (2, 3, None): [NUMBER] * 6,
    (3, 1, None): [NUMBER] * 6,
    (3, 2, 1): [NUMBER] * 6,
    (3, 3, 1): [NUMBER] * 6,
    (3, 3, None): [R, R, R, R, ERROR, R],
}


def train_head(num_labels, head):
    """Train a head that sees the label of each pixel; return what mmsegmentation does.

    Args:
        num_labels: Number of labels in the label maps.
        head: Arguments of the head.

    Returns:
        'right' if the head has learned the labels, else how it failed, as in a cell of the table.
    """
    torch.manual_seed(0)
    init_default_scope("mmseg")
    labels = torch.randint(0, num_labels, (2, 1, 16, 16))
    features = one_hot(labels[:, 0], 4).permute(0, 3, 1, 2).float()
    labels[..., :2] = 255
    samples = [SegDataSample(gt_sem_seg=PixelData(data=each)) for each in labels]
    head = FCNHead(
        in_channels=4, channels=4, num_convs=0, concat_input=False, dropout_ratio=0, init_cfg=None,
        **head,
    )  # fmt: skip
    optimizer = torch.optim.SGD(head.parameters(), lr=1.0)
    try:
        for _ in range(120):
            losses = head.loss_by_feat(head([features]), samples)
            loss = sum(value.sum() for name, value in losses.items() if "loss" in name)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    except IndexError:
        return INDEX
    except (AssertionError, RuntimeError, ValueError):
        return ERROR
    logits = head([features])
    found = logits.argmax(1, keepdim=True)
    if logits.shape[1] == 1:  # as in mmseg's BaseSegmentor.postprocess_result
        found = (logits.sigmoid() > head.threshold).long()
    right = (found == labels)[labels != 255].float().mean()
    if loss == 0 and right < 1:
        return ZERO
    return R if right == 1 else OPPOSITE if right == 0 else f"{right:.0%} right"


def refusal(head, num_classes):
    try:
        check_heads(ConfigDict(decode_head=dict(type="FCNHead", **head)), CLASSES[:num_classes])
    except InputError as e:
        return str(e)
    return None


def test_each_loss_with_each_number_of_outputs(check_table):
    """What is refused cannot be trained; what passes the check is learned."""
    rows = [["classes", "num_classes", "out_channels", *LOSSES]]
    for (count, num_classes, out_channels), expected in EXPECTED.items():
        found = []
        for loss in LOSSES.values():
            head = dict(num_classes=num_classes, loss_decode=loss)
            if out_channels is not None:
                head["out_channels"] = out_channels
            sentence = refusal(head, count)
            if count == 1:
                assert "a single class needs its background" in sentence
                found.append(SINGLE)
            elif expected[0] == NUMBER:
                assert "but the dataset has" in sentence
                found.append(NUMBER)
            else:
                found.append(train_head(count, head))
                assert (sentence is None) == (found[-1] == R), (head, sentence, found[-1])
        assert found == expected, (count, num_classes, out_channels)
        rows.append([count, num_classes, out_channels or "", *found])
    check_table("segmentation heads", rows)


SIGMOID = LOSSES["cross entropy, use_sigmoid"]


@pytest.mark.parametrize(
    "head, message",
    [
        (dict(loss_decode=SIGMOID), None),
        (dict(loss_decode=[SIGMOID, LOSSES["Lovasz, binary"]]), None),
        (dict(loss_decode=[SIGMOID, LOSSES["Dice"]]), "DiceLoss cannot train one output channel"),
        (dict(loss_decode=[SIGMOID, LOSSES["cross entropy"]]), "one output channel needs .*sigm"),
        (dict(loss_decode=dict(type="mmseg.CrossEntropyLoss", use_sigmoid=True)), None),
        (dict(loss_decode=dict(type="MyLoss")), None),  # nothing is known of it
        (dict(), "one output channel needs"),  # the default of a head is cross entropy
        (dict(loss_decode=SIGMOID, threshold=0.5), None),
        (dict(loss_decode=SIGMOID, threshold=0), "threshold is compared with a probability"),
        (dict(loss_decode=SIGMOID, threshold=128), "between 0 and 1, got 128"),
    ],
)
def test_losses_in_lists_defaults_and_thresholds(head, message):
    for key in ("decode_head", "auxiliary_head"):
        for heads in (
            dict(num_classes=2, out_channels=1, **head),
            [
                dict(num_classes=2, loss_decode=dict(type="CrossEntropyLoss")),
                dict(num_classes=1, **head),
            ],
        ):
            if key == "decode_head" and isinstance(heads, list):
                continue  # see the test of lists below
            model = ConfigDict({key: heads})
            if message is None:
                check_heads(model, CLASSES[:2])
                continue
            with pytest.raises(InputError, match=message) as error:
                check_heads(model, CLASSES[:2])
            assert f"model.{key}" in str(error.value)


def test_a_list_of_heads_cannot_predict_one_channel():
    """mmsegmentation asks the list for the threshold; the sentence replaces that error."""
    register_all_modules()
    head = dict(type="FCNHead", in_channels=4, channels=4, num_convs=0, concat_input=False)
    heads = [dict(head, num_classes=2, out_channels=1, loss_decode=SIGMOID) for _ in range(2)]
    model = MODELS.build(
        dict(
            type="CascadeEncoderDecoder",
            num_stages=2,
            backbone=dict(type="ResNet", depth=18),
            decode_head=[dict(each) for each in heads],
            test_cfg=dict(mode="whole"),
        )
    )
    with pytest.raises(AttributeError, match="threshold"):
        model.postprocess_result(torch.zeros(1, 1, 4, 4))
    with pytest.raises(InputError, match=r"model.decode_head\[1\] has one output channel"):
        check_heads(ConfigDict(decode_head=heads), CLASSES[:2])


def test_heads_inside_heads_are_checked_and_boundary_heads_are_not():
    inner = dict(num_classes=3, type="FCNHead")
    model = ConfigDict(
        decode_head=dict(type="IterativeDecodeHead", kernel_generate_head=inner),
        auxiliary_head=[dict(type="STDCHead", num_classes=2), dict(type="FCNHead", num_classes=3)],
    )
    names = [name for name, _ in find_heads(model)]
    assert names == ["model.decode_head.kernel_generate_head", "model.auxiliary_head[1]"]
    check_heads(model, CLASSES)
    inner["num_classes"] = 150
    model.decode_head.kernel_generate_head.num_classes = 150
    with pytest.raises(InputError, match="kernel_generate_head.num_classes is 150"):
        check_heads(model, CLASSES)


def test_a_single_class_gets_the_lines_to_write():
    with pytest.raises(InputError) as error:
        check_heads(ConfigDict(decode_head=dict(num_classes=1)), ["road"])
    assert "set classes=['background', 'road'] and num_classes=2" in str(error.value)


def test_configs_of_mmsegmentation_cause_no_false_alarm():
    """One config of each method is tried; SAN's for VOC trains 20 outputs with 21 classes."""
    register_all_modules()
    root = Path(mmseg.__file__).parent / ".mim" / "configs"
    tried = 0
    for folder in sorted(path for path in root.iterdir() if path.name != "_base_"):
        for path in sorted(folder.glob("*.py"))[-1:]:
            try:
                cfg = Config.fromfile(path)
            except ImportError:  # mmpretrain is not installed
                continue
            splits = ("train", "val", "test")
            if path.name == "san-vit-l14_voc12aug-640x640.py":
                with pytest.raises(InputError, match="num_classes is 20, but the dataset has 21"):
                    check_classes(cfg, splits)
                continue
            check_classes(cfg, splits)
            if "dsdl" in str(path):  # its class names are in its files
                continue
            classes = class_names(find_datasets(cfg.train_dataloader.dataset)[0], "mmseg")
            assert differing_ignore_indices(cfg, classes, splits) == []
            tried += 1
    assert tried > 40


@pytest.mark.parametrize(
    ("loss", "key", "right"),
    [
        (dict(type="CrossEntropyLoss"), "class_weight", [1.0, 2.0, 3.0]),
        (dict(type="DiceLoss"), "class_weight", [1.0, 2.0, 3.0]),
        (dict(type="FocalLoss"), "alpha", [0.1, 0.2, 0.3]),
    ],
)
def test_weights_of_a_loss_are_as_many_as_the_outputs(loss, key, right):
    """Else PyTorch ends the first step with: weight tensor should be defined for all classes."""

    def check(weights):
        losses = [dict(type="CrossEntropyLoss"), {**loss, key: weights}]
        head = dict(type="FCNHead", num_classes=3, loss_decode=losses)
        check_heads(ConfigDict(decode_head=head), CLASSES)

    for accepted in (right, tuple(right), None, 0.5, "weights.npy"):
        check(accepted)
    for wrong in (right[:2], right * 2, []):
        with pytest.raises(InputError, match=f"{key} of .* {len(wrong)} weights for 3 output"):
            check(wrong)


def test_focal_loss_is_refused_on_a_cpu_as_long_as_it_fails_there():
    loss = dict(type="FocalLoss", use_sigmoid=True)
    head = dict(type="FCNHead", num_classes=3, loss_decode=[dict(type="DiceLoss"), loss])
    with pytest.raises(InputError, match="FocalLoss fails on a CPU with several classes"):
        check_losses_on_cpu(ConfigDict(decode_head=head))
    check_losses_on_cpu(ConfigDict(decode_head={**head, "out_channels": 1}))
    check_losses_on_cpu(ConfigDict(bbox_head=dict(num_classes=3, loss_cls=loss)))  # mmdetection's
    init_default_scope("mmseg")
    built = MODELS.build(loss)
    with pytest.raises(RuntimeError):  # as the check says
        built(torch.rand(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4)))
