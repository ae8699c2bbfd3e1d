"""Survey of segmentation data: problems of single images and between them."""

import shutil
from copy import deepcopy

import numpy as np
import pytest
from mmseg.utils import register_all_modules
from PIL import Image

from gfnet_dense.datasets.checks.datasets import check_dataset_folders
from gfnet_dense.datasets.survey.survey import survey
from gfnet_dense.utils.errors import InputError
from tests.small_data import label_config, write_labels, write_maps, write_picture


@pytest.fixture
def maps(tmp_path):
    register_all_modules()
    write_maps(tmp_path)
    return tmp_path


def test_turned_dark_tiny_and_repeated_images_are_warnings(maps):
    images, labels = maps / "images", maps / "labels"
    write_picture(images / "train/1.jpg", orientation=3, seed=1)
    shutil.copy(images / "train/2.jpg", images / "val/2.jpg")
    shutil.copy(images / "train/2.jpg", images / "val/3.jpg")
    write_labels(labels / "val/3.png", seed=3)
    write_picture(images / "val/1.jpg", size=(30, 20), seed=9)
    write_labels(labels / "val/1.png", size=(30, 20))
    shutil.copy(labels / "train/1.png", labels / "train/2.png")
    reports = survey(label_config(maps))
    assert [report.errors for report in reports] == [[], []]
    warnings = [problem.sentence for report in reports for problem in report.warnings]
    parts = [
        (f"{labels}/train/2.png is identical to another one, {labels}/train/1.png"),
        (f"the image {images}/train/1.jpg is turned when it is read (EXIF orientation 3)"),
        (f"the image {images}/val/1.jpg has 30x20 pixels, less than 32"),
        (f"the picture {images}/val/2.jpg is in the training, too"),
        (f"the picture {images}/val/3.jpg is in the training, too, as {images}/train/2.jpg"),
    ]
    assert len(warnings) == len(parts)
    for part in parts:
        assert sum(part in warning for warning in warnings) == 1, (part, warnings)


def test_images_of_16_bits_are_an_error_if_all_are_dark_and_a_warning_if_some_are(maps):
    cfg = label_config(maps)
    cfg.merge_from_dict({"train_dataloader.dataset.img_suffix": ".png"})
    folder = maps / "images/train"
    for i, largest in ((1, 1000), (2, 4000)):
        values = np.linspace(0, largest, 64 * 48).reshape(48, 64).astype(np.uint16)
        Image.fromarray(values).save(folder / f"{i}.png")
    (error,) = survey(cfg)[0].errors
    assert "1.png uses 12 of its 16 bits or less, as do all" in error.sentence
    assert "image_range=(0, 4095)" in error.sentence
    Image.fromarray(np.full((48, 64), 60000, np.uint16)).save(folder / "2.png")
    train = survey(cfg)[0]
    assert not train.errors
    assert any("1.png uses few of its 16 bits" in each.sentence for each in train.warnings)
    cfg.train_dataloader.dataset.metainfo.image_range = (0, 4095)
    train = survey(cfg)[0]
    assert not [problem for problem in train.warnings if "16 bits" in problem.sentence]


def test_settings_of_the_config_that_a_training_checks_are_checked(maps):
    cfg = label_config(maps)
    cfg.model.decode_head.ignore_index = 0
    cfg.val_evaluator = dict(type="IoUMetric")
    (_, val) = survey(cfg)
    assert "'background' are not learned, but count in the figure" in val.warnings[0].sentence
    write_labels(maps / "labels/val/1.png", values=(0, 1, 255))
    (_, val) = survey(cfg)
    assert "at which the loss stops, since model.decode_head.ignore_index is 0" in (
        val.errors[0].sentence
    )
    cfg.model.decode_head.update(num_classes=2, out_channels=1)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.metainfo.classes = ["background", "road"]
    sentences = [problem.sentence for problem in survey(cfg)[0].errors]
    assert "one output channel needs loss_decode" in sentences[0]


def test_datasets_of_different_ranges_are_refused_before_they_are_built(maps):
    cfg = label_config(maps)
    dataset = cfg.train_dataloader.dataset
    other = deepcopy(dataset)
    other.metainfo.image_range = (0, 4095)
    cfg.train_dataloader.dataset = dict(type="ConcatDataset", datasets=[dataset, other])
    message = r"is None in .* of train_dataloader and \(0.0, 4095.0\) in one of train_dataloader"
    with pytest.raises(InputError, match=message):
        check_dataset_folders(cfg, ("train", "val"))
    assert any("set the same in all datasets" in e.sentence for e in survey(cfg)[0].errors)
    for each in (dataset, cfg.val_dataloader.dataset):
        each.metainfo.image_range = [0, 4095]
    check_dataset_folders(cfg, ("train", "val"))
    assert not survey(cfg)[0].errors
