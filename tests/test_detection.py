"""The backbone in detectors, and commands with detectors."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from copy import deepcopy

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from PIL import Image

from tests.commands import SHORT, error_of, run, tool
from tests.conftest import ROOT, needs_operators
from tests.published import official_state_dict

pytestmark = needs_operators
CONFIGS = ROOT / "configs"
MASK_RCNN = CONFIGS / "mask-rcnn_gfnet-h-ti_coco.py"
RETINANET = CONFIGS / "retinanet_gfnet-h-ti_coco.py"
OPTIONS = [*SHORT.split(), "train_cfg.max_iters=2", "train_cfg.val_interval=2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, demo_data):
    """A working directory with the demo data."""
    path = tmp_path_factory.mktemp("run")
    (path / "data").symlink_to(demo_data)
    return path


@pytest.fixture(scope="module")
def trained(folder):
    """Mask R-CNN after two iterations under --demo with layer decay, a frozen stage and with_cp."""
    options = "optim_wrapper.paramwise_cfg.decay_rate=0.9 model.backbone.frozen_stages=1 "
    options += "model.backbone.with_cp=True"
    command = tool("train", MASK_RCNN, "--demo", "--cfg-options", *OPTIONS, *options.split())
    result = run(command, folder)
    assert result.returncode == 0, result.stderr[-3000:]
    return folder / "work_dirs" / "demo" / MASK_RCNN.stem, result.stdout


def build(path, checkpoint):
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    cfg.model.backbone.update(img_size=224, init_cfg=dict(type="Pretrained", checkpoint=checkpoint))
    model = MODELS.build(deepcopy(cfg.model))
    model.init_weights()
    return model.eval()


def test_one_file_initializes_segmentor_and_detectors(tmp_path):
    state = official_state_dict((64, 128, 256, 512), (3, 3, 10, 3))
    torch.save({"model": state}, tmp_path / "gfnet-h-ti.pth")
    x = torch.randn(1, 3, 160, 224)
    outs = {}
    for name in ("fpn_gfnet-h-ti_ade20k", MASK_RCNN.stem, RETINANET.stem):
        model = build(CONFIGS / f"{name}.py", str(tmp_path / "gfnet-h-ti.pth"))
        torch.testing.assert_close(
            model.backbone.blocks[2][4].filter.complex_weight.data,
            state["blocks.2.4.filter.complex_weight"],
        )
        with torch.no_grad():
            outs[name] = model.backbone(x)
    segmentor, mask_rcnn, retinanet = outs.values()
    assert len(segmentor) == len(mask_rcnn) == 4 and len(retinanet) == 3
    for a, b in zip(segmentor, mask_rcnn, strict=True):
        assert torch.equal(a, b)
    for a, b in zip(segmentor[1:], retinanet, strict=True):
        assert torch.equal(a, b)


def test_frozen_stage_and_layer_decay_determine_the_parameter_groups(trained):
    work_dir, _ = trained
    checkpoint = torch.load(work_dir / "iter_2.pth", weights_only=False)
    groups = checkpoint["optimizer"]["param_groups"]
    rates = {group["name"]: group["lr"] for group in groups}
    # The stem and the three blocks of stage 1 are frozen. The norms and heads are layer 20.
    assert {name.removesuffix("_no_decay") for name in rates} == {
        f"layer_{i}" for i in range(4, 21)
    }
    assert rates["layer_10"] / rates["layer_20"] == pytest.approx(0.9**10)
    assert not any("blocks.0." in name for group in groups for name in group["param_names"])


def test_evaluation_reports_and_writes_boxes_and_masks(trained, folder):
    work_dir, log = trained
    assert re.search(r"Iter\(val\) \[3/3\].*bbox_mAP_50: \d.*segm_mAP_50: \d", log)
    arguments = [
        MASK_RCNN,
        work_dir / "iter_2.pth",
        "--demo",
        "--out",
        "out",
        "--show-dir",
        "shown",
    ]
    options = ["test_dataloader.dataset.indices=3"]
    result = run(tool("test", *arguments, "--cfg-options", *options), folder)
    assert result.returncode == 0, result.stderr[-3000:]
    assert re.search(r"\| category +\| mAP +\| mAP_50", result.stdout)
    boxes = json.loads((folder / "out" / "results.bbox.json").read_text())
    masks = json.loads((folder / "out" / "results.segm.json").read_text())
    assert len(boxes) == len(masks) and {"image_id", "bbox", "score"} <= set(boxes[0])
    pictures = sorted((folder / "shown").glob("*.jpg"))
    assert {path.stem for path in pictures} == {f"{i:012d}" for i in (1, 2, 3)}
    assert np.asarray(Image.open(pictures[0])).std() > 10


@pytest.mark.parametrize("path", [RETINANET, MASK_RCNN], ids=lambda path: path.stem)
def test_two_processes_train_without_unused_parameters(path, folder):
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    command = tool("train", path, "--demo", "--launcher", "pytorch", "--work-dir", path.stem)
    command = [*launch, *command[1:], "--cfg-options", *OPTIONS]
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        stdout, stderr = process.communicate(timeout=400)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, stderr[-3000:]
    # DistributedDataParallel stops in the second iteration if a gradient is missing.
    assert len(re.findall(r"Iter\(train\) \[\d/2\].*? loss: [\d.]+", stdout)) == 2
    assert (folder / path.stem / "iter_2.pth").exists()


def test_mixed_precision_gives_a_finite_loss_and_all_gradients():
    init_default_scope("mmdet")
    cfg = Config.fromfile(RETINANET)
    del cfg.model.backbone.init_cfg
    model = MODELS.build(cfg.model)
    from mmdet.testing import demo_mm_inputs

    data = demo_mm_inputs(2, [[3, 64, 96], [3, 96, 80]])
    data = model.data_preprocessor(data, training=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model.loss(data["inputs"], data["data_samples"])
    total = sum(sum(value) for value in losses.values())
    assert total.isfinite()
    total.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_missing_coco_gives_a_one_line_error(tmp_path):
    line = error_of(run(tool("train", MASK_RCNN), tmp_path))
    assert "COCO 2017 was not found: data/coco/train2017" in line
    assert "https://cocodataset.org" in line and "--demo" in line


def test_missing_operators_give_a_one_line_error(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nsys.modules['mmcv._ext'] = None  # importing it raises ModuleNotFoundError\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for path in (MASK_RCNN, CONFIGS / "mask2former_gfnet-h-ti_ade20k.py"):
        line = error_of(run(tool("train", path, "--demo"), tmp_path))
        assert "needs mmcv with compiled operators" in line and "make install-det" in line
    result = run(tool("print_config", CONFIGS / "fpn_gfnet-h-ti_ade20k.py"), tmp_path)
    assert result.returncode == 0, result.stderr
