"""Hostile configs: whatever could run code, read files or reach the network is refused."""

import builtins
import copy
import json
import shutil
import sys

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS
from safetensors.torch import load_file, save_file
from torch import nn

from gfnet_dense import from_pretrained, save_pretrained
from gfnet_dense.sharing.config_json import decode, encode, portable
from gfnet_dense.sharing.safe_config import check_config, registered_name
from gfnet_dense.utils.errors import InputError
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
    (tmp_path / "weights.pkl").write_bytes(b"cos\nmkdir\n(S'trace'\ntR.")
    yield folder
    assert not (tmp_path / "trace").exists()
    assert not {"evil", "evil.registry"} & set(sys.modules)


CALL = dict(type="os.mkdir", path="trace")
CODE = "__import__('os').mkdir('trace')"
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
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_hostile_folder_is_refused_before_anything_is_built(name, hostile, monkeypatch):
    place, value = ATTACKS[name]
    path = hostile / "config.json"
    content = json.loads(path.read_text())
    *keys, last = place.split(".")
    node = content["config"]
    for key in keys:
        node = node[key]
    node[last] = value
    path.write_text(json.dumps(content))
    built = []
    monkeypatch.setattr(MODELS, "build", lambda *args, **kwargs: built.append(args))
    with pytest.raises(InputError) as caught:
        from_pretrained(hostile)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    assert built == []


def test_nms_as_code_is_what_mmcv_would_run(tmp_path, monkeypatch):
    """The attack is real: mmcv evaluates the type of nms, and mmsegmentation unpickles."""
    from mmseg.models.losses import CrossEntropyLoss

    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.pkl").write_bytes(b"cos\nmkdir\n(S'trace'\ntR.")
    CrossEntropyLoss(class_weight="weights.pkl")
    assert (tmp_path / "trace").is_dir()
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


def test_secrets_are_left_out_and_named():
    cfg = Config(
        dict(
            model=dict(num_tokens=4, token_dim=8, keys=["token"], token=None),
            visualizer=dict(
                vis_backends=[
                    dict(type="WandbVisBackend", init_kwargs=dict(api_key="k3y", project="p")),
                    dict(type="MLflowVisBackend", tracking_uri="http://me:pa:ss@track.org:5000/x"),
                ]
            ),
            test_dataloader=dict(
                dataset=dict(
                    data_root="s3://AKIA:s/e@c@bucket/ade",
                    ann_file="https://host.org/a.json?X-Amz-Signature=k3y#k3y",
                    backend_args=dict(
                        secret_key="k3y", AWS_ACCESS_KEY_ID="k3y", HF_TOKEN="k3y", apikey="k3y",
                        password="k3y", region="eu", endpoint="http://store.org/a@b",
                        path_mapping={"data/": "http://me:k3y@store.org/"},
                    ),
                )
            ),
        )
    )  # fmt: skip
    config, notes = portable(cfg)
    text = encode(config)
    for secret in ("k3y", "pa:ss", "AKIA", "s/e@c"):
        assert secret not in text
    assert config["model"] == dict(num_tokens=4, token_dim=8, keys=["token"], token=None)
    first, second = config["visualizer"]["vis_backends"]
    assert first["init_kwargs"] == dict(project="p")
    assert second["tracking_uri"] == "http://track.org:5000/x"
    dataset = config["test_dataloader"]["dataset"]
    assert dataset["data_root"] == "s3://bucket/ade"
    assert dataset["ann_file"] == "https://host.org/a.json"
    assert dataset["backend_args"] == dict(
        region="eu", endpoint="http://store.org/a@b", path_mapping={"data/": "http://store.org/"}
    )
    secrets, addresses = notes
    assert secrets.startswith("secrets are left out: visualizer.vis_backends.init_kwargs.api_key, ")
    assert secrets.count("backend_args") == 5
    assert addresses.startswith("logins and queries are cut from addresses: visualizer.vis_back")


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
    assert {each["type"] for each in built} <= {"mmengine.BaseDataset"}
    assert built == [] or stored == COLLIDING
