"""Classes of a checkpoint against those of the data, and against the outputs of its model."""

import re

import pytest
import torch
from mmengine.config import ConfigDict

from gfnet_dense.apis.loading import load_model, num_classes
from gfnet_dense.checkpoint.classes import check_classes
from gfnet_dense.demo import shrink
from gfnet_dense.utils.config import read_config
from gfnet_dense.utils.errors import InputError
from tests.checkpoint.weights import Messages, tiny_config, tiny_weights
from tests.conftest import needs_operators

ORDER = "trained for the classes disc, blob, in this order, and the data of the config have blob"

# Classes of the file, classes of the data, and the message; None if nothing is said.
CASES = {
    "the same": (["disc", "blob"], ("disc", "blob"), None),
    "another order": (["disc", "blob"], ("blob", "disc"), ORDER),
    "another order, of three": (list("abc"), list("acb"), "class 1 is 'b' there and 'c' here"),
    "another name": (["a", "blob"], ("a", "drop"), "1 classes of other names.*'blob' and.*'drop"),
    "another spelling": (["Disc", "blob"], ("disc", "blob"), "'Disc' and, in the config, 'disc'"),
    "one name twice": (["a", "a", "b"], ("a", "b", "b"), "'a' and, in the config, 'b'"),
    "fewer in the data": (list("abc"), list("ab"), "3 classes, the data of the config have 2$"),
    "more in the data": (list("ab"), list("xab"), "2 classes, .* have 3; .* 'a' and, .*, 'x'"),
    "none in the file": (None, list("ab"), None),
    "none in the data": (list("ab"), None, None),
    "no list in the file": (3, list("ab"), None),
    "numbers as names": ([1, 2], ["1", "2"], None),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_another_order_is_refused_and_other_names_are_warned_of(case):
    trained, own, message = CASES[case]
    meta = {"dataset_meta": {"classes": trained}} if trained is not None else {}
    if "order" in case:
        with pytest.raises(InputError, match=message) as error:
            check_classes(meta, own, "iter_4.pth")
        assert "iter_4.pth" in str(error.value)
        return
    with Messages() as messages:
        check_classes(meta, own, "iter_4.pth")
    assert len(messages) == (message is not None)
    if message is not None:
        assert re.search(message, messages[0]), messages[0]


@pytest.mark.parametrize("names", ["abcd", "abcdef", "a", ["abc"]])
@pytest.mark.parametrize("form", ["new", "old"])
def test_a_file_that_names_another_number_of_classes_is_refused(names, form, tmp_path):
    classes = names[0] if isinstance(names, list) else list(names)  # a string is one name
    meta = dict(dataset_meta=dict(classes=classes)) if form == "new" else dict(CLASSES=classes)
    path = tmp_path / "own.pth"
    torch.save({"state_dict": tiny_weights(), "meta": meta}, path)
    with pytest.raises(InputError) as error:
        load_model(tiny_config(), path)
    assert str(error.value) == (
        f"{path} names {len(names)} classes, and its model tells 5 apart: name all 5 in its meta "
        "(dataset_meta, in old files CLASSES), or none, for those of the config"
    )


@pytest.mark.parametrize("meta", [{}, {"CLASSES": None}, {"CLASSES": ()}, {"dataset_meta": {}}])
def test_a_file_without_classes_has_those_of_the_config(meta, tmp_path):
    cfg = tiny_config()
    torch.save({"state_dict": tiny_weights(), "meta": meta}, tmp_path / "own.pth")
    classes = load_model(cfg, tmp_path / "own.pth").dataset_meta["classes"]
    assert tuple(classes) == tuple(load_model(cfg).dataset_meta["classes"])


def test_as_many_classes_as_outputs_are_taken(tmp_path):
    meta = dict(dataset_meta=dict(classes=tuple("abcde")))
    torch.save({"state_dict": tiny_weights(), "meta": meta}, tmp_path / "own.pth")
    assert load_model(tiny_config(), tmp_path / "own.pth").dataset_meta["classes"] == tuple("abcde")


@pytest.mark.parametrize(
    "head, count",
    [
        (dict(num_classes=2, out_channels=1), 2),
        (dict(num_classes=1, out_channels=1), 2),
        (dict(num_classes=2), 2),
        (dict(num_classes=7), 7),
    ],
)
def test_one_channel_with_a_threshold_tells_two_classes_apart(head, count, tmp_path):
    cfg = tiny_config()
    loss = dict(type="CrossEntropyLoss", use_sigmoid=True)
    cfg.model.decode_head.update(head, loss_decode=loss)
    model = load_model(cfg)
    assert num_classes(model) == count
    for number in (count - 1, count):
        meta = dict(CLASSES=[f"c{i}" for i in range(number)])
        torch.save({"state_dict": model.state_dict(), "meta": meta}, tmp_path / "own.pth")
        if number == count:
            load_model(cfg, tmp_path / "own.pth")
            continue
        with pytest.raises(InputError, match=f"names {number} classes, .* tells {count} apart"):
            load_model(cfg, tmp_path / "own.pth")


def test_the_last_head_of_a_cascade_of_segmentors_counts():
    cfg = tiny_config()
    head = cfg.model.decode_head
    last = ConfigDict(head, num_classes=3, type="PointHead", in_index=[0], in_channels=[8])
    last.update(num_fcs=1, coarse_pred_each_layer=True)
    for key in ("feature_strides", "norm_cfg"):
        last.pop(key, None)
    cfg.model.update(type="CascadeEncoderDecoder", num_stages=2, decode_head=[head, last])
    assert num_classes(load_model(cfg)) == 3


def test_masks_of_a_mask2former_are_of_as_many_classes_as_it_says():
    pytest.importorskip("mmdet")
    cfg = read_config("mask2former_gfnet-h-ti_ade20k")
    shrink(cfg)
    cfg.model.decode_head.num_classes = 4
    cfg.model.decode_head.loss_cls.class_weight = [1.0] * 4 + [0.1]
    assert num_classes(load_model(cfg)) == 4


@needs_operators
@pytest.mark.parametrize(
    "name",
    [
        "retinanet_gfnet-h-ti_coco",
        "atss_gfnet-h-ti_coco",
        "mask-rcnn_gfnet-h-ti_coco",
        "cascade-mask-rcnn_gfnet-h-ti_coco",
        "dino-4scale_gfnet-h-ti_coco",
    ],
)
def test_box_heads_of_one_and_two_stages_and_of_a_cascade_say_how_many_classes(name, tmp_path):
    cfg = read_config(name)
    shrink(cfg)
    model = load_model(cfg)
    count = len(model.dataset_meta["classes"])
    assert num_classes(model) == count
    meta = dict(CLASSES=[f"c{i}" for i in range(count + 1)])
    # Until it is initialized, mmdet's DINO has tensors of whatever is in the memory.
    weights = {name: tensor.nan_to_num() for name, tensor in model.state_dict().items()}
    torch.save({"state_dict": weights, "meta": meta}, tmp_path / "own.pth")
    sentence = f"names {count + 1} classes, .* tells {count} apart"
    with pytest.raises(InputError, match=sentence):
        load_model(cfg, tmp_path / "own.pth")


@needs_operators
def test_heads_that_do_not_know_all_classes_are_not_compared():
    """Those of things in a panoptic model, of a region proposal network, and of words in a text."""
    cfg = read_config("faster-rcnn_gfnet-h-ti_coco")
    shrink(cfg)
    model = load_model(cfg)
    assert num_classes(model) is not None
    for part in ("semantic_head", "language_model"):
        setattr(model, part, torch.nn.Identity())
        assert num_classes(model) is None
        delattr(model, part)
    proposals = cfg.copy()
    rpn = dict(cfg.model.rpn_head, type="mmdet.RPNHead")
    proposals.model = dict(
        type="mmdet.RPN", backbone=cfg.model.backbone, neck=cfg.model.neck, rpn_head=rpn,
        train_cfg=cfg.model.train_cfg, test_cfg=cfg.model.test_cfg,
        data_preprocessor=cfg.model.data_preprocessor,
    )  # fmt: skip
    assert num_classes(load_model(proposals)) is None
    assert num_classes(torch.nn.Identity()) is None
