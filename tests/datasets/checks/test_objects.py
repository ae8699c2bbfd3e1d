"""Data sets of detectors without objects of the classes in the config."""

import io
import logging
from contextlib import redirect_stdout

import pytest
from mmengine.registry import init_default_scope

from gfnet_dense.datasets.checks import objects
from gfnet_dense.datasets.checks.objects import check_objects
from gfnet_dense.datasets.loading_guards import guard_pipeline
from gfnet_dense.engine.runner.dense_runner import DenseRunner
from gfnet_dense.utils.errors import InputError
from tests.coco_files import data_config, write_data
from tests.conftest import needs_operators

pytestmark = needs_operators

XML = """<annotation><size><width>160</width><height>128</height></size><object><name>{}</name>
<bndbox><xmin>9</xmin><ymin>9</ymin><xmax>50</xmax><ymax>50</ymax></bndbox></object></annotation>"""


def build(root, classes, names=("disc", "blob"), wrap=lambda dataset: dataset, **settings):
    """Build a dataset of VOC's form with an object of each name."""
    for folder in ("VOC2012/Annotations", "VOC2012/JPEGImages"):
        (root / folder).mkdir(parents=True)
    for i, name in enumerate(names):
        (root / "VOC2012/Annotations" / f"{i}.xml").write_text(XML.format(name))
    (root / "list.txt").write_text("\n".join(map(str, range(len(names)))))
    loader = data_config(root, classes).train_dataloader
    loader.dataset.update(
        type="VOCDataset",
        ann_file="list.txt",
        data_prefix=dict(sub_data_root="VOC2012"),
        **settings,
    )
    loader.dataset = wrap(loader.dataset)
    init_default_scope("mmdet")
    with redirect_stdout(io.StringIO()):
        return DenseRunner.build_dataloader(loader).dataset


@pytest.fixture
def told(monkeypatch):
    messages = []
    monkeypatch.setattr(
        objects, "print_log", lambda text, logger, level: messages.append((level, text))
    )
    return messages


def test_names_that_no_object_has_are_told(tmp_path, told):
    """The reader of VOC's files leaves out other names without a word."""
    check_objects(build(tmp_path / "a", ("disc", "blob")))
    assert not told
    check_objects(build(tmp_path / "b", ("disc", "Blob")))
    ((level, text),) = told
    assert level == logging.WARNING and "has no object of Blob: names are compared" in text
    with pytest.raises(InputError, match="list.txt has no object of Disc, Blob in its 2 pictures"):
        check_objects(build(tmp_path / "c", ("Disc", "Blob")))


def test_of_large_data_sets_one_object_is_enough(tmp_path, told, monkeypatch):
    monkeypatch.setattr(objects, "MAX_IMAGES", 1)
    check_objects(build(tmp_path / "a", ("Disc", "blob")))
    with pytest.raises(InputError):
        check_objects(build(tmp_path / "b", ("Disc", "Blob")))
    assert not told


def test_datasets_in_wrappers_are_checked_and_unlabeled_ones_are_not(tmp_path, told):
    def repeat(dataset):
        return dict(type="RepeatDataset", times=2, dataset=dataset)

    with pytest.raises(InputError):
        check_objects(build(tmp_path / "a", ("Disc", "Blob"), wrap=repeat))
    load = [dict(type="LoadImageFromFile"), dict(type="PackDetInputs")]
    check_objects(build(tmp_path / "b", ("Disc", "Blob"), pipeline=load))
    assert not told


def test_a_data_set_of_which_nothing_is_left_is_refused(tmp_path):
    """Else NumPy says that it needs at least one array to concatenate."""
    with pytest.raises(InputError, match="the data of the config hold no image: "):
        build(tmp_path, ("Disc", "Blob"), filter_cfg=dict(filter_empty_gt=True))


def test_parts_with_the_same_names_have_one_metainfo(tmp_path):
    """A list and a tuple of names made a list of dicts, and a traceback."""
    data = write_data(tmp_path)
    loader = data_config(data).train_dataloader
    other = dict(loader.dataset, metainfo=dict(classes=["disc", "blob"]), ann_file="val.json")
    parts = dict(type="ConcatDataset", datasets=[loader.dataset, other])
    loader.dataset = dict(type="RepeatDataset", times=2, dataset=parts)
    init_default_scope("mmdet")
    with redirect_stdout(io.StringIO()):
        dataset = DenseRunner.build_dataloader(loader).dataset
    assert dataset.metainfo["classes"] == ("disc", "blob")
    assert dataset.dataset.metainfo["classes"] == ("disc", "blob")
    guard_pipeline(dataset)
    assert len(dataset) == 24 and dataset[7]["data_samples"].img_shape == (128, 160)
