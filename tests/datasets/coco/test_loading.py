"""When COCO files are checked, how often they are read, and what the commands say."""

import gc
import io
import json
import logging
import re
from contextlib import redirect_stdout

import pytest
from mmengine.config import ConfigDict
from mmengine.registry import DATASETS, METRICS, init_default_scope

from gfnet_dense.datasets.coco import file as coco_file
from gfnet_dense.datasets.coco.loading import checked_coco
from gfnet_dense.datasets.coco.uses import find_uses
from gfnet_dense.utils.errors import InputError
from tests.coco_files import (
    content_of,
    data_config,
    read_split,
    write_config,
    write_data,
)
from tests.commands import error_of, run, tool
from tests.conftest import needs_operators

pytestmark = needs_operators


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with data, the config toy.py and a checkpoint of it."""
    folder = write_data(tmp_path_factory.mktemp("loading"))
    write_config(folder / "toy.py", folder)
    result = run(tool("train", "toy.py"), folder)
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.count("train.json (training): 12 of 12 annotations, 6 pictures\n") == 1
    assert result.stdout.count("val.json (evaluation): 12 of 12 annotations, 6 pictures\n") == 1
    return folder


@pytest.fixture
def data(tmp_path):
    return write_data(tmp_path)


def test_no_file_is_parsed_for_a_check_alone(data, monkeypatch):
    """mmdetection's dataset and its evaluator read a file each, as without the checks."""
    read = []
    original = coco_file.json.loads
    monkeypatch.setattr(
        coco_file.json, "loads", lambda *a, **k: read.append(type(a[0])) or original(*a, **k)
    )
    read_split(data, "train")
    assert read.count(bytes) == 1
    read_split(data, "val")
    assert read.count(bytes) == 3


def test_pycocotools_is_as_before_behind_the_block(data):
    from pycocotools.coco import COCO

    before = COCO.__init__
    cfg = data_config(data)
    with checked_coco(cfg, "train"):
        assert COCO.__init__ is not before
    assert COCO.__init__ is before
    write_data(data, content_of(bbox="x"))
    with pytest.raises(InputError):
        read_split(data, "train")
    assert COCO.__init__ is before and gc.isenabled()
    with redirect_stdout(io.StringIO()):
        assert COCO(str(data / "train.json")).dataset["annotations"][0]["bbox"] == "x"


def test_other_files_and_a_second_reading_are_not_judged(data):
    """A file of another purpose, such as predictions, is read within the block, too."""
    from pycocotools.coco import COCO

    (data / "other.json").write_text(json.dumps(content_of(bbox="x")))
    with checked_coco(data_config(data), "train"), redirect_stdout(io.StringIO()):
        assert len(COCO(str(data / "other.json")).anns) == 12
        assert len(COCO(str(data / "train.json")).anns) == 12
        assert COCO().anns == {}


def test_nothing_is_checked_for_segmentation():
    cfg = ConfigDict(
        default_scope="mmseg", train_dataloader=dict(dataset=dict(type="ADE20KDataset"))
    )
    assert find_uses(cfg, "train") == []
    with checked_coco(cfg, "train"):
        pass
    assert find_uses(ConfigDict(), "train") == []


OTHER_FILES = [
    "LVISV1Dataset",
    "Objects365V1Dataset",
    "Objects365V2Dataset",
    "CocoPanopticDataset",
    "CrowdHumanDataset",
    "VOCDataset",
    "ODVGDataset",
]


def test_types_with_files_of_their_own_rules_are_left_alone(data):
    cfg = data_config(data)
    dataset = cfg.train_dataloader.dataset
    for kind in OTHER_FILES:
        dataset.type = kind
        assert find_uses(cfg, "train") == []
    dataset.type = "V3DetDataset"
    del dataset["metainfo"]  # it reads the names of its classes from a file
    assert find_uses(cfg, "train") == []
    for kind in ("CityscapesDataset", "DeepFashionDataset"):
        dataset.type = kind
        (use,) = find_uses(cfg, "train")
        assert use.classes == DATASETS.get(f"mmdet.{kind}").METAINFO["classes"]


@pytest.mark.parametrize("kind, count", [("LVISMetric", 1), ("CocoPanopticMetric", 1)])
def test_evaluators_with_files_of_their_own_rules_are_left_alone(kind, count, data):
    cfg = data_config(data)
    cfg.val_evaluator.type = kind
    assert len(find_uses(cfg, "val")) == count


def test_datasets_in_wrappers_are_checked(data):
    cfg = data_config(data)
    inner = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = dict(
        type="ConcatDataset", datasets=[dict(type="RepeatDataset", times=2, dataset=inner)]
    )
    write_data(data, content_of(category_id="1"))
    init_default_scope("mmdet")
    with pytest.raises(InputError, match="no valid category_id"), checked_coco(cfg, "train"):
        DATASETS.build(cfg.train_dataloader.dataset)


def images_only():
    """Return a file of the form of COCO's image_info_test-dev2017.json."""
    content = content_of()
    del content["annotations"]
    return content


def test_predictions_are_written_for_a_file_without_annotations(folder):
    (folder / "info.json").write_text(json.dumps(images_only()))
    options = [
        "test_dataloader.dataset.ann_file=info.json",
        f"test_evaluator.ann_file={folder}/info.json",
        "model.test_cfg.score_thr=0",
    ]
    command = tool("test", "toy.py", "work/iter_2.pth", "--cfg-options", *options)
    line = error_of(run(command, folder))
    assert "info.json has no annotations to evaluate with" in line and "format_only=True" in line
    command += ["test_evaluator.format_only=True", "test_evaluator.outfile_prefix=out"]
    result = run(command, folder)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "info.json (prediction): 0 of 0 annotations, 6 pictures" in result.stdout
    boxes = json.loads((folder / "out.bbox.json").read_text())
    assert {each["image_id"] for each in boxes} == set(range(1, 7))
    assert {each["category_id"] for each in boxes} <= {1, 2}


def test_class_names_are_checked_for_predictions_too(data):
    content = images_only()
    content["categories"].reverse()
    write_data(data, content)
    cfg = data_config(data)
    cfg.test_evaluator.update(format_only=True, outfile_prefix=str(data / "out"))
    init_default_scope("mmdet")
    with pytest.raises(InputError, match="in the order blob, disc"), checked_coco(cfg, "test"):
        DATASETS.build(cfg.test_dataloader.dataset)


# (files that differ from the good ones, classes, words of the error of train.py)
BROKEN = {
    "order": ({}, ("blob", "disc"), "train.json has the classes in the order disc, blob"),
    "training": (dict(train=content_of(bbox=["1", 2, 3, 4])), None, "train.json .* four numbers"),
    "validation": (dict(val=content_of(image_id=99)), None, "none of .*val.json is used"),
    "heads": ({}, ("disc",), "num_classes is 2, but the train dataset has 1 class"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_train_stops_with_one_sentence_before_the_first_iteration(fault, tmp_path):
    files, classes, message = BROKEN[fault]
    write_data(tmp_path, **files)
    write_config(tmp_path / "toy.py", tmp_path, classes=classes or ("disc", "blob"))
    result = run(tool("train", "toy.py"), tmp_path)
    assert re.search(message, error_of(result))
    assert "Iter(train)" not in result.stdout and not list(tmp_path.glob("work/*.pth"))


def test_test_stops_with_one_sentence(folder):
    (folder / "odd.json").write_text(json.dumps(content_of(iscrowd="0")))
    options = [f"test_evaluator.ann_file={folder}/odd.json"]
    line = error_of(
        run(tool("test", "toy.py", "work/iter_2.pth", "--cfg-options", *options), folder)
    )
    assert "odd.json have an iscrowd that is neither 0 nor 1" in line
    options = ["test_evaluator.ann_file=gone.json"]
    line = error_of(
        run(tool("test", "toy.py", "work/iter_2.pth", "--cfg-options", *options), folder)
    )
    assert "gone.json, ann_file of test_evaluator in the config, does not exist" in line


def split_files(data, dataset_content, evaluator_content):
    """Read val.json by the dataset and other.json by the evaluator; return the messages."""
    write_data(data, dataset_content)
    (data / "other.json").write_text(json.dumps(evaluator_content))
    cfg = data_config(data)
    cfg.val_evaluator.ann_file = str(data / "other.json")
    init_default_scope("mmdet")
    with checked_coco(cfg, "val"), redirect_stdout(io.StringIO()):
        DATASETS.build(cfg.val_dataloader.dataset)
        METRICS.build(cfg.val_evaluator)


def test_the_files_of_dataset_and_evaluator_must_be_of_the_same_images(data):
    whole, part = content_of(), content_of(4)
    renamed = content_of()
    for image in renamed["images"]:
        image["id"] = 7 - image["id"]
    split_files(data, whole, whole)
    split_files(data, part, whole)
    with pytest.raises(InputError, match="image 5 of the dataset is 04.png, and there is none in"):
        split_files(data, whole, part)
    with pytest.raises(InputError, match="image 1 of the dataset is 00.png, but 05.png in"):
        split_files(data, whole, renamed)


def refusal(cfg):
    with pytest.raises(InputError) as error, checked_coco(cfg, "val"):
        pass
    return str(error.value)


def test_an_evaluator_must_read_the_file_of_all_datasets(data):
    """Ids of the second file are those of other pictures in the first: the AP was 0.66, not 0.95.

    MultiDatasetsEvaluator gives each dataset its own evaluator.
    """
    (data / "other.json").write_text(json.dumps(content_of(4)))
    cfg = data_config(data)
    inner = cfg.val_dataloader.dataset
    two = [inner, ConfigDict(inner, ann_file="other.json")]
    cfg.val_dataloader.dataset = dict(type="ConcatDataset", datasets=two)
    assert re.search("val_evaluator reads .*val.json alone, but .* of .*other.json", refusal(cfg))
    metrics = [dict(cfg.val_evaluator), dict(cfg.val_evaluator)]
    cfg.val_evaluator = dict(
        type="MultiDatasetsEvaluator", metrics=metrics, dataset_prefixes=["a", "b"]
    )
    with checked_coco(cfg, "val"):
        pass
    cfg = data_config(data)
    cfg.val_dataloader.dataset = dict(type="ConcatDataset", datasets=[inner, dict(inner)])
    with checked_coco(cfg, "val"):
        pass


def test_an_evaluator_without_file_needs_the_objects_from_the_pipeline(data):
    """Else mmdetection ends in an AssertionError after the first interval."""
    cfg = data_config(data)
    path = cfg.val_evaluator.pop("ann_file")
    assert f"CocoMetric in val_evaluator has no ann_file: set it to {path}, or add" in refusal(cfg)
    cfg.val_dataloader.dataset.type = "VOCDataset"
    assert "CocoMetric in val_evaluator has no ann_file: set it, or add 'instan" in refusal(cfg)
    keys = ("img_id", "ori_shape", "instances")
    cfg.val_dataloader.dataset.pipeline[-1].meta_keys = keys
    with checked_coco(cfg, "val"):
        pass


@pytest.mark.parametrize("metric", ["segm", ["bbox", "segm"], ("segm",)])
def test_masks_of_a_model_without_mask_head_are_not_measured(metric, data):
    """Else mmdetection ends in a KeyError behind the last image of the evaluation."""
    cfg = data_config(data)
    cfg.val_evaluator.metric = metric
    cfg.model.roi_head = dict(type="StandardRoIHead", bbox_head=dict(num_classes=2))
    assert "measures masks (metric='segm'), but the model has no mask_head" in refusal(cfg)
    cfg.model.roi_head.mask_head = dict(type="FCNMaskHead", num_classes=2)
    with checked_coco(cfg, "val"):
        pass
    cfg.model.pop("roi_head")  # some heads of one stage predict masks
    with checked_coco(cfg, "val"):
        pass


def warnings_of(data, split, **dataset):
    _, _, messages = read_split(data, split, **dataset)
    return "\n".join(text for level, text in messages if level == logging.WARNING)


def test_pictures_that_are_left_out_are_told(data):
    content = content_of()
    content["annotations"] = content["annotations"][:8]  # two pictures without objects
    content["images"][0].update(width=160, height=128)
    write_data(data, content)
    rules = dict(filter_empty_gt=True, min_size=32)
    dataset, _, messages = read_split(data, "train", filter_cfg=rules)
    assert len(dataset) == 4
    ((_, summary),) = messages
    assert "8 of 8 annotations, 6 pictures; left out: 2 pictures without objects" in summary
    with pytest.raises(InputError, match=r"no picture in .*train.json is used: .*min_size=200"):
        read_split(data, "train", filter_cfg=dict(rules, min_size=200))
    assert "2 of 6 pictures" in warnings_of(data, "val", filter_cfg=rules, test_mode=False)
    assert warnings_of(data, "val", filter_cfg=rules) == ""
    assert "the AP is too low" in warnings_of(data, "val", indices=3)


def test_masks_that_poly2mask_ignores_are_told(data):
    content = content_of()
    for annotation in content["annotations"][:3]:
        annotation["segmentation"] = dict(size=[128, 160], counts=[100, 128 * 160 - 100])
    write_data(data, content)
    load = dict(type="LoadAnnotations", with_bbox=True, with_mask=True, poly2mask=False)
    pipeline = [dict(type="LoadImageFromFile"), load]
    found = warnings_of(data, "train", pipeline=pipeline)
    assert "3 of 12 annotations" in found and "poly2mask=False ignores" in found


def test_images_without_labels_in_training_are_no_fault(data):
    """Semi-supervised training has a dataset without annotations."""
    write_data(data, images_only())
    pipeline = [dict(type="LoadImageFromFile"), dict(type="LoadEmptyAnnotations")]
    dataset, _, _ = read_split(data, "train", pipeline=pipeline)
    assert len(dataset) == 6
