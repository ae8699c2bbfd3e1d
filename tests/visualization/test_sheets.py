"""Contact sheets and curves show their contents at the right places."""

import numpy as np
import pytest
import torch
from PIL import Image

from gfnet_dense.visualization.curves import draw_curves
from gfnet_dense.visualization.sheets import draw_detection_sheet

GRAY = (120, 120, 120)
PALETTE = [(255, 0, 0), (0, 0, 255)]


def near(picture, color):
    """Return (H, W) bool, True where a pixel is clearly of a color."""
    return np.abs(picture.astype(int) - color).max(-1) < 60


@pytest.fixture
def sample(tmp_path):
    """Return a gray image of 128 x 96 with an object of each class; only one is detected."""
    pytest.importorskip("mmcv._ext")
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    Image.fromarray(np.full((96, 128, 3), GRAY, np.uint8)).save(tmp_path / "gray.png")
    masks = np.zeros((2, 96, 128), np.uint8)
    masks[0, 20:60, 10:50] = masks[1, 50:90, 80:120] = 1
    truth = InstanceData(
        bboxes=torch.tensor([[10.0, 20, 50, 60], [80, 50, 120, 90]]),
        labels=torch.tensor([0, 1]),
        masks=BitmapMasks(masks, 96, 128),
    )
    found = InstanceData(
        bboxes=truth.bboxes.clone(),
        labels=torch.tensor([0, 1]),
        scores=torch.tensor([0.9, 0.1]),  # the second score is too low to be shown
        masks=torch.from_numpy(masks).bool(),
    )
    metainfo = dict(img_path=str(tmp_path / "gray.png"))
    return DetDataSample(metainfo=metainfo, gt_instances=truth, pred_instances=found)


@pytest.mark.parametrize("masks", [True, False])
def test_detection_sheet_shows_truth_left_and_prediction_right(sample, tmp_path, masks):
    if not masks:
        del sample.gt_instances.masks, sample.pred_instances.masks
    before = sample.gt_instances.bboxes.clone()
    metainfo = dict(classes=("a", "b"), palette=PALETTE)
    draw_detection_sheet([sample, sample], metainfo, tmp_path / "sheet.png")
    assert torch.equal(sample.gt_instances.bboxes, before)
    with Image.open(tmp_path / "sheet.png") as picture:
        sheet = np.array(picture.convert("RGB"))
    assert sheet.shape[1] > 1200  # names and scores can be read
    truth, prediction = np.array_split(sheet, 2, axis=1)
    reddish, bluish = ((c[..., i] - c.min(-1) > 60) for i in (0, 2) for c in (sheet.astype(int),))
    assert reddish.any() and bluish.any()
    half = truth.shape[1]
    assert abs(reddish[:, :half].sum() / reddish[:, half:].sum() - 1) < 0.2
    assert bluish[:, half:].sum() < 0.02 * bluish[:, :half].sum()
    assert prediction.shape[0] == truth.shape[0]


def test_a_sheet_without_detections_shows_only_the_images(sample, tmp_path):
    sample.pred_instances = sample.pred_instances[sample.pred_instances.scores > 1]
    sample.gt_instances = sample.gt_instances[torch.zeros(2, dtype=torch.bool)]
    draw_detection_sheet([sample], dict(classes=("a", "b"), palette=PALETTE), tmp_path / "s.png")
    with Image.open(tmp_path / "s.png") as picture:
        assert near(np.array(picture.convert("RGB")), GRAY).mean() > 0.7


@pytest.mark.parametrize("name", ["val/mIoU", "val/coco/bbox_mAP_50"])
def test_curves_have_a_further_plot_for_the_metric(tmp_path, name):
    scalars = {"train/loss": np.ones(9), "train/lr": np.ones(9)}
    draw_curves(scalars, tmp_path / "without.png")
    # the first of three validations found nothing, and has no metric
    metric = {name: np.array([0.1, 0.4]), "curves/val_iteration": np.array([3, 6, 9])}
    draw_curves(scalars | metric, tmp_path / "with.png")
    widths = [Image.open(tmp_path / f"{stem}.png").width for stem in ("without", "with")]
    assert widths == [990, 1485]  # 2 and 3 plots, each 4.5 inches wide at 110 dots per inch
