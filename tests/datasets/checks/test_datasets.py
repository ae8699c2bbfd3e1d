"""The configs find their data in the layouts in which the datasets are distributed."""

import numpy as np
import pytest
from mmengine.config import Config, ConfigDict
from mmengine.fileio import LocalBackend, register_backend
from mmengine.registry import DATASETS, init_default_scope
from PIL import Image

from gfnet_dense.datasets.checks.datasets import (
    check_classes,
    check_dataset_folders,
    check_folders,
    check_local_data,
    class_names,
)
from gfnet_dense.datasets.loading_guards import guard_pipeline
from gfnet_dense.utils.config import find_datasets, is_remote
from gfnet_dense.utils.errors import InputError
from tests.conftest import ROOT
from tests.small_data import label_config, write_maps

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


class Store(LocalBackend):
    """A store whose addresses, ``store://``, are files in the working directory."""

    def get(self, filepath):
        return super().get(str(filepath).removeprefix("store://"))

    def list_dir_or_file(self, dir_path, *args, **kwargs):
        return super().list_dir_or_file(dir_path.removeprefix("store://"), *args, **kwargs)


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Write two images with label maps into a store, and return the config of their dataset."""
    register_backend("store", Store, force=True, prefixes="store")
    monkeypatch.chdir(tmp_path)
    write_maps(tmp_path)
    return label_config("store://.")


def test_data_in_a_store_are_loaded_and_their_folders_are_not_looked_for(store):
    check_dataset_folders(store, ("train", "val"))
    init_default_scope("mmseg")
    dataset = DATASETS.build(dict(store.train_dataloader.dataset, img_suffix=".jpg"))
    guard_pipeline(dataset)
    assert len(dataset) == 2 and dataset[0]["img_path"].startswith("store://")
    assert dataset[0]["img"].shape[:2] == dataset[0]["gt_seg_map"].shape


@pytest.mark.parametrize(
    "settings",
    [
        dict(data_root="s3://bucket"),
        dict(data_prefix=dict(img="https://host/images")),
        dict(ann_file="https://host/train.json"),
        dict(backend_args=dict(backend="petrel", path_mapping={"data/": "s3://bucket/"})),
    ],
)
def test_each_way_to_name_a_store(settings, tmp_path):
    dataset = dict(type="CocoDataset", data_root=str(tmp_path), ann_file="a.json")
    dataset = ConfigDict({**dataset, "data_prefix": dict(img="train"), **settings})
    assert is_remote(dataset)
    check_folders(dataset)
    cfg = ConfigDict(default_scope="mmdet", train_dataloader=dict(dataset=dataset))
    with pytest.raises(InputError, match="is a remote store, but check_dataset reads folders"):
        check_local_data(cfg)


@pytest.mark.parametrize(
    "settings", [{}, dict(backend_args=None), dict(backend_args=dict(backend="local"))]
)
def test_folders_of_this_machine_are_no_store(settings, tmp_path):
    dataset = ConfigDict(type="CocoDataset", data_root=str(tmp_path), **settings)
    assert not is_remote(dataset)


@pytest.mark.parametrize("name", ["a.npy", "a.exr", "a_0001.bin", "a.nii.gz"])
def test_files_of_other_kinds_are_accepted_for_a_transform_that_reads_them(name, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / name).touch()
    own = dict(type="LoadVolume")
    dataset = ConfigDict(
        type="BaseSegDataset", data_root=str(tmp_path), data_prefix=dict(img_path="images"),
        pipeline=[own],
    )  # fmt: skip
    check_folders(dataset)
    suffix = name[1:]
    check_folders(ConfigDict(dataset, pipeline=[dict(type="LoadImageFromFile")], img_suffix=suffix))
    with pytest.raises(InputError, match="holds no images"):
        check_folders(ConfigDict(dataset, pipeline=[dict(type="LoadImageFromFile")]))


@pytest.mark.parametrize(
    "metainfo, told",
    [
        ({}, "COCO 2017 was not found: .*; get it from https"),
        (dict(metainfo=dict(classes=["car"])), "your dataset was not found: .* exist; set data_"),
    ],
)
def test_ones_own_data_are_not_called_by_the_name_of_the_layout(metainfo, told, tmp_path):
    dataset = ConfigDict(
        type="CocoDataset", data_root=str(tmp_path), data_prefix=dict(img="images/val"), **metainfo
    )
    with pytest.raises(InputError, match=told):
        check_folders(dataset)
