"""docs/own_data.md from the labeling tool to the error analysis, by the commands of the page."""

import json
import math
import re

import pytest
from mmengine.registry import DATASETS, DefaultScope

from gfnet_dense.utils.config import read_config
from tests import labeling_tools as labeling
from tests.commands import error_of, run, tool
from tests.conftest import ROOT, needs_operators
from tests.own_config import write_own_config

PAGE = ROOT / "docs" / "own_data.md"
NUM_IMAGES = 12
# One epoch of two iterations, and detections of a model that has learned nothing
SHORT = [
    "train_cfg.max_epochs=1",
    "train_cfg.val_interval=1",
    "train_dataloader.batch_size=2",
    "train_dataloader.dataset.indices=4",
    "model.backbone.init_cfg=None",
    "model.test_cfg.rcnn.score_thr=0.001",
]


def write_voc(folder, scenes):
    """Write boxes and masks, as the archives of Pascal VOC hold both."""
    labeling.write_voc(folder, scenes)
    labeling.write_voc_masks(folder, scenes)


def write_yolo(folder, scenes):
    labeling.write_yolo(folder, scenes, polygons=True)


def command(pattern):
    """Return the words of the first command of the page that begins like this."""
    line = re.search(rf"^python (tools/{pattern}.*?) *(#.*)?$", PAGE.read_text(), re.MULTILINE)[1]
    return line.split()


def own_config(folder, name, **lines):
    """Write ``configs/my_dataset.py``, and return the number of lines that are set in it."""
    return write_own_config(folder / "configs" / "my_dataset.py", name, **lines)


@needs_operators
@pytest.mark.parametrize("write", [labeling.write_labelme, write_voc, write_yolo])
def test_from_labels_to_the_analysis_of_a_mask_rcnn(write, tmp_path):
    write(tmp_path / "labeled", labeling.draw_scenes(NUM_IMAGES))

    def follow(pattern, *more):
        name, *words = command(pattern)
        words = [word.replace("best_coco_bbox_mAP_epoch_24.pth", "epoch_1.pth") for word in words]
        result = run(
            [*tool(name.removeprefix("tools/").removesuffix(".py")), *words, *more], tmp_path
        )
        assert result.returncode == 0, result.stderr[-3000:]
        return result.stdout

    chosen = ["--from", "voc-masks"] if write is write_voc else []
    told = follow("convert_dataset.py labeled data/my_dataset --to coco", *chosen)
    lines = dict(re.findall(r"^  (data_root|classes) = (.*)$", told, re.MULTILINE))
    lines = {key: json.loads(value) for key, value in lines.items()}
    assert lines["data_root"] == "data/my_dataset" and set(lines["classes"]) == {"person", "car"}
    assert own_config(tmp_path, "mask-rcnn_gfnet-h-ti_own-data", **lines) == 2
    assert "errors: none" in follow("check_dataset.py configs/my_dataset.py")
    options = ["--cfg-options", *SHORT]
    assert "loss_mask" in follow("train.py configs/my_dataset.py", *options)
    checkpoint = "test.py configs/my_dataset.py work_dirs/my_dataset/best_coco"
    assert "coco/segm_mAP" in follow(checkpoint, *options)
    follow("analyze_errors.py configs/my_dataset.py work_dirs/my_dataset/best_coco", *options)
    assert (tmp_path / "work_dirs/my_dataset/errors/index.html").stat().st_size > 10_000


@needs_operators
@pytest.mark.parametrize("name", ["atss", "faster-rcnn", "mask-rcnn"])
def test_class_names_come_from_the_coco_file_where_none_are_given(name, tmp_path):
    own_config(tmp_path, f"{name}_gfnet-h-ti_own-data", data_root="data", classes=None)
    printed = tool("print_config", "configs/my_dataset.py")
    line = error_of(run(printed, tmp_path))
    assert line.startswith("error: the annotation file data/annotations/train.json cannot be read")
    path = tmp_path / "data/annotations/train.json"
    path.parent.mkdir(parents=True)
    for categories in (None, [], [dict(id=1)], [dict(id=1, name=7)]):
        path.write_text(json.dumps(dict(images=[], annotations=[], categories=categories)))
        assert error_of(run(printed, tmp_path)).endswith(
            "data/annotations/train.json has no categories with names: set classes in the config"
        )
    categories = [dict(id=7, name="wheel"), dict(id=3, name="a b"), dict(id=5, name="bus")]
    path.write_text(json.dumps(dict(images=[], annotations=[], categories=categories)))
    result = run(printed, tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    settings = {}
    exec(result.stdout, settings)
    model, names = settings["model"], ["wheel", "a b", "bus"]
    heads = model.get("roi_head", dict(bbox_head=model.get("bbox_head")))
    numbers = [head["num_classes"] for key, head in heads.items() if key.endswith("_head")]
    assert numbers == [3] * (2 if name == "mask-rcnn" else 1)
    for split in ("train", "val", "test"):
        dataset = settings[f"{split}_dataloader"]["dataset"]
        assert dataset["metainfo"]["classes"] == names and dataset["data_root"] == "data"
    assert settings["test_evaluator"]["ann_file"] == "data/annotations/val.json"


@needs_operators
def test_lines_of_the_page_repeat_images_of_rare_classes(tmp_path):
    block = re.search(r"^train_dataloader = dict\(\n.*?^\)\n", PAGE.read_text(), re.M | re.S)[0]
    labeling.write_coco(tmp_path / "labeled", labeling.draw_scenes(NUM_IMAGES))
    convert = tool("convert_dataset", "labeled", "data", "--to", "coco")
    assert run(convert, tmp_path).returncode == 0
    own_config(tmp_path, "atss_gfnet-h-ti_own-data", data_root=str(tmp_path / "data"), classes=None)
    path = tmp_path / "configs" / "my_dataset.py"
    path.write_text(path.read_text() + block.replace("0.3", "1.0"))
    cfg = read_config(path)
    with DefaultScope.overwrite_default_scope("mmdet"):
        repeated = DATASETS.build(cfg.train_dataloader.dataset)
        plain = DATASETS.build(cfg.train_dataloader.dataset.dataset)
    shares = {}  # of the images with each class
    for i in range(len(plain)):
        for label in set(plain.get_cat_ids(i)):
            shares[label] = shares.get(label, 0) + 1 / len(plain)
    expected = 0  # the repeat factors of LVIS (https://arxiv.org/abs/1908.03195), rounded up
    for i in range(len(plain)):
        factors = [max(1, (1.0 / shares[label]) ** 0.5) for label in plain.get_cat_ids(i)]
        expected += math.ceil(max(factors, default=1))
    assert len(repeated) == expected > len(plain)
