"""Numbers of classes in the heads of detectors, and class names of their datasets."""

import io
import re
from contextlib import redirect_stdout
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path

import pytest
from mmengine.config import Config, ConfigDict

from gfnet_dense.datasets.checks.detection_classes import check_detector_classes
from gfnet_dense.utils.config import read_config
from gfnet_dense.utils.errors import InputError
from tests.coco_files import data_config
from tests.conftest import ROOT, config_param, needs_operators

pytestmark = needs_operators

ALL = ("train", "val", "test")
OWN = ("disc", "blob")
DETECTORS = sorted(path.stem for path in (ROOT / "configs").glob("*_coco*.py"))


def with_model(model, **data):
    """Return a config with a model and two classes."""
    return ConfigDict(data_config(Path("data"), **data), model=model)


def cascade(*numbers):
    return dict(roi_head=dict(bbox_head=[dict(num_classes=n) for n in numbers]))


def queries(num_classes, num_weights):
    loss = dict(class_weight=[1.0] * num_weights)
    return dict(
        panoptic_head=dict(num_things_classes=num_classes, num_stuff_classes=0, loss_cls=loss),
        panoptic_fusion_head=dict(num_things_classes=num_classes, num_stuff_classes=0),
    )


ROI = dict(bbox_head=dict(num_classes=2), mask_head=dict(num_classes=2))
# (head, model, expected)
HEADS = [
    ("one stage: 2", dict(bbox_head=dict(num_classes=2)), "used"),
    ("one stage: 80", dict(bbox_head=dict(num_classes=80)), "model.bbox_head.num_classes is 80"),
    ("one stage: 3", dict(bbox_head=dict(num_classes=3)), "is 3, .* set it to 2"),
    ("one stage: 1", dict(bbox_head=dict(num_classes=1)), "is 1, .* set it to 2"),
    ("two stages: 2", dict(roi_head=ROI), "used"),
    (
        "box head 80, mask head 80",
        dict(roi_head=dict(bbox_head=dict(num_classes=80), mask_head=dict(num_classes=80))),
        "model.roi_head.bbox_head.num_classes and model.roi_head.mask_head.num_classes is 80",
    ),
    (
        "mask head alone: 80",
        dict(roi_head=dict(ROI, mask_head=dict(num_classes=80))),
        "model.roi_head.mask_head.num_classes is 80",
    ),
    ("cascade: 2, 2, 2", cascade(2, 2, 2), "used"),
    ("cascade: 2, 2, 80", cascade(2, 2, 80), r"bbox_head\[2\].num_classes is 80"),
    ("queries: 2, weights 3", queries(2, 3), "used"),
    ("queries: 80, weights 81", queries(80, 81), "panoptic_head.num_things_classes"),
    ("queries: 2, weights 81", queries(2, 81), "class_weight has 81 weights, .* 2 classes"),
    (
        "Seesaw loss: 80",
        dict(roi_head=dict(bbox_head=dict(num_classes=2, loss_cls=dict(num_classes=80)))),
        "loss_cls.num_classes is 80",
    ),
    ("inside of a wrapper: 80", dict(detector=dict(bbox_head=dict(num_classes=80))), "is 80"),
    ("proposals: 1", dict(rpn_head=dict(num_classes=1), roi_head=ROI), "used"),
    ("semantic branch: 183", dict(roi_head=dict(ROI, semantic_head=dict(num_classes=183))), "used"),
    (
        "classes by text: 256",
        dict(language_model=dict(), bbox_head=dict(num_classes=256)),
        "used",
    ),
]


def test_heads_fit_the_classes_or_are_refused(check_table):
    rows = [["heads, for 2 classes", "what happens"]]
    for name, model, expected in HEADS:
        found = "used"
        try:
            check_detector_classes(with_model(model), ALL)
        except InputError as e:
            found = f"refused: {e}"
        assert re.search(expected, found), (name, found)
        rows.append([name, re.sub(", but.*", "", found)])
    check_table("detector heads", rows)


@pytest.mark.parametrize("name", [config_param(name) for name in DETECTORS])
def test_each_head_of_each_config_of_this_project_is_compared(name):
    cfg = read_config(name)
    check_detector_classes(cfg, ALL)
    for split in ALL:
        dataset = cfg[f"{split}_dataloader"].dataset
        dataset.metainfo = dict(classes=OWN)
    with pytest.raises(InputError, match="is 80, but the train dataset has 2 classes"):
        check_detector_classes(cfg, ALL)

    def heads(node, path=()):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            if key == "num_classes":
                yield node, path
            elif isinstance(value, (dict, list)):
                yield from heads(value, (*path, key))

    own = deepcopy(cfg)
    for head, _ in heads(own.model):
        head["num_classes"] = 2
    check_detector_classes(own, ALL)
    for number, (_, path) in enumerate(list(heads(own.model))):
        other = deepcopy(own)
        list(heads(other.model))[number][0]["num_classes"] = 5
        with pytest.raises(InputError, match=f"{path[-1]}.*num_classes is 5"):
            check_detector_classes(other, ALL)


UNUSUAL = (
    "bytetrack",
    "grounding_dino/coco",
    "mask2former/mask2former_r50",
    "panoptic_fpn",
    "person-bicycle-car",
    "scnet",
    "seesaw",
    "semi",
    "soft_teacher",
)


@pytest.mark.parametrize("which", ["unusual", pytest.param("all", marks=pytest.mark.slow)])
def test_configs_of_mmdetection_give_no_false_alarm(which):
    folder = Path(find_spec("mmdet").submodule_search_locations[0]) / ".mim" / "configs"
    num_read = num_without_package = 0
    for path in sorted(folder.glob("[!_]*/**/*.py")):
        if which == "unusual" and not any(word in str(path) for word in UNUSUAL):
            continue
        try:
            with redirect_stdout(io.StringIO()):
                cfg = Config.fromfile(path)
        except (ImportError, FileNotFoundError):  # of packages that are not installed
            num_without_package += 1
            continue
        if "model" in cfg:
            check_detector_classes(cfg, ALL)
            num_read += 1
    if which == "all":
        assert num_read + num_without_package > 800 and num_without_package < 20
    else:
        assert num_read > 30


@pytest.mark.parametrize(
    "val, message",
    [
        (("blob", "disc"), "train dataset are disc, blob, those of the val dataset blob, disc"),
        (("disc", "cone"), "those of the val dataset disc, cone"),
        (None, "is 2, but the val dataset has 80 classes"),
        (("disc",), "is 2, but the val dataset has 1 class"),
        (("disc", "disc"), "'disc' is there twice"),
        (("disc", 3), "3 is no text"),
        ("disc", "the text 'disc'"),
        ((), "needs class names"),
    ],
)
def test_splits_with_other_classes_are_refused(val, message):
    cfg = with_model(dict(bbox_head=dict(num_classes=2)))
    check_detector_classes(cfg, ALL)
    cfg.val_dataloader.dataset.metainfo = {} if val is None else dict(classes=val)
    with pytest.raises(InputError, match=message):
        check_detector_classes(cfg, ALL)


@pytest.mark.parametrize(
    ("metainfo", "why"),
    [
        ({}, "names no classes"),
        (dict(CLASSES=OWN), "has CLASSES instead of classes"),  # the key of mmdetection 3.0rc
    ],
)
def test_classes_that_the_config_does_not_name_are_not_taken_for_those_of_the_data(metainfo, why):
    cfg = with_model(dict(bbox_head=dict(num_classes=2)))
    cfg.val_dataloader.dataset.metainfo = metainfo
    message = (
        "is 2, but the val dataset has 80 classes .person, bicycle, car, ....; these are the "
        f"classes of CocoDataset, since its metainfo {why}: set metainfo=dict.classes=.... of this "
        "dataset to those of your data, or num_classes to 80$"
    )
    with pytest.raises(InputError, match=message):
        check_detector_classes(cfg, ALL)


def test_all_datasets_of_a_split_are_compared():
    """Each file fits the order of its own dataset, but a label means two classes."""
    cfg = with_model(dict(bbox_head=dict(num_classes=2)))
    inner = cfg.train_dataloader.dataset
    other = dict(inner, metainfo=dict(classes=OWN[::-1]))
    cfg.train_dataloader.dataset = dict(type="ConcatDataset", datasets=[inner, other])
    with pytest.raises(InputError, match="train dataset are disc, blob, .* other train .* blob, d"):
        check_detector_classes(cfg, ALL)
    other["metainfo"] = dict(classes=list(OWN))
    cfg.train_dataloader.dataset = dict(type="ConcatDataset", datasets=[inner, other])
    check_detector_classes(cfg, ALL)


def test_datasets_in_wrappers_and_of_other_kinds_are_compared_too():
    cfg = with_model(dict(bbox_head=dict(num_classes=2)))
    inner = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = dict(type="RepeatDataset", times=2, dataset=inner)
    check_detector_classes(cfg, ("train",))
    inner.type = "VOCDataset"
    check_detector_classes(cfg, ("train",))
    del inner["metainfo"]
    with pytest.raises(InputError, match="is 2, but the train dataset has 20 classes"):
        check_detector_classes(cfg, ("train",))
    other = dict(type="ODVGDataset", data_root="data", ann_file="a.json")
    cfg.train_dataloader.dataset = dict(type="ConcatDataset", datasets=[other])
    check_detector_classes(cfg, ("train",))
