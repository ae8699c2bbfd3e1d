"""Hooks on detection data; tests/tools/test_train.py tests them on segmentation data."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from gfnet_dense.datasets.synthetic import writers
from gfnet_dense.demo import write_coco
from gfnet_dense.engine.hooks.check_data_hook import CheckDataHook
from gfnet_dense.engine.hooks.contact_sheet_hook import ContactSheetHook
from gfnet_dense.utils.errors import InputError
from tests.conftest import ROOT

pytest.importorskip("mmcv._ext")


@pytest.fixture
def coco(tmp_path, monkeypatch):
    """The dataset of a full-size config, on three synthetic scenes."""
    from mmdet.registry import DATASETS
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    monkeypatch.setattr(writers, "NUM_COCO_IMAGES", {"train2017": 0, "val2017": 3})
    cfg = Config.fromfile(ROOT / "configs" / "mask-rcnn_gfnet-h-ti_coco.py")
    init_default_scope("mmdet")
    settings = cfg.val_dataloader.dataset
    settings.update(data_root=str(write_coco(tmp_path)))
    return DATASETS.build(settings)


def test_error_names_a_broken_image_of_a_detection_dataset(coco):
    path = Path(coco.get_data_info(1)["img_path"])
    path.write_bytes(path.read_bytes()[:5000])
    runner = SimpleNamespace(
        train_dataloader=SimpleNamespace(dataset=coco),
        val_dataloader=SimpleNamespace(dataset=coco),
        val_loop=object(),
    )
    CheckDataHook().before_train(runner)
    masks = coco[0]["data_samples"].gt_instances.masks
    assert len(masks) > 0  # annotations are still loaded
    with pytest.raises(InputError, match="000000000002.jpg cannot be read as image"):
        coco[1]


def test_contact_sheet_of_detections_is_written_after_validation(coco, tmp_path):
    from mmengine.structures import InstanceData

    loader = DataLoader(coco)
    runner = SimpleNamespace(val_dataloader=loader, work_dir=tmp_path, iter=7)
    hook = ContactSheetHook(num_samples=2)
    hook.before_val_epoch(runner)
    for i in range(len(coco)):
        sample = coco[i]["data_samples"]
        sample.gt_instances.bboxes = sample.gt_instances.bboxes.tensor
        height, width = sample.ori_shape
        sample.pred_instances = InstanceData(
            bboxes=torch.tensor([[5.0, 5, 60, 60]]),
            labels=torch.tensor([2]),
            scores=torch.tensor([0.9]),
            masks=torch.ones(1, height, width, dtype=torch.bool),
        )
        hook.after_val_iter(runner, i, outputs=[sample])
    hook.after_val_epoch(runner)
    with Image.open(tmp_path / "contact_sheets" / "iter_7.png") as sheet:
        assert sheet.width > sheet.height / 2  # two rows of two images


@pytest.mark.parametrize("num_samples", [0, -1])
def test_no_contact_sheet_is_drawn_of_no_samples(coco, tmp_path, num_samples):
    runner = SimpleNamespace(val_dataloader=DataLoader(coco), work_dir=tmp_path, iter=7)
    hook = ContactSheetHook(num_samples=num_samples)
    hook.before_val_epoch(runner)
    hook.after_val_iter(runner, 0, outputs=[coco[0]["data_samples"]])
    hook.after_val_epoch(runner)
    hook = ContactSheetHook()  # a validation without data
    hook.before_val_epoch(runner)
    hook.after_val_epoch(runner)
    assert not (tmp_path / "contact_sheets").exists()
