"""The configs find their data in the layouts in which the datasets are distributed."""

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from PIL import Image

from gfnet_dense.datasets.checks.datasets import (
    check_classes,
    check_dataset_folders,
    class_names,
)
from gfnet_dense.utils.config import find_datasets
from gfnet_dense.utils.errors import InputError
from tests.conftest import ROOT

VOC = "VOCdevkit/VOC2012"
# {config: (root, files ({} stands for a name), lists of names, numbers of train and val images)}
LAYOUTS = {
    "fpn_gfnet-h-ti_cityscapes": (
        "cityscapes",
        [
            "leftImg8bit/train/aachen/{}_leftImg8bit.png",
            "leftImg8bit/val/lindau/{}_leftImg8bit.png",
            "gtFine/train/aachen/{}_gtFine_labelTrainIds.png",
            "gtFine/val/lindau/{}_gtFine_labelTrainIds.png",
            "gtFine/train/aachen/{}_gtFine_labelIds.png",
            "gtFine/train/aachen/{}_gtFine_color.png",
        ],
        {},
        (3, 3),
    ),
    "fpn_gfnet-h-ti_voc12aug": (
        VOC,
        ["JPEGImages/{}.jpg", "SegmentationClass/{}.png", "SegmentationClassAug/{}.png"],
        {"train": ["x_000000_000019"], "aug": ["x_000001_000019"], "val": ["x_000002_000019"]},
        (2, 1),
    ),
    "upernet_gfnet_ade20k": (
        "ade/ADEChallengeData2016",
        [
            "images/training/{}.jpg",
            "images/validation/{}.jpg",
            "annotations/training/{}.png",
            "annotations/validation/{}.png",
        ],
        {},
        (3, 3),
    ),
}


@pytest.fixture(params=LAYOUTS)
def layout(request, tmp_path, monkeypatch):
    """Write a dataset in its layout; return the config, and the numbers of images."""
    monkeypatch.chdir(tmp_path)
    root, patterns, lists, lengths = LAYOUTS[request.param]
    root = tmp_path / "data" / root
    rng = np.random.default_rng(0)
    for pattern in patterns:
        for i in range(3):
            path = root / pattern.format(f"x_{i:06d}_000019")
            path.parent.mkdir(parents=True, exist_ok=True)
            is_image = "Img" in pattern or "images" in pattern or "Images" in pattern
            shape = (64, 96, 3) if is_image or "color" in pattern else (64, 96)
            Image.fromarray(rng.integers(0, 19, shape, np.uint8)).save(path)
    for name, members in lists.items():
        path = root / "ImageSets" / "Segmentation" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{member}\n" for member in members))
    return Config.fromfile(ROOT / "configs" / f"{request.param}.py"), lengths


def test_datasets_are_found_and_read(layout):
    cfg, lengths = layout
    init_default_scope("mmseg")
    check_dataset_folders(cfg, ("train", "val", "test"))
    check_classes(cfg, ("train", "val", "test"))
    for split, length in zip(("train", "val"), lengths, strict=True):
        dataset = DATASETS.build(cfg[f"{split}_dataloader"].dataset)
        assert len(dataset) == length
        for i in range(length):
            sample = dataset[i]
            labels = sample["data_samples"].gt_sem_seg.data
            if split == "val":  # validation resizes images and keeps label maps
                assert labels.shape == (1, 64, 96)
            else:
                assert labels.shape[1:] == sample["inputs"].shape[1:]


def test_a_missing_list_or_folder_is_named_in_the_error(layout, tmp_path):
    cfg, _ = layout
    dataset = find_datasets(cfg.train_dataloader.dataset)[-1]
    if "ann_file" in dataset:
        (tmp_path / dataset.data_root / dataset.ann_file).unlink()
        with pytest.raises(InputError, match=r"aug\.txt.* does not exist"):
            check_dataset_folders(cfg, ("train",))
    dataset.data_prefix.img_path = "elsewhere"
    with pytest.raises(InputError, match="elsewhere.*does not exist; get it from http"):
        check_dataset_folders(cfg, ("train",))


@pytest.mark.parametrize(
    "train, val, message",
    [
        (["a", "b", "c"], ["a", "b", "c"], None),
        (("a", "b", "c"), ["a", "b", "c"], None),
        (["a", "b", "c"], ["a", "c", "b"], "class 1 is 'b' in train_dataloader, but 'c' in val_"),
        (["a", "b", "c"], ["a", "b", "C"], "class 2 is 'c' in train_dataloader, but 'C' in val_"),
        (["a", "b", "c"], ["a", "b"], "train_dataloader has 3 classes, val_dataloader 2"),
    ],
)
@pytest.mark.parametrize("inside", [False, True])
def test_training_and_validation_must_name_the_same_classes(train, val, message, inside):
    def loader(*names):
        datasets = [dict(type="BaseSegDataset", metainfo=dict(classes=each)) for each in names]
        return dict(
            dataset=dict(type="ConcatDataset", datasets=datasets) if inside else datasets[0]
        )

    cfg = Config(
        dict(
            default_scope="mmseg",
            model=dict(decode_head=dict(num_classes=3)),
            train_dataloader=loader(train, train),
            val_dataloader=loader(val, val),
        )
    )
    if message is None:
        check_classes(cfg, ("train", "val"))
        return
    with pytest.raises(InputError, match=message):
        check_classes(cfg, ("train", "val"))


def test_types_may_be_classes_as_in_configs_of_pure_python():
    from mmseg.datasets import BaseSegDataset

    dataset = dict(type=BaseSegDataset, metainfo=dict(classes=["a", "b"]))
    assert class_names(dataset, "mmseg") == ["a", "b"]
