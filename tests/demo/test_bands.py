"""The demo of four bands: red, green, blue and near infrared, by the commands."""

import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image

from gfnet_dense.datasets.synthetic import writers
from gfnet_dense.datasets.synthetic.near_infrared import draw_four_bands
from gfnet_dense.demo import match_bands, shrink
from gfnet_dense.demo.bands import FOUR_BANDS
from gfnet_dense.utils.config import datasets_of, read_config
from gfnet_dense.utils.errors import InputError
from tests.commands import error_of, run, tool
from tests.conftest import ROOT, TINY, needs_operators

SEG = f'''
_base_ = "{ROOT}/configs/fpn_gfnet-h-ti_ade20k.py"
model = dict(
    backbone=dict(arch=dict(_delete_=True, **{TINY})),
    neck=dict(in_channels={list(TINY["dims"])}, out_channels=8),
    decode_head=dict(
        in_channels=[8] * 4, channels=8, norm_cfg=dict(_delete_=True, type="BN", requires_grad=True)
    ),
)
'''
DET = f'''
_base_ = "{ROOT}/configs/retinanet_gfnet-h-ti_coco.py"
model = dict(
    backbone=dict(arch=dict(_delete_=True, **{TINY})),
    neck=dict(in_channels={list(TINY["dims"][1:])}, out_channels=256),
)
'''
FOUR = "model.backbone.in_channels=4"
SHORT = "train_cfg.val_interval=2 default_hooks.checkpoint.interval=1 train_dataloader.batch_size=2"
SHORT = f"{FOUR} {SHORT} val_dataloader.dataset.indices=2 test_dataloader.dataset.indices=2".split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working directory with scenes of four bands and two configs."""
    path = tmp_path_factory.mktemp("bands")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writers, "NUM_IMAGES", {"training": 6, "validation": 3})
        patch.setattr(writers, "NUM_COCO_IMAGES", {"train2017": 6, "val2017": 3})
        writers.write_ade20k(path / FOUR_BANDS, draw=draw_four_bands)
        writers.write_coco(path / FOUR_BANDS, draw=draw_four_bands)
    (path / "seg.py").write_text(SEG)
    (path / "det.py").write_text(DET)
    return path


def ran(folder, name, *arguments, options=SHORT):
    result = run(tool(name, *arguments, *(("--cfg-options", *options) if options else ())), folder)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout + result.stderr


@pytest.fixture(scope="module")
def trained(folder):
    """Train two iterations, then a third one in a resumed training; return the checkpoint."""
    ran(folder, "train", "seg.py", "--demo", options=[*SHORT, "train_cfg.max_iters=2"])
    out = ran(folder, "train", "seg.py", "--demo", "--resume",
              options=[*SHORT, "train_cfg.max_iters=3"])  # fmt: skip
    assert "resumed epoch: 0, iter: 2" in out or "iter: 2" in out
    return "work_dirs/demo/seg/iter_3.pth"


def test_a_model_of_four_bands_trains_resumes_and_keeps_its_stem(trained, folder):
    content = torch.load(folder / trained, weights_only=False)
    state = content["state_dict"]
    assert state["backbone.patch_embed.0.proj.weight"].shape == (8, 4, 4, 4)
    assert content["meta"]["iter"] == 3
    assert not (folder / "data" / "demo" / "v1").exists()  # no scenes of three bands
    sheets = folder / "work_dirs" / "demo" / "seg" / "contact_sheets"
    assert list(sheets.glob("*.png"))


def test_it_is_tested_and_its_pictures_show_the_colors(trained, folder):
    arguments = ("--demo", "--show-dir", "shown", "--out", "labels")
    assert "mIoU" in ran(folder, "test", "seg.py", trained, *arguments)
    picture = np.asarray(Image.open(folder / "shown" / "ADE_val_00000001.jpg"), np.float32)
    scene = draw_four_bands(6).image[..., :3].astype(np.float32)
    parts = [np.corrcoef(picture[:192, :256, c].ravel(), scene[..., c].ravel()) for c in range(3)]
    assert min(part[0, 1] for part in parts) > 0.3  # half of it is the color of the class
    assert (folder / "labels" / "ADE_val_00000001.png").exists()


def test_files_of_four_bands_are_predicted_as_in_the_test(trained, folder):
    root = writers.ade20k_folder(FOUR_BANDS) / "images" / "validation"
    Image.fromarray(draw_four_bands(6).image[..., :3]).save(folder / "photo.png")
    (folder / "scenes").mkdir()
    np.save(folder / "scenes" / "scene.npy", draw_four_bands(6).image)
    inputs = (root / "ADE_val_00000001.png", "scenes")
    ran(folder, "infer", "seg.py", trained, *inputs, "--demo", "--out-dir", "out", options=[FOUR])
    labels = [np.asarray(Image.open(folder / "out" / "labels" / f"{name}.png"))
              for name in ("ADE_val_00000001", "scene")]  # fmt: skip
    assert np.array_equal(*labels) and labels[0].shape == (192, 256)
    command = tool("infer", "seg.py", trained, "photo.png", "--demo", "--out-dir", "none",
                   "--cfg-options", FOUR)  # fmt: skip
    result = run(command, folder)
    assert "photo.png has 3 bands, the model takes 4" in result.stderr and result.returncode == 1


def test_it_is_exported_and_drawn(trained, folder):
    size = ("--size", "64x64", "--out", "model.pt2", "--demo")
    ran(folder, "export_onnx", "seg.py", trained, *size, options=[FOUR])
    outputs = torch.export.load(folder / "model.pt2").module()(torch.randn(1, 4, 64, 64))
    assert outputs[0].shape[2:] == (64, 64)
    scene = writers.ade20k_folder(FOUR_BANDS) / "images" / "validation" / "ADE_val_00000001.png"
    ran(folder, "visualize", "erf", trained, "--size", "64x64", options=())
    ran(folder, "visualize", "features", trained, "--images", scene, options=())
    command = tool("visualize", "features", trained, "--images", "photo.png")
    Image.fromarray(draw_four_bands(6).image[..., :3]).save(folder / "photo.png")
    assert "photo.png is loaded with 3 bands, " in error_of(run(command, folder))


def test_its_data_are_checked_and_browsed(folder):
    out = ran(folder, "check_dataset", "seg.py", "--demo", options=[FOUR])
    assert "errors: none" in out and "train: 6 images" in out
    ran(folder, "browse_dataset", "seg.py", "--demo", "--num", 2, "--out", "b.png", options=[FOUR])
    assert (folder / "b.png").exists()


def test_a_training_of_three_bands_is_not_resumed_with_four(trained, folder, tmp_path):
    content = torch.load(folder / trained, weights_only=False)
    stem = "backbone.patch_embed.0.proj.weight"
    content["state_dict"][stem] = content["state_dict"][stem][:, :3].clone()
    for each in content["optimizer"]["state"].values():
        for key, value in each.items():
            if value.shape == (8, 4, 4, 4):
                each[key] = value[:, :3].clone()
    work_dir = tmp_path / "work"
    work_dir.mkdir()
    torch.save(content, work_dir / "iter_3.pth")
    (work_dir / "last_checkpoint").write_text(str(work_dir / "iter_3.pth"))
    command = tool("train", "seg.py", "--demo", "--resume", "--work-dir", work_dir,
                   "--cfg-options", *SHORT, "train_cfg.max_iters=4")  # fmt: skip
    assert "iter_3.pth" in error_of(run(command, folder))


@needs_operators
def test_a_detector_of_four_bands_trains_and_validates(folder):
    out = ran(folder, "train", "det.py", "--demo", options=[*SHORT, "train_cfg.max_iters=2"])
    assert "Iter(val) [2/2]" in out
    report = ran(folder, "check_dataset", "det.py", "--demo", options=[FOUR])
    assert "errors: none" in report
    state = torch.load(folder / "work_dirs/demo/det/iter_2.pth", weights_only=False)["state_dict"]
    assert state["backbone.patch_embed.0.proj.weight"].shape == (8, 4, 4, 4)


def test_the_runner_of_mmengine_trains_it_as_well(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(folder)
    cfg = read_config("seg.py")
    cfg.model.backbone.in_channels = 4
    shrink(cfg)
    cfg.work_dir = str(tmp_path)
    cfg.merge_from_dict({"train_cfg.max_iters": 1, "train_dataloader.batch_size": 2,
                         "default_hooks.checkpoint.type": "CheckpointHook"})  # fmt: skip
    cfg.custom_hooks, cfg.experiment_name = [], "stock_bands"
    for key in ("val_dataloader", "val_cfg", "val_evaluator"):
        cfg[key] = None
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
    Runner.from_cfg(cfg).train()


def test_shrunken_configs_of_four_bands_keep_the_rest():
    three, four = (Config.fromfile(ROOT / "configs" / "upernet_gfnet_ade20k.py") for _ in range(2))
    four.model.backbone.in_channels = 4
    for cfg in (three, four):
        shrink(cfg)
    match_bands(four)  # again, as after --cfg-options
    assert four.model.backbone == three.model.backbone | dict(in_channels=4, rgb_channels=(0, 1, 2))
    names = [
        [each.type for each in next(datasets_of(cfg, "train")).pipeline] for cfg in (three, four)
    ]
    assert names[1] == [
        "gfnet_dense.LoadImageBands" if name == "LoadImageFromFile" else name
        for name in names[0] if name != "PhotoMetricDistortion"
    ]  # fmt: skip
    assert four.tta_pipeline[0] == dict(type="gfnet_dense.LoadImageBands")
    preprocessor = json.loads(json.dumps(four.model.data_preprocessor))
    assert len(preprocessor["mean"]) == len(preprocessor["std"]) == 4
    assert three.train_dataloader.dataset.data_root != four.train_dataloader.dataset.data_root


@pytest.mark.parametrize("count", [1, 2, 5, 13])
def test_demos_of_other_numbers_of_bands_are_refused(count):
    cfg = Config.fromfile(ROOT / "configs" / "upernet_gfnet_ade20k.py")
    cfg.model.backbone.in_channels = count
    with pytest.raises(InputError, match=f"three or four bands, .*in_channels is {count}"):
        shrink(cfg)


def test_the_mean_and_std_of_the_scenes_are_those_of_the_demo():
    pixels = np.concatenate([draw_four_bands(i).image.reshape(-1, 4) for i in range(24)])
    preprocessor = read_four().model.data_preprocessor
    np.testing.assert_allclose(pixels.mean(0), preprocessor.mean, atol=0.1)
    np.testing.assert_allclose(pixels.std(0), preprocessor.std, atol=0.1)


def read_four():
    cfg = Config.fromfile(ROOT / "configs" / "upernet_gfnet_ade20k.py")
    cfg.model.backbone.in_channels = 4
    shrink(cfg)
    return cfg
