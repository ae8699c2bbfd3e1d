"""The model that a command names: a config and a checkpoint, or a shared folder."""

import argparse
import os

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from gfnet_dense import load_model, predict, save_pretrained
from gfnet_dense.cli.models import read_model
from gfnet_dense.sharing.folder import shared_config
from gfnet_dense.utils.errors import InputError
from tests.commands import run, tool
from tests.conftest import TINY
from tests.sharing.small_models import DETECTOR, SEGMENTOR, small_model

pytest.importorskip("mmseg")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Return a model and the folder in which it is shared."""
    model = small_model(classes=["field", "road", "water"])
    return model, save_pretrained(model, tmp_path_factory.mktemp("shared") / "my model")


def arguments(config, **given):
    return argparse.Namespace(
        **dict(config=str(config), checkpoint=None, demo=False, cfg_options=None, work_dir=None)
        | given
    )


@pytest.mark.parametrize("part", ["", "config.json"])
def test_a_shared_folder_stands_for_config_and_checkpoint(part, shared):
    model, folder = shared
    image = np.random.default_rng(0).integers(0, 256, (64, 80, 3), np.uint8)
    cfg, load = read_model(arguments(folder / part))
    assert cfg.test_pipeline == model.cfg.test_pipeline
    loaded = load("cpu")
    (expected,), (found,) = (list(predict(each, [image])) for each in (model, loaded))
    assert torch.equal(found.pred_sem_seg.data, expected.pred_sem_seg.data)
    for name, weight in loaded.state_dict().items():
        assert torch.equal(weight, model.state_dict()[name]), name
    assert loaded.dataset_meta["classes"] == ["field", "road", "water"]


def test_a_config_and_a_checkpoint_are_read_and_adapted(tmp_path):
    model = small_model(SEGMENTOR)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "own.pth")
    options = {
        "model.backbone.arch": dict(TINY, _delete_=True),
        "model.neck.in_channels": list(TINY["dims"]),
    }
    cfg, load = read_model(
        arguments(SEGMENTOR, checkpoint=str(tmp_path / "own.pth"), cfg_options=options)
    )
    assert cfg.model.neck.in_channels == list(TINY["dims"])
    for name, weight in load("cpu").state_dict().items():
        assert torch.equal(weight, model.state_dict()[name]), name


@pytest.mark.parametrize(
    "given, words",
    [
        (dict(checkpoint="a.pth"), "leave out a.pth, or"),
        (dict(demo=True), "leave out --demo, or"),
        (dict(work_dir="out"), "leave out --work-dir, or"),
        (dict(cfg_options={"a": 1}, checkpoint="a.pth"), "leave out a.pth and --cfg-options, or"),
    ],
)
def test_a_shared_folder_takes_nothing_else(given, words, shared):
    with pytest.raises(InputError, match=words):
        read_model(arguments(shared[1], **given))


def test_the_caches_of_onednn_are_limited_for_both(shared, monkeypatch):
    """Their memory grows with every size of image."""
    for args in (arguments(shared[1]), arguments(SEGMENTOR, checkpoint="own.pth")):
        monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
        read_model(args)
        assert "ONEDNN_PRIMITIVE_CACHE_CAPACITY" in os.environ


def test_a_folder_with_the_name_of_a_config_does_not_stand_for_it(shared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / SEGMENTOR).symlink_to(shared[1])
    with pytest.raises(
        InputError, match=f"no trained .*; the folder of this name is ./{SEGMENTOR}"
    ):
        read_model(arguments(SEGMENTOR))
    cfg, _ = read_model(arguments(SEGMENTOR, checkpoint="own.pth"))
    assert cfg.model.decode_head.num_classes == 150
    assert load_model(SEGMENTOR).decode_head.num_classes == 150
    cfg, _ = read_model(arguments(f"./{SEGMENTOR}"))
    assert cfg.model.decode_head.num_classes == 3


def test_code_in_a_shared_folder_is_refused(tmp_path, monkeypatch):
    folder = save_pretrained(small_model(DETECTOR), tmp_path / "out")
    config = folder / "config.json"
    text = config.read_text()
    assert '"RetinaNet"' in text
    config.write_text(text.replace('"RetinaNet"', '"os.mkdir"'))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="model.type is of the library 'os', accepted are "):
        read_model(arguments("out"))


def test_commands_take_a_shared_folder(shared, tmp_path):
    pytest.importorskip("onnxruntime")
    Image.fromarray(np.zeros((64, 96, 3), np.uint8)).save(tmp_path / "photo.png")
    folder = shared[1]
    for words in (
        ["infer", folder, "photo.png", "--out-dir", "out", "--device", "cpu"],
        ["export_onnx", folder, "--size", "64x96", "--out", "model.onnx"],
    ):
        result = run(tool(*words), tmp_path)
        assert result.returncode == 0, result.stderr[-3000:]
    assert (tmp_path / "out/labels/photo.png").is_file()
    assert (tmp_path / "out/labels/classes.txt").read_text().split()[1::2] == [
        "field", "road", "water",
    ]  # fmt: skip
    assert (tmp_path / "model.onnx").stat().st_size > 2**20
    config = run(tool("print_config", folder), tmp_path).stdout
    (tmp_path / "printed.py").write_text(config)
    cfg = Config.fromfile(tmp_path / "printed.py")
    assert cfg.model.to_dict() == shared_config(folder).model.to_dict()
    load_model(cfg, folder / "model.safetensors")
    for command in ("test", "train", "check_dataset"):
        result = run(tool(command, folder), tmp_path)
        assert result.returncode and "infer and export_onnx load; other comm" in result.stderr
