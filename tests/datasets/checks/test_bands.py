from copy import deepcopy

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope

from gfnet_dense.datasets.checks.bands import check_bands, check_channels
from gfnet_dense.datasets.loading_guards import guard_pipeline
from gfnet_dense.demo import shrink
from gfnet_dense.utils.channels import Channels
from gfnet_dense.utils.config import read_config
from gfnet_dense.utils.errors import InputError
from tests.conftest import ROOT

pytest.importorskip("mmseg.datasets")
SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module")
def four():
    """Return a config of four bands, as the demo makes it."""
    cfg = read_config(ROOT / "configs" / "upernet_gfnet_ade20k.py")
    cfg.model.backbone.in_channels = 4
    shrink(cfg)
    return cfg


def changed(cfg, **options):
    cfg = deepcopy(cfg)
    cfg.merge_from_dict(options)
    return cfg


def test_the_configs_and_the_demos_pass(four):
    check_channels(four, SPLITS)
    for name in ("upernet_gfnet_ade20k", "fpn_gfnet-h-ti_own-data"):
        check_channels(Config.fromfile(ROOT / "configs" / f"{name}.py"), SPLITS)


def test_four_bands_with_the_settings_of_three_are_refused_one_by_one():
    cfg = Config.fromfile(ROOT / "configs" / "upernet_gfnet_ade20k.py")

    def refused(match):
        with pytest.raises(InputError, match=match):
            check_channels(cfg, SPLITS)

    cfg.model.backbone.in_channels = 4
    refused("in_channels is 4, but mean of model.data_preprocessor has 3 values: give one for each")
    cfg.model.data_preprocessor.mean = [0] * 4
    refused("in_channels is 4, but std of model.data_preprocessor has 3 values")
    cfg.model.data_preprocessor.std = [1] * 4
    refused("SegDataPreProcessor takes a mean of one or three .* set type='gfnet_dense.SegDataPre")
    cfg.model.data_preprocessor.type = "gfnet_dense.SegDataPreProcessor"
    refused("bgr_to_rgb of model.data_preprocessor is for three bands, .* is 4: set it to False")
    cfg.model.data_preprocessor.bgr_to_rgb = False
    refused("LoadImageFromFile of the pipeline gives red, .* set type='gfnet_dense.LoadImageBands'")
    for split in SPLITS:
        cfg[f"{split}_dataloader"].dataset.pipeline[0].type = "gfnet_dense.LoadImageBands"
    refused("PhotoMetricDistortion of the pipeline changes colors, .* is 4: leave it out")
    check_channels(cfg, ("val", "test"))
    del cfg.train_dataloader.dataset.pipeline[5]
    check_channels(cfg, SPLITS)


def test_one_value_of_mean_is_for_all_bands_in_the_libraries_own_class(four):
    settings = dict(type="SegDataPreProcessor", mean=[100], std=[50])
    options = {f"model.data_preprocessor.{key}": value for key, value in settings.items()}
    check_channels(changed(four, **options), SPLITS)


def test_three_bands_are_not_loaded_as_bands(four):
    cfg = changed(four, **{"model.backbone.in_channels": 3, "model.data_preprocessor.mean": [0] * 3,
                           "model.data_preprocessor.std": [1] * 3})  # fmt: skip
    with pytest.raises(InputError, match="for other than three bands: .* image_range"):
        check_channels(cfg, SPLITS)


def test_transforms_inside_others_are_found(four):
    cfg = deepcopy(four)
    inner = dict(type="RandomApply", transforms=[[dict(type="mmdet.YOLOXHSVRandomAug")]], prob=0.5)
    cfg.train_dataloader.dataset.pipeline.append(inner)
    with pytest.raises(InputError, match="YOLOXHSVRandomAug of the pipeline changes colors"):
        check_channels(cfg, SPLITS)


@pytest.mark.parametrize("key", ["dataset", "datasets"])
def test_transforms_of_wrapped_datasets_and_of_the_wrappers_are_found(four, key):
    color = dict(type="mmdet.YOLOXHSVRandomAug")
    for inside in (True, False):  # YOLOX has it in the pipeline of the wrapper
        cfg = deepcopy(four)
        dataset = cfg.train_dataloader.dataset
        wrapper = dict(type="mmdet.MultiImageMixDataset", pipeline=[] if inside else [color])
        if inside:
            dataset.pipeline.append(color)
        wrapper[key] = dataset if key == "dataset" else [dataset]
        cfg.train_dataloader.dataset = wrapper
        with pytest.raises(InputError, match="YOLOXHSVRandomAug of the pipeline changes colors"):
            check_channels(cfg, SPLITS)


def test_other_backbones_and_the_users_own_preprocessor_are_not_judged(four):
    cfg = changed(four, **{"model.backbone.type": "ResNet", "model.data_preprocessor.mean": [0]})
    check_channels(cfg, SPLITS)
    check_channels(changed(four, **{"model.data_preprocessor.type": "MyPreprocessor"}), SPLITS)


class Files:
    """A dataset of files, without labels."""

    metainfo = dict(classes=("a",))

    def __init__(self, folder, counts, loader):
        self.paths = [folder / f"{i}.npy" for i in range(len(counts))]
        for path, count in zip(self.paths, counts, strict=True):
            np.save(path, np.zeros((4, 5, count), np.uint8))
        with DefaultScope.overwrite_default_scope("mmseg"):
            self.pipeline = Compose([loader])
        guard_pipeline(self)

    def __len__(self):
        return len(self.paths)

    def get_data_info(self, i):
        return dict(img_path=str(self.paths[i]))


def test_the_first_image_of_another_number_of_bands_is_named(tmp_path):
    loader = dict(type="gfnet_dense.LoadImageBands")
    check_bands(Files(tmp_path, [4, 4], loader), Channels(4))
    with pytest.raises(InputError, match=r"1\.npy is loaded with 5 bands, .* is 4: set in_chan"):
        check_bands(Files(tmp_path, [4, 5, 6], loader), Channels(4))
    check_bands(Files(tmp_path, [4, 5], loader), None)  # another backbone
    check_bands(Files(tmp_path, [], loader), Channels(4))


def test_images_loaded_in_color_are_not_read(tmp_path):
    check_bands(Files(tmp_path, [4], dict(type="LoadImageFromFile")), Channels(3))
