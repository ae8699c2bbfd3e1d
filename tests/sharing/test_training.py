"""Checkpoints of trainings become folders: their config, their accuracy, and the command."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.logging import HistoryBuffer
from mmengine.registry import DATASETS

from gfnet_dense import from_pretrained, load_model
from gfnet_dense.apis.loading import random_palette
from gfnet_dense.sharing.training import parse, publish_folder, validation_of
from gfnet_dense.utils.errors import InputError
from tests.commands import error_of, run, tool
from tests.conftest import ROOT
from tests.sharing.local_hub import TOKEN, local_hub
from tests.sharing.small_models import small_model

pytest.importorskip("mmseg")
NAMES = sorted(path.stem for path in (ROOT / "configs").glob("*.py"))


@pytest.fixture(scope="module")
def training(tmp_path_factory, demo_data):
    """Train two iterations of the demo, with a checkpoint of each and a validation of the last."""
    folder = tmp_path_factory.mktemp("training")
    (folder / "data").symlink_to(demo_data)
    options = (
        "train_cfg.max_iters=2 train_cfg.val_interval=2 default_hooks.checkpoint.interval=1 "
        "train_dataloader.batch_size=2 default_hooks.logger.interval=1 "
        "val_dataloader.dataset.indices=3 test_dataloader.dataset.indices=3"
    )
    command = tool("train", "fpn_gfnet-h-ti_ade20k", "--demo", "--work-dir", "run")
    result = run([*command, "--cfg-options", *options.split()], folder)
    assert result.returncode == 0, result.stderr[-3000:]
    return folder


def test_a_training_becomes_a_folder_with_its_accuracy(training, tmp_path):
    shutil.copy(next((training / "run" / "contact_sheets").glob("*.png")), tmp_path / "a.png")
    arguments = (training / "run/iter_2.pth", "shared", "--license", "mit", "--image", "a.png")
    result = run(tool("publish_checkpoint", *arguments), tmp_path)
    assert result.returncode == 0, result.stderr
    assert f"written: {tmp_path / 'shared'}" in result.stdout
    assert {path.name for path in (tmp_path / "shared").iterdir()} == {
        *("README.md", "config.json", "model.safetensors", "prediction.jpg")
    }
    (log,) = (training / "run").glob("*/vis_data/scalars.json")
    logged = [json.loads(line) for line in log.read_text().splitlines()][-1]
    card = (tmp_path / "shared" / "README.md").read_text()
    assert f"| mIoU   | {logged['mIoU']:5.2f} |" in card
    assert "own data, read as ADE20KDataset, 11 classes: building" in card
    assert "datasets:" not in card  # the classes of the demo are not those of ADE20K
    loaded = from_pretrained(tmp_path / "shared")
    expected = load_model(training / "run/fpn_gfnet-h-ti_ade20k.py", training / "run/iter_2.pth")
    x = torch.randn(1, 3, 64, 96)
    assert torch.equal(loaded(x), expected(x))
    for path in (tmp_path / "shared").iterdir():
        assert str(training).encode() not in path.read_bytes()
    assert "work_dir" in card  # told to be left out


def test_a_checkpoint_from_before_its_validation_has_no_accuracy(training, tmp_path):
    result = run(tool("publish_checkpoint", training / "run/iter_1.pth", "shared"), tmp_path)
    assert result.returncode == 0, result.stderr
    assert "the model card has none" in result.stdout
    card = (tmp_path / "shared" / "README.md").read_text()
    assert "## Results" not in card and "model-index" not in card
    assert "No accuracy was given" in card and "License: none was given" in card


def test_the_folder_is_uploaded_as_well(training, tmp_path, monkeypatch):
    pytest.importorskip("huggingface_hub")
    with local_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        command = tool("publish_checkpoint", training / "run/iter_2.pth", "shared", "--hub")
        result = run([*command, "somebody/demo"], tmp_path)
        assert result.returncode == 0, result.stderr
        assert f"written: {hub.url}/somebody/demo" in result.stdout
        files = hub.commits["somebody/demo"][hub.refs["somebody/demo"]["main"]]
        weights = (tmp_path / "shared" / "model.safetensors").read_bytes()
        assert files["model.safetensors"] == weights
        assert b'from_pretrained("somebody/demo")' in files["README.md"]
        monkeypatch.setenv("HF_TOKEN", "hf_wrong")
        error = error_of(run([*command, "somebody/other"], tmp_path))
        assert "hf auth login" in error and "somebody/other" not in hub.refs


def write_checkpoint(path, cfg_text):
    model = small_model(classes=["a", "b", "c"])
    meta = dict(cfg=cfg_text, dataset_meta=model.dataset_meta, iter=4, epoch=0)
    torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
    return model


def test_the_config_in_a_checkpoint_is_never_executed(tmp_path):
    text = small_model(classes=["a", "b", "c"]).cfg.pretty_text
    attacks = [
        ("import os\nos.mkdir('trace')\n" + text, "import os"),
        (text + "\nx = __import__('os').mkdir('trace')\n", "__import__"),
        (text + "\nx = dict(a=[open('trace', 'w')])\n", "open('trace'"),
        (text + "\nx = dict(type='os.mkdir', path='trace')\n", "the library 'os'"),
        (text + "\ncustom_imports = dict(imports=['evil'])\n", "custom_imports"),
        (text + "\nfilename = 'x'\n", "filename is reserved"),
        (text + "\nx = " + "[" * 5000, "no plain data"),
        ("model = (", "no plain data"),
        ("model = 3", "no whole config"),
        (None, "holds no config: give it as --config"),
    ]
    for change, words in attacks:
        write_checkpoint(tmp_path / "a.pth", change)
        error = error_of(run(tool("publish_checkpoint", "a.pth", "shared"), tmp_path))
        assert words in error
        assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]


CLASSES = dict(classes=("a", "b", "c"))


@pytest.mark.parametrize("stored", [None, CLASSES, CLASSES | {"palette": [(1, 2, 3)]}])
def test_the_data_of_a_stored_config_are_never_built(stored, tmp_path, monkeypatch):
    """That data set unpickles what an address sends."""
    pytest.importorskip("mmdet")
    model = small_model(classes=["a", "b", "c"])
    built, build = [], DATASETS.build
    monkeypatch.setattr(DATASETS, "build", lambda cfg, **k: built.append(cfg) or build(cfg, **k))
    with local_hub() as server:
        model.cfg.test_dataloader.dataset = dict(
            type="mmdet.CrowdHumanDataset", data_root="data", ann_file="a",
            extra_ann_file=f"{server.url}/a.pkl",
            pipeline=model.cfg.test_dataloader.dataset.pipeline,
        )  # fmt: skip
        meta = dict(cfg=model.cfg.pretty_text, dataset_meta=stored)
        torch.save(dict(state_dict=model.state_dict(), meta=meta), tmp_path / "a.pth")
        if stored is None:
            with pytest.raises(InputError, match="a.pth names no classes.*: give its config as --"):
                list(publish_folder(tmp_path / "a.pth", tmp_path / "out"))
            assert os.listdir(tmp_path) == ["a.pth"]
        else:
            list(publish_folder(tmp_path / "a.pth", tmp_path / "out"))
            palette = from_pretrained(tmp_path / "out").dataset_meta["palette"]
            assert palette == [tuple(color) for color in random_palette(3)]
        assert server.requests == []
    assert {each["type"] for each in built} <= {BaseDataset}


def test_a_config_can_be_given(tmp_path):
    model = write_checkpoint(tmp_path / "a.pth", None)
    model.cfg.dump(tmp_path / "own.py")
    command = tool("publish_checkpoint", "a.pth", "shared", "--config", "own.py")
    result = run(command, tmp_path)
    assert result.returncode == 0, result.stderr
    x = torch.randn(1, 3, 64, 96)
    assert torch.equal(from_pretrained(tmp_path / "shared")(x), model(x))


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("out.pth", "--license", "mit"), "--license is for a folder"),
        (("out.pth", "--hub", "a/b"), "--hub is for a folder"),
        (("taken",), "holds notes.txt"),
        (("new", "--license", "My License"), "apache-2.0, mit or other"),
        (("new", "--image", "none.jpg"), "none.jpg"),
        (("new", "--config", "none"), "the config none does not exist"),
        (("new", "--hub", "demo"), "is USER/NAME, of letters"),
        (("a.pth/new",), "cannot be written"),
        (("out.pt",), ".pth or .safetensors, got out.pt"),
        (("out.ckpt",), ".pth or .safetensors, got out.ckpt"),
        (("out.bin", "--image", "a.jpg"), "--image is for a folder: give a name without .bin"),
    ],
)
def test_wrong_arguments_are_told_and_nothing_is_written(arguments, words, tmp_path):
    write_checkpoint(tmp_path / "a.pth", small_model(classes=["a", "b", "c"]).cfg.pretty_text)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").write_text("mine")
    before = sorted(os.listdir(tmp_path))
    assert words in error_of(run(tool("publish_checkpoint", "a.pth", *arguments), tmp_path))
    assert sorted(os.listdir(tmp_path)) == before


def test_an_id_is_checked_before_the_checkpoint_is_read(tmp_path):
    command = tool("publish_checkpoint", "nothing.pth", "out", "--hub", "demo")
    assert "is USER/NAME" in error_of(run(command, tmp_path))


def test_a_name_with_dots_is_a_folder_and_an_empty_working_directory_is_filled(tmp_path):
    write_checkpoint(tmp_path / "a.pth", small_model(classes=["a", "b", "c"]).cfg.pretty_text)
    (tmp_path / "empty").mkdir()
    for folder, name in ((tmp_path, "my-model-v1.0"), (tmp_path / "empty", ".")):
        result = run(tool("publish_checkpoint", tmp_path / "a.pth", name), folder)
        assert result.returncode == 0, result.stderr
        assert from_pretrained(folder / name).dataset_meta["classes"] == ["a", "b", "c"]


@pytest.mark.parametrize("name", NAMES)
def test_text_of_each_config_is_read_as_mmengine_wrote_it(name):
    cfg = Config.fromfile(ROOT / "configs" / f"{name}.py", import_custom_modules=False)
    assert parse(cfg.pretty_text, name) == cfg.to_dict()


def test_odd_values_of_a_config_text_are_read():
    cfg = Config(dict(a={"b.c": -1.5, "d e": float("inf")}, f=(1,), g=(), h=[None, True, "é'\""]))
    assert parse(cfg.pretty_text, "it") == cfg.to_dict()
    assert parse("a = dict(dict(b=1), **{'c d': 2})", "it") == {"a": {"b": 1, "c d": 2}}
    for text in ("a.b = 1", "a = b = {c for c in 'd'}", "a = 1 + 1", "a = {**b}", "a = dict(1)"):
        with pytest.raises(InputError, match="no plain data"):
            parse(text, "it")


def content_of(best, values, **meta):
    history = HistoryBuffer(np.array(values), np.ones(len(values)))
    scalars = {"val/mIoU": history, "val/coco/bbox_mAP": history, "val/time": history}
    info = dict(best_ckpt=best, best_score=max(values))
    return dict(meta=meta, message_hub=dict(runtime_info=info, log_scalars=scalars))


def test_numbers_in_a_checkpoint_count_only_for_its_own_weights(tmp_path):
    path = tmp_path / "iter_8.pth"
    best = content_of("run/best_mIoU_iter_8.pth", [0.2, 0.25], iter=8, epoch=0)
    assert validation_of(best, path) == {"mIoU": 0.25, "box AP": 25.0}
    epochs = content_of("run/best_coco_bbox_mAP_epoch_2.pth", [0.3], iter=50, epoch=2)
    assert validation_of(epochs, path) == {"mIoU": 0.3, "box AP": 30.0}
    for earlier in ("run/best_mIoU_iter_4.pth", None, 3):
        assert validation_of(content_of(earlier, [0.2], iter=8, epoch=0), path) == {}
    assert validation_of({}, path) == {}


def test_logs_beside_a_checkpoint_tell_the_validation_of_its_iteration(tmp_path):
    log = tmp_path / "20260101" / "vis_data" / "scalars.json"
    log.parent.mkdir(parents=True)
    lines = [dict(loss=1.0, iter=8, step=8), dict(mIoU=31.5, step=8), dict(mIoU=40.0, step=16)]
    log.write_text("\n".join(map(json.dumps, lines)))
    content = content_of(None, [0.2], iter=8, epoch=0)
    assert validation_of(content, tmp_path / "iter_8.pth") == {"mIoU": 31.5}
    assert validation_of(dict(content, meta=dict(iter=9)), tmp_path / "iter_9.pth") == {}
