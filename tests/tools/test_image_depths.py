"""Images of more than 8 bits from training to results: each command reads the same values."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from tests.commands import error_of, run, tool
from tests.conftest import ROOT
from tests.image_files import png, tiff

CONFIG = f"""
_base_ = [{str(ROOT / "configs" / "fpn_gfnet-h-ti_own-data.py")!r}]
own_data = dict(
    data_root="data", metainfo=dict(classes=["background", "disc"]), img_suffix=".png"
)
train_dataloader = dict(dataset=own_data, batch_size=2, num_workers=0, persistent_workers=False)
val_dataloader = dict(dataset=own_data, num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, dims=(8, 16, 24, 32), depths=(1, 1, 1, 1)),
        img_size=64, init_cfg=None,
    ),
    neck=dict(in_channels=[8, 16, 24, 32], out_channels=16),
    decode_head=dict(
        num_classes=2, in_channels=[16] * 4, channels=16, norm_cfg=dict(type="BN")
    ),
    data_preprocessor=dict(size=(64, 64)),
)
train_cfg = dict(max_iters=3, val_interval=3)
default_hooks = dict(checkpoint=dict(interval=3), logger=dict(interval=1))
randomness = dict(seed=0)
"""
IMAGES = {"train": 4, "val": 2}


def pictures():
    """Return gray pictures of a bright disc on noise, uint8, and their label maps."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64]
    for _ in range(sum(IMAGES.values())):
        center = rng.integers(16, 48, 2)
        disc = (y - center[0]) ** 2 + (x - center[1]) ** 2 < 144
        yield (rng.integers(0, 128, (64, 64)) + 120 * disc).astype(np.uint8), disc.astype(np.uint8)


def write(folder, encode):
    """Write the pictures, encoded by a function of the uint8 array, and the config."""
    for name in IMAGES:
        for kind in ("images", "labels"):
            (folder / "data" / kind / name).mkdir(parents=True)
    places = [(name, i) for name, count in IMAGES.items() for i in range(count)]
    for (name, i), (image, labels) in zip(places, pictures(), strict=True):
        (folder / "data" / "images" / name / f"{i}.png").write_bytes(encode(image))
        (folder / "data" / "labels" / name / f"{i}.png").write_bytes(png(labels))
    (folder / "own.py").write_text(CONFIG)
    return folder


SMALL = "train_dataloader.dataset.pipeline.2.scale=(256,64) "
SMALL += "train_dataloader.dataset.pipeline.3.crop_size=(64,64) "
SMALL += "val_dataloader.dataset.pipeline.1.scale=(256,64) "
SMALL += "test_dataloader.dataset.pipeline.1.scale=(256,64) "


def command(name, folder, *arguments, options=""):
    options = (SMALL + options).split()
    return run(tool(name, "own.py", *arguments, "--cfg-options", *options), folder)


def train(folder, options=""):
    return command("train", folder, options=options)


def weights(folder):
    path = folder / "work_dirs" / "own" / "iter_3.pth"
    return torch.load(path, weights_only=False)


@pytest.fixture(scope="module")
def of_bytes(tmp_path_factory):
    """The weights after a training on the pictures in 8 bits."""
    folder = write(tmp_path_factory.mktemp("bytes"), png)
    result = train(folder)
    assert result.returncode == 0, result.stderr[-2000:]
    return weights(folder)["state_dict"]


RANGE = "train_dataloader.dataset.metainfo.image_range={0} val_dataloader.dataset.metainfo."
RANGE += "image_range={0} test_dataloader.dataset.metainfo.image_range={0}"


def test_a_range_makes_sensor_data_the_same_pictures_in_all_commands(tmp_path, of_bytes):
    """The training, tools/test.py and tools/infer.py on values of 12 bits."""
    folder = write(tmp_path, lambda a: png(a.astype(np.uint16) * 16))
    options = RANGE.format("(0,4080)")
    result = train(folder, options)
    assert result.returncode == 0, result.stderr[-2000:]
    checkpoint = weights(folder)
    for name, expected in of_bytes.items():
        assert torch.equal(checkpoint["state_dict"][name], expected), name

    path = "work_dirs/own/iter_3.pth"
    result = command("test", folder, path, "--out", "tested", options=options)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    # The range is in the checkpoint
    result = command("infer", folder, path, "data/images/val", "--out-dir", "out")
    assert result.returncode == 0, result.stderr[-2000:]
    for i in range(IMAGES["val"]):
        tested, written = (
            np.asarray(Image.open(next((folder / name).rglob(f"{i}*.png"))))
            for name in ("tested", "out/labels")
        )
        assert np.array_equal(tested, written)


def test_sensor_data_without_a_range_are_refused_before_the_first_iteration(tmp_path):
    folder = write(tmp_path, lambda a: png(a.astype(np.uint16) * 16))
    result = train(folder)
    assert "Iter(train)" not in result.stdout
    error = error_of(result)
    assert "all of 4 images of 16 bits use at most 12 of their bits" in error
    assert "metainfo=dict(image_range=(0, 4095)) of all datasets" in error


def test_infer_warns_once_of_dark_images_and_names_floats_it_cannot_read(tmp_path, of_bytes):
    folder = write(tmp_path, lambda a: png(a.astype(np.uint16) * 16))
    torch.save({"state_dict": of_bytes, "meta": {}}, folder / "weights.pth")
    (folder / "float.tif").write_bytes(tiff(np.ones((64, 64), np.float32)))
    inputs = ("data/images/val", "float.tif")
    result = command("infer", folder, "weights.pth", *inputs, "--out-dir", "out")
    assert (result.stdout + result.stderr).count("of its 16 bits and is read almost black") == 1
    assert result.returncode == 1 and "float.tif holds floats" in result.stdout + result.stderr


def test_stock_configs_without_our_hook_read_the_same_values(tmp_path, of_bytes):
    """DenseRunner guards every run: OpenCV would read the files of the stock config."""
    folder = write(tmp_path, lambda a: png(a.astype(np.uint16) * 257))
    text = CONFIG + 'custom_hooks = [dict(type="gfnet_dense.FiniteLossHook")]\n'
    (folder / "own.py").write_text(text)
    result = train(folder, "train_dataloader.dataset.pipeline.0.imdecode_backend=cv2")
    assert result.returncode == 0, result.stderr[-2000:]
    for name, expected in of_bytes.items():
        assert torch.equal(weights(folder)["state_dict"][name], expected), name


def test_publishing_and_exporting_keep_the_range(tmp_path, of_bytes):
    from gfnet_dense import load_model
    from gfnet_dense.checkpoint.publish import publish
    from gfnet_dense.export.writers import describe

    meta = dict(classes=["background", "disc"], palette=[], image_range=(0, 4095))
    shutil.copy(write(tmp_path, png) / "own.py", tmp_path / "config.py")
    torch.save({"state_dict": of_bytes, "meta": dict(dataset_meta=meta)}, tmp_path / "a.pth")
    published = publish(tmp_path / "a.pth", tmp_path / "b.safetensors")
    model = load_model(tmp_path / "config.py", published)
    assert list(model.dataset_meta["image_range"]) == [0, 4095]
    assert json.loads(describe(model, (64, 64))["image_range"]) == [0, 4095]
    model.dataset_meta.pop("image_range")
    assert json.loads(describe(model, (64, 64))["image_range"]) is None
