"""Settings of labels to ignore that differ: the warning, and what mmsegmentation makes of them."""

import pytest
import torch
from mmengine.config import ConfigDict
from mmseg.evaluation import IoUMetric
from mmseg.utils import register_all_modules

from gfnet_dense.datasets.checks.datasets import check_classes
from gfnet_dense.datasets.checks.ignored_labels import differing_ignore_indices

CLASSES = ["background", "road", "car"]
SPLITS = ("train", "val", "test")
DIFFERENT = "warned: the figure counts what is not learned"
LOSSES, PADDING, UNREAD = (
    "warned: the losses differ",
    "warned: padding is learned",
    "warned: unread",
)
STOPS = "warned: padding stops the training"
SHIFT, REDUCED, QUIET = "warned: labels differ by 1", "warned: 0 becomes 255", "nothing, they agree"
# (setting, its value, options by dotted key, what happens, a part of the sentence)
CASES = [
    ("nothing is set", {}, QUIET, ""),
    ("ignore_index of head and metric, 0", {"head": 0, "val": 0, "test": 0, "aux": 0}, QUIET, ""),
    ("ignore_index of the head, 0", {"head": 0, "aux": 0}, DIFFERENT, "'background' are not lea"),
    ("ignore_index of the head, None", {"head": None, "aux": None}, DIFFERENT, "is None and val"),
    ("ignore_index of val_evaluator, 0", {"val": 0}, DIFFERENT, "'background' are left out of it"),
    ("ignore_index of val_evaluator, 254", {"val": 254}, DIFFERENT, "the label 254 are left out"),
    ("ignore_index of test_evaluator, 1", {"test": 1}, DIFFERENT, "test_evaluator.ignore_index"),
    ("ignore_index of auxiliary_head, 1", {"aux": 1}, LOSSES, "the label 255 and 'road'"),
    ("ignore_index of DiceLoss, 0", {"dice": 0}, LOSSES, "DiceLoss in model.decode_head is 0"),
    ("ignore_index of DiceLoss, None", {"dice": None}, QUIET, ""),
    ("ignore_index of the dataset, 0", {"dataset": 0}, UNREAD, "does not read the latter"),
    ("seg_pad_val of data_preprocessor, 0", {"pad": 0}, PADDING, "learned as 'background'"),
    ("seg_pad_val of data_preprocessor, 254", {"pad": 254}, QUIET, ""),
    ("the same, with RandomResize", {"pad": 254, "resize": True}, STOPS, "the loss stops, 254"),
    ("pad_val.seg of Pad, 2", {"transform": 2}, PADDING, "the padding of Pad"),
    ("seg_pad_val of RandomRotate, 1", {"rotate": 1}, PADDING, "the padding of RandomRotate"),
    ("reduce_zero_label, both", {"reduce": (True, True)}, QUIET, ""),
    ("reduce_zero_label, train alone", {"reduce": (True, False)}, SHIFT, "True in train_dataload"),
    (
        "reduce_zero_label, ignore_index of head and metric, 0",
        {"reduce": (True, True), "head": 0, "aux": 0, "val": 0, "test": 0},
        REDUCED,
        "the label 0 becomes 255: set it to 255",
    ),
    ("ignore_index of the head, 0, with DiceLoss", {"head": 0, "dice": 255}, LOSSES, "DiceLoss in"),
    ("avg_non_ignore of the loss", {"average": True}, QUIET, ""),
]  # fmt: skip


def build_config(options):
    def given(key, name="ignore_index"):
        return {name: options[key]} if key in options else {}

    def loader(reduces):
        pipeline = [
            dict(type="RandomResize" if "resize" in options else "LoadImageFromFile"),
            dict(type="Pad", size=(8, 8), pad_val=dict(img=0, seg=options.get("transform", 255))),
            dict(type="RandomRotate", prob=1, degree=9, **given("rotate", "seg_pad_val")),
        ]
        metainfo = dict(classes=CLASSES)
        dataset = dict(type="BaseSegDataset", metainfo=metainfo, pipeline=pipeline)
        return dict(dataset=dict(dataset, reduce_zero_label=reduces, **given("dataset")))

    train, val = options.get("reduce", (False, False))
    entropy = dict(type="CrossEntropyLoss", **given("average", "avg_non_ignore"))
    losses = [entropy, dict(type="DiceLoss", **given("dice"))] if "dice" in options else entropy
    model = dict(
        data_preprocessor=given("pad", "seg_pad_val"),
        decode_head=dict(num_classes=3, loss_decode=losses, **given("head")),
        auxiliary_head=dict(num_classes=3, loss_decode=entropy, **given("aux")),
    )
    return ConfigDict(
        default_scope="mmseg",
        model=model,
        train_dataloader=loader(train),
        val_dataloader=loader(val),
        test_dataloader=loader(val),
        val_evaluator=dict(type="IoUMetric", **given("val")),
        test_evaluator=[dict(type="IoUMetric", **given("test"))],
    )


def test_each_setting_that_differs_is_named_with_both_values(check_table):
    register_all_modules()
    rows = [["setting", "what happens before a training"]]
    for name, options, expected, part in CASES:
        sentences = differing_ignore_indices(build_config(options), CLASSES, SPLITS)
        assert bool(sentences) == (expected != QUIET), (name, sentences)
        assert not part or any(part in sentence for sentence in sentences), (name, sentences)
        rows.append([name, expected])
    check_table("ignore index", rows)


def test_the_warning_is_logged_before_a_training(monkeypatch):
    logged = []
    monkeypatch.setattr(
        "gfnet_dense.datasets.checks.datasets.print_log", lambda text, **_: logged.append(text)
    )
    register_all_modules()
    check_classes(build_config({"head": 0, "aux": 0}), ("train", "val"))
    assert logged == [
        "model.decode_head.ignore_index is 0 and val_evaluator.ignore_index is 255: pixels of "
        "'background' are not learned, but count in the figure, and pixels of the label 255 are "
        "left out of it; give both the same value"
    ]


@pytest.mark.parametrize("ignored", [255, 0, 254])
def test_the_figure_depends_on_what_the_metric_ignores(ignored):
    """A model that was not trained on class 0 labels its pixels as the neighboring class 1.

    A fourth of the pixels is of each of the classes 0, 1, 2, and not labeled (255). The prediction
    is 1 for 0, 1 for 1, 2 for 2, and 2 for 255.
    """
    labels = torch.tensor([0, 1, 2, 255]).repeat_interleave(4).view(1, 4, 4)
    found = torch.tensor([1, 1, 2, 2]).repeat_interleave(4).view(1, 4, 4)
    metric = IoUMetric(ignore_index=ignored)
    metric.dataset_meta = dict(classes=CLASSES)
    metric.process({}, [dict(pred_sem_seg=dict(data=found), gt_sem_seg=dict(data=labels))])
    # IoU by hand: class 0 is 0; class 1 is 4/8, or 1 if 0 is ignored; class 2 is 1, or 4/8 if the
    # pixels of 255 count. With ignore_index=0, class 0 has no pixel and is left out of the mean.
    by_hand = {255: (0 + 0.5 + 1) / 3, 0: (1 + 0.5) / 2, 254: (0 + 0.5 + 0.5) / 3}
    assert metric.evaluate(1)["mIoU"] == pytest.approx(100 * by_hand[ignored], abs=0.01)
