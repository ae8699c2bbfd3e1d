"""Hostile configs: whatever could run code, read files or reach the network is refused."""

import builtins
import copy
import json
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset, Compose
from mmengine.registry import DATASETS, MODELS
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from gfnet_dense import from_pretrained, predict, save_pretrained
from gfnet_dense.sharing.config_json import decode, encode, portable
from gfnet_dense.sharing.safe_config import check_config, registered_name
from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.scope import default_scope
from tests.commands import error_of, run, tool
from tests.conftest import ROOT, config_param
from tests.sharing.local_hub import local_hub
from tests.sharing.small_models import small_model

pytest.importorskip("mmseg")
NAMES = sorted(path.stem for path in (ROOT / "configs").glob("*.py"))


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return save_pretrained(
        small_model(classes=["a", "b"]), tmp_path_factory.mktemp("shared") / "model"
    )


@pytest.fixture
def hostile(shared, tmp_path, monkeypatch):
    """A folder whose config a test changes; what it would run is in the working directory."""
    folder = shutil.copytree(shared, tmp_path / "hostile")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "evil.py").write_text("import os; os.mkdir('trace')\nclass Evil: pass\n")
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "__init__.py").write_text("import os; os.mkdir('trace')\n")
    (tmp_path / "evil" / "registry.py").write_text("import os; os.mkdir('trace')\n")
    for name in ("weights.pkl", "pkl", "horizontal"):
        (tmp_path / name).write_bytes(PICKLE)
    (folder / "mc.py").write_text("import os; os.mkdir('trace')\n")
    yield folder
    assert not (tmp_path / "trace").exists()
    assert not {"evil", "evil.registry"} & set(sys.modules)


def loading(*transforms):
    """Return a test pipeline with some more transforms."""
    return [dict(type="LoadImageFromFile"), *transforms, dict(type="PackSegInputs")]


IMAGE = np.zeros((64, 96, 3), np.uint8)
PICKLE = b"cos\nmkdir\n(S'trace'\ntR."
# mmengine imports the module mc, from this folder
MEMCACHED = dict(backend="memcached", server_list_cfg="a", client_cfg="b", sys_path="hostile")
UNPICKLE = dict(type="LoadBiomedicalData", decode_backend="pickle")
CALL = dict(type="os.mkdir", path="trace")
CODE = "__import__('os').mkdir('trace')"
PIPELINE = "test_dataloader.dataset.pipeline"
ATTACKS = {
    "model": ("model", CALL),
    "module": ("model.backbone.type", "evil"),
    "class_of_a_module": ("model.backbone.type", "evil.Evil"),
    "attribute_of_a_library": ("model.backbone.type", "mmengine.Config"),
    "path_of_a_library": ("model.backbone.type", "mmseg.models.backbones.ResNet"),
    "neck": ("model.neck", CALL),
    "norm": ("model.decode_head.norm_cfg", dict(type="evil.Evil")),
    "in_a_tuple": ("model.decode_head.loss_decode", {"__tuple__": [CALL]}),
    "in_lists": ("model.decode_head.loss_decode", [[dict(x=[CALL])]]),
    "no_string": ("model.backbone.type", ["os.mkdir"]),
    "dict_as_type": ("model.backbone.type", CALL),
    "number_as_type": ("model.backbone.type", 3),
    "scope": ("model._scope_", "evil"),
    "scope_of_a_part": ("model.neck._scope_", "evil"),
    "default_scope": ("default_scope", "evil"),
    "no_default_scope": ("default_scope", None),
    "custom_imports": ("custom_imports", dict(imports=["evil"])),
    "custom_imports_as_text": ("custom_imports", "evil"),
    "base": ("_base_", ["evil.py"]),
    "base_of_a_part": ("model._base_", "evil.py"),
    "test_pipeline": ("test_dataloader.dataset.pipeline", [CALL]),
    "test_data": ("test_dataloader.dataset", CALL),
    "train_data": ("train_dataloader.dataset", CALL),
    "visualizer": ("vis_backends", [CALL]),
    "hook": ("custom_hooks", [CALL]),
    "constructor_of_an_optimizer": ("optim_wrapper.constructor", "os.mkdir"),
    "runner": ("runner_type", "evil.Evil"),
    "reserved_name": ("filename", "/etc/passwd"),
    "no_datasets": ("test_dataloader.dataset", dict(type="ConcatDataset", datasets=[])),
    "no_pipeline": ("test_dataloader.dataset", dict(type="ADE20KDataset")),
    "metainfo_of_a_file": ("test_dataloader.dataset.pipeline", [dict(type="Resize", scale="a/b")]),
    "classes_of_a_file": ("test_dataloader.dataset.metainfo", dict(classes="/etc/passwd")),
    "classes_of_an_address": (
        "test_dataloader.dataset.metainfo", dict(classes="http://127.0.0.1:9/x"),
    ),
    "metainfo_of_a_word": ("test_dataloader.dataset.metainfo", dict(secret="weights")),
    "metainfo_as_text": ("test_dataloader.dataset.metainfo", "/etc/passwd"),
    "metainfo_of_the_training": ("train_dataloader.dataset.metainfo", dict(classes="evil.py")),
    "type_in_metainfo": ("test_dataloader.dataset.metainfo", dict(a=CALL)),
    "unused_part": ("anything", dict(at=dict(all=CALL))),
    "unpickled_weights_of_a_loss": (
        "model.decode_head.loss_decode",
        dict(type="CrossEntropyLoss", class_weight="weights.pkl"),
    ),
    "unpickled_from_the_network": (
        "model.decode_head.loss_decode",
        dict(type="CrossEntropyLoss", class_weight="http://127.0.0.1:9/weights.pkl"),
    ),
    "config_of_a_teacher": (
        "model",
        dict(
            type="mmdet.KnowledgeDistillationSingleStageDetector", backbone=dict(type="ResNet"),
            teacher_config="evil.py",
        ),
    ),  # fmt: skip
    "pretrained_address": (
        "model.backbone.init_cfg", dict(type="Pretrained", checkpoint="http://127.0.0.1:9/a.pth"),
    ),
    "pretrained_file": ("model.backbone.init_cfg", dict(type="Pretrained", checkpoint="a")),
    "pretrained_of_a_head": (
        "model.decode_head.init_cfg", dict(type="Pretrained", checkpoint="gfnet"),
    ),
    "pretrained": ("model.pretrained", "open-mmlab://resnet50_v1c"),
    "names_on_the_hub": ("model.backbone", dict(type="TIMMBackbone", model_name="resnet50")),
    "evaluated_text": ("model.test_cfg.nms", dict(type=CODE)),
    "evaluated_argument": ("model.x", dict(type="CameraMotionCompensation", warp_mode=CODE)),
    "no_model": ("model", None),
    "model_as_list": ("model", [CALL]),
    "no_backbone": ("model.backbone", None),
    "no_data": ("test_dataloader", None),
    "pipeline_as_text": ("test_dataloader.dataset.pipeline", "evil"),
    "unpickled_weights_by_a_plain_word": (
        "model.decode_head.loss_decode", dict(type="CrossEntropyLoss", class_weight="pkl"),
    ),
    "reader_by_another_name": ("model.backbone.conv_type", "TIMMBackbone"),
    "reader_in_metainfo_of_the_model": (
        "model.neck.metainfo", dict(a=[dict(type="TIMMBackbone", model_name="resnet50")]),
    ),
    "checkpoint_of_a_teacher": ("model.teacher_ckpt", "weights"),
    "imports_of_a_file_backend": (
        PIPELINE, loading(dict(type="LoadBiomedicalData", backend_args=MEMCACHED)),
    ),
    "backend_of_a_harmless_loader": (
        PIPELINE, loading(dict(type="LoadAnnotations", backend_args=MEMCACHED)),
    ),
    "backend_by_its_old_name": (
        PIPELINE, loading(dict(type="LoadAnnotations", file_client_args=MEMCACHED)),
    ),
    "backend_and_more": (
        PIPELINE,
        loading(dict(type="LoadAnnotations", backend_args=dict(backend="local", sys_path="a"))),
    ),
    "backend_of_the_network": (
        PIPELINE, loading(dict(type="LoadAnnotations", backend_args=dict(backend="http"))),
    ),
    "backend_of_the_training": (
        "train_dataloader.dataset.pipeline",
        loading(dict(type="LoadAnnotations", backend_args=MEMCACHED)),
    ),
    "backend_of_a_part_of_the_model": ("model.neck.backend_args", MEMCACHED),
    "unpickling_loader": (PIPELINE, [UNPICKLE, *loading()]),
    "unpickling_loader_of_annotations": (
        PIPELINE, loading(dict(type="LoadBiomedicalAnnotation", decode_backend="pickle")),
    ),
    "unpickling_loader_of_depths": (
        PIPELINE, loading(dict(type="LoadDepthAnnotation", decode_backend="pickle")),
    ),
    "path_from_another_key": (
        PIPELINE,
        loading(
            dict(type="RandomFlip", prob=1.0),
            dict(type="KeyMapper", mapping=dict(img_path="flip_direction"), transforms=[UNPICKLE]),
        ),
    ),
    "harmless_loader_in_a_transform": (
        PIPELINE,
        loading(dict(type="RandomApply", transforms=dict(type="LoadImageFromFile"))),
    ),
    "loader_in_an_accepted_transform": (
        PIPELINE,
        loading(dict(type="CenterCrop", crop_size=8, pad_cfg=dict(type="LoadImageFromFile"))),
    ),
    "loader_as_the_type_of_resizing": (
        PIPELINE,
        loading(dict(type="mmdet.ResizeShortestEdge", scale=8, resize_type="InferencerLoader")),
    ),
    "no_word_as_the_type_of_resizing": (
        PIPELINE, loading(dict(type="ResizeShortestEdge", scale=8, resize_type=["Resize"])),
    ),
    "word_as_a_transform": (PIPELINE, loading("Resize")),
}  # fmt: skip


def change(folder, place, value):
    """Write a value at a place of the config in a folder, and return the path of the file."""
    path = folder / "config.json"
    content = json.loads(path.read_text())
    *keys, last = place.split(".")
    node = content["config"]
    for key in keys:
        node = node[key]
    node[last] = value
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("name", ATTACKS)
def test_hostile_folder_is_refused_before_anything_is_built(name, hostile, monkeypatch):
    path = change(hostile, *ATTACKS[name])
    built, build = [], MODELS.build
    monkeypatch.setattr(MODELS, "build", lambda cfg, **kw: built.append(cfg) or build(cfg, **kw))
    with pytest.raises(InputError) as caught:
        list(predict(from_pretrained(hostile), [IMAGE]))
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    assert built == []


@pytest.mark.parametrize(
    "name", ["imports_of_a_file_backend", "unpickling_loader", "path_from_another_key"]
)
def test_infer_refuses_a_hostile_folder(name, hostile, tmp_path):
    change(hostile, *ATTACKS[name])
    Image.fromarray(IMAGE).save(tmp_path / "photo.png")
    error = error_of(run(tool("infer", "hostile", "photo.png", "--device", "cpu"), tmp_path))
    assert "hostile/config.json was refused: " in error


@pytest.mark.parametrize("args", [None, dict(backend="local")])
def test_local_files_and_transforms_in_memory_are_accepted(args, hostile):
    loaders = (
        dict(type="LoadImageFromFile", backend_args=args),
        dict(type="LoadAnnotations", backend_args=args),
    )
    resize = dict(type="mmdet.ResizeShortestEdge", scale=32, max_size=64, resize_type="Resize")
    pytest.importorskip("mmdet")
    change(hostile, PIPELINE, [*loaders, resize, dict(type="PackSegInputs")])
    (sample,) = predict(from_pretrained(hostile), [IMAGE])
    assert sample.pred_sem_seg.data.shape == (1, 64, 96)


# Base configs of data for other tasks than those of predict
OTHER_TASKS = {
    "hsi_drive", "levir_256x256", "nyu", "nyu_512x512",
    "coco_caption", "mot_challenge", "mot_challenge_reid", "youtube_vis",
}  # fmt: skip


@pytest.mark.parametrize("library", ["mmseg", "mmdet"])
def test_test_pipelines_of_the_libraries_can_be_shared(library):
    folder = Path(pytest.importorskip(library).__file__).parent / ".mim/configs/_base_/datasets"
    accepted = set()
    for path in folder.glob("*.py"):
        loader = Config.fromfile(path).to_dict()["test_dataloader"]
        model = dict(type="ResNet", backbone={})
        try:
            check_config(dict(default_scope=library, model=model, test_dataloader=loader), "it")
        except InputError:
            assert path.stem in OTHER_TASKS
        else:
            accepted.add(path.stem)
    assert len(accepted) > 20 and not accepted & OTHER_TASKS


@pytest.mark.parametrize(
    "place, value, words",
    [
        (PIPELINE, [], "does not end in PackDetInputs or PackSegInputs"),
        (PIPELINE, [dict(type="PackSegInputs"), dict(type="Resize", scale=8)], "does not end in"),
        ("model.data_preprocessor.std", [58.4, 0, 57.4], "std is .58.4, 0, 57.4., and pixels"),
        ("model.test_cfg", dict(mode="other"), "mode is 'other', accepted are whole, slide"),
        ("model.test_cfg", dict(mode=["whole"]), "mode is .'whole'., accepted are"),
        ("model.test_cfg", dict(mode="slide"), "stride=None and crop_size=None: they take"),
        ("model.test_cfg", dict(mode="slide", crop_size=[0, 0], stride=[0, 0]), "crop_size=.0, 0."),
        ("model.test_cfg", dict(mode="slide", crop_size=[64, 64], stride=[32, 65]), "they take"),
        ("model.test_cfg", dict(mode="slide", crop_size=64, stride=32), "they take"),
        ("model.test_cfg", dict(mode="slide", crop_size=[64, 64], stride=[1.5, 2]), "they take"),
    ],
)  # fmt: skip
def test_a_model_that_could_not_predict_is_refused(place, value, words, hostile):
    path = change(hostile, place, value)
    with pytest.raises(InputError, match=words) as caught:
        from_pretrained(hostile)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["imports_of_a_file_backend", "path_from_another_key"])
def test_an_attack_by_a_loader_is_real(name, hostile, tmp_path, monkeypatch):
    """A file backend imports code from the folder, and a loader unpickles a plain word."""
    monkeypatch.setattr(sys, "path", list(sys.path))  # the backend adds the folder
    _, (_, *transforms, _) = ATTACKS[name]
    with suppress(Exception), default_scope("mmseg"):
        Compose(transforms)(dict(img=IMAGE, img_path="photo.png"))
    (tmp_path / "trace").rmdir()
    sys.modules.pop("mc", None)


def test_nms_as_code_is_what_mmcv_would_run(tmp_path, monkeypatch):
    """The attack is real: mmcv evaluates the type of nms, and mmsegmentation unpickles."""
    from mmseg.models.losses import CrossEntropyLoss

    monkeypatch.chdir(tmp_path)
    for name in ("weights.pkl", "pkl"):
        (tmp_path / name).write_bytes(PICKLE)
        CrossEntropyLoss(class_weight=name)
        (tmp_path / "trace").rmdir()
    MODELS.build(dict(type="os.mkdir", path="other"))
    assert (tmp_path / "other").is_dir()


def test_a_config_that_is_nested_too_deeply_is_refused():
    config = dict(default_scope="mmseg", model={}, test_dataloader={})
    node = config["model"]
    for _ in range(5000):
        node["a"] = {}
        node = node["a"]
    with pytest.raises(InputError, match="nested too deeply"):
        check_config(config, "it")


@pytest.mark.parametrize("name", [config_param(name) for name in NAMES])
def test_each_config_of_the_project_can_be_shared(name):
    cfg = Config.fromfile(ROOT / "configs" / f"{name}.py")
    before = copy.deepcopy(cfg.to_dict())
    config, _ = portable(cfg)
    check_config(config, name)
    assert decode(encode(config)) == config
    assert cfg.to_dict() == before


def test_json_keeps_tuples_and_numbers_that_json_has_not():
    data = dict(a=(1, [2.5, (None, True)]), b={"c": (), "d": []}, e=float("inf"), f="ü\n", g=1e-300)
    assert decode(encode(data)) == data
    assert str(decode(encode(dict(a=(float("nan"), float("-inf")))))) == "{'a': (nan, -inf)}"
    json.loads(encode(data), parse_constant=pytest.fail)  # JSON in the strict sense
    with pytest.raises(InputError, match="a.b is a set"):
        encode({"a": {"b": {1}}})


def test_registered_classes_are_named_by_their_library():
    from mmseg.models import EncoderDecoder

    assert registered_name(EncoderDecoder) == "mmseg.EncoderDecoder"
    assert registered_name(torch.optim.AdamW) == "mmengine.AdamW"
    assert registered_name(nn.GELU) == "mmengine.GELU"
    assert registered_name(json.dumps) is None


# Data sets that read files and addresses when they are built, and metadata for which load_model
# would build them
NO_META = {"meta": "{}"}
NO_PALETTE = {"meta": json.dumps(dict(dataset_meta=dict(classes=["a", "b"])))}
COLORS = dict(classes=["a", "b"], palette=[[0, 0, 0], [1, 1, 1]])
COLLIDING = {"meta": json.dumps(dict(dataset_meta=COLORS | {"CLASSES": [], "Palette": []}))}


@pytest.mark.parametrize("stored", [NO_META, NO_PALETTE, COLLIDING, None])
@pytest.mark.parametrize(
    "changes",
    [
        dict(metainfo=dict(classes="{url}/x")),
        dict(metainfo=dict(classes="/etc/passwd")),
        dict(metainfo=dict(secret="/etc/passwd")),
        dict(type="mmdet.OpenImagesDataset", label_map_file="/etc/passwd", ann_file="a.csv"),
        dict(type="mmdet.OpenImagesDataset", label_map_file="{url}/x", ann_file="a.csv"),
    ],
)
def test_the_data_set_of_a_shared_folder_is_never_built(changes, stored, hostile, monkeypatch):
    path = hostile / "config.json"
    content = json.loads(path.read_text())
    weights = hostile / "model.safetensors"
    if stored is not None:
        save_file(load_file(weights), weights, {"key": "state_dict", **stored})
    opened, built = [], []
    read, build = builtins.open, DATASETS.build
    with local_hub() as server:
        dataset = content["config"]["test_dataloader"]["dataset"]
        dataset.update(json.loads(json.dumps(changes).replace("{url}", server.url)))
        path.write_text(json.dumps(content))
        with monkeypatch.context() as patch:
            patch.setattr(builtins, "open", lambda f, *a, **k: opened.append(f) or read(f, *a, **k))
            patch.setattr(DATASETS, "build", lambda cfg, **k: built.append(cfg) or build(cfg, **k))
            try:
                model = from_pretrained(hostile)
            except InputError as e:
                assert "\n" not in str(e)
            else:  # an honest file of weights, or classes that are written twice
                assert "label_map_file" in changes and stored in (None, COLLIDING)
                assert model.dataset_meta["classes"] == ["a", "b"]
                assert model.cfg.test_dataloader.dataset.type == "mmdet.OpenImagesDataset"
        assert server.requests == []
    assert not any("passwd" in str(each) for each in opened)
    assert {each["type"] for each in built} <= {BaseDataset}
    assert built == [] or stored == COLLIDING
