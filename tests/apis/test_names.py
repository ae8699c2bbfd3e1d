"""Models by name: which there are, and their trained weights."""

import json
import re

import pytest
import torch
from mmengine.config import Config

import gfnet_dense
from gfnet_dense import InputError, from_pretrained, list_models, load_model
from gfnet_dense.checkpoint.official import OFFICIAL_FILES, TRAINED, trained_weights
from gfnet_dense.sharing.folder import shared_config
from gfnet_dense.utils.config import read_config, shared_folder
from tests.conftest import ROOT

NAME = "fpn_gfnet-h-ti_ade20k"
CONFIGS = ROOT / "configs"


@pytest.fixture
def trained(monkeypatch):
    """Pretend that a small model has trained weights, at an address where nobody answers."""
    monkeypatch.setitem(TRAINED, NAME, "gfnet://trained")
    monkeypatch.setitem(
        OFFICIAL_FILES, "gfnet://trained", ("trained.pth", "https://nowhere.invalid/f/0/?dl=1")
    )


def test_models_are_the_configs_without_those_for_own_data():
    names = sorted(path.stem for path in CONFIGS.glob("*.py"))
    templates = [name for name in names if name.endswith("_own-data")]
    assert templates and list_models() == [name for name in names if name not in templates]


def test_patterns_are_those_of_a_shell():
    assert list_models("upernet_gfnet-h-?_ade20k") == [
        "upernet_gfnet-h-b_ade20k", "upernet_gfnet-h-s_ade20k"
    ]  # fmt: skip
    assert list_models("*_cityscapes") == [
        "fpn_gfnet-h-ti_cityscapes", "upernet_gfnet-h-ti_cityscapes"
    ]  # fmt: skip
    assert list_models("[ab]*") == ["atss_gfnet-h-ti_coco"]
    assert list_models("upernet") == list_models("UPERNET*") == []
    assert list_models("*own-data") == []


def test_models_with_trained_weights_are_those_that_hornets_authors_published():
    sizes = ("base", "large", "small", "tiny")
    assert list_models(pretrained=True) == [
        *(f"cascade-mask-rcnn_hornet-{size}-gf_coco-3x" for size in sizes),
        *(f"upernet_hornet-{size}-gf_ade20k" for size in sizes),
    ]
    assert list_models("*tiny*ade20k", pretrained=True) == ["upernet_hornet-tiny-gf_ade20k"]
    assert list_models("*_gfnet-*", pretrained=True) == []


def test_each_trained_model_has_a_config_of_its_arch_and_a_file_of_its_own():
    assert len(set(TRAINED.values())) == len(TRAINED)
    for name, address in TRAINED.items():
        arch = re.search("hornet-(.*?-gf)", name)[1]
        assert re.search("-(tiny|small|base|large)-gf-", address)[0] == f"-{arch}-"
        assert ("upernet" in name, "ade20k" in name) == ("upernet" in address, "ade20k" in address)
        assert address in OFFICIAL_FILES
        assert read_config(name).model.backbone.arch == arch


def test_a_model_by_name_has_random_weights_unless_pretrained(hub, trained):
    """The file is of mmsegmentation 0.x, as HorNet's authors published them."""
    model = load_model(NAME)
    assert not model.training and not hub.exists()
    classes, palette = [f"c{i}" for i in range(150)], [[i, 0, 1] for i in range(150)]
    meta = dict(CLASSES=classes, PALETTE=palette, config="model = dict()")
    hub.mkdir(parents=True)
    torch.save({"meta": meta, "state_dict": model.state_dict()}, hub / "trained.pth")
    for config in (NAME, f"configs/{NAME}.py", CONFIGS / f"{NAME}.py", read_config(NAME)):
        loaded = load_model(config, pretrained=True)
        for key, value in model.state_dict().items():
            assert torch.equal(loaded.state_dict()[key], value), key
    assert loaded.dataset_meta["classes"] == classes
    assert loaded.dataset_meta["palette"][3] == (3, 0, 1)
    changed = read_config(NAME)
    changed.model.decode_head.num_classes = 7
    with pytest.raises(InputError, match=r"trained\.pth"):
        load_model(changed, pretrained=True)


def test_without_network_a_sentence_says_what_to_fetch_and_where_to_put_it(hub, trained):
    with pytest.raises(InputError) as error:
        load_model(NAME, pretrained=True)
    assert re.fullmatch(
        r"could not download https://nowhere\.invalid/f/0/\?dl=1 \(.*\); fetch it in another way "
        rf"and save it as {hub}/trained\.pth",
        str(error.value),
    )
    assert not list(hub.iterdir())


def test_a_name_without_trained_weights_is_refused_with_those_that_have_them():
    with pytest.raises(InputError) as error:
        load_model("upernet_gfnet_ade20k", pretrained=True)
    assert str(error.value) == (
        "there are no trained weights of upernet_gfnet_ade20k (is upernet_hornet-tiny-gf_ade20k "
        f"meant?): give a checkpoint, or one of the models that were trained, {', '.join(TRAINED)}"
    )


def test_a_checkpoint_and_the_trained_weights_exclude_each_other():
    with pytest.raises(InputError, match="give a checkpoint or pretrained=True, not both"):
        load_model(NAME, "some.pth", pretrained=True)


def test_an_unknown_name_is_answered_with_similar_ones():
    for pretrained in (False, True):
        with pytest.raises(InputError, match="does not exist: .* such as upernet_hornet-tiny-gf_"):
            load_model("upernet_hornet_tiny_ade20k", pretrained=pretrained)


def test_a_users_file_of_the_name_of_a_config_has_no_trained_weights(tmp_path, monkeypatch):
    """Its model may be another, with weights that fit and mean something else."""
    name = "upernet_hornet-tiny-gf_ade20k"
    (tmp_path / f"{name}.py").write_text(f"_base_ = {str(CONFIGS / 'upernet_gfnet_ade20k.py')!r}")
    (tmp_path / "linked.py").symlink_to(CONFIGS / f"{name}.py")
    monkeypatch.chdir(tmp_path)
    for config in (f"{name}.py", tmp_path / f"{name}.py"):
        sentence = rf"no trained weights of {config} \(is {name} meant\?\)"
        with pytest.raises(InputError, match=sentence):
            trained_weights(config)
        with pytest.raises(InputError, match=sentence):
            load_model(config, pretrained=True)
    for config in (name, "linked.py"):  # no file here has the first name
        assert trained_weights(config) == "hornet://upernet-tiny-gf-ade20k"


def test_a_config_without_a_file_has_no_trained_weights():
    cfg = Config(read_config("upernet_hornet-tiny-gf_ade20k").to_dict())
    with pytest.raises(InputError) as error:
        load_model(cfg, pretrained=True)
    assert str(error.value).startswith(
        "a Config that was not read from a file of this project has no trained weights: give a name"
    )


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "abacus", ""])
def test_a_device_that_is_not_here_is_told_in_a_sentence(device):
    with pytest.raises(InputError) as error:
        load_model(NAME, device=device)
    assert re.fullmatch(
        rf"device {device} cannot be used here \(.{{10,80}}\): give cpu, or cuda or cuda:NUMBER "
        "where there is a GPU",
        str(error.value),
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_here_is_told_before_the_config_is_read():
    for device in ("cuda", torch.device("cuda")):
        with pytest.raises(InputError, match="device cuda cannot be used here"):
            load_model("no config", device=device)


@pytest.mark.parametrize("file", ["photo.jpg", "own.pth", "noext", "a.PY"])
def test_a_photo_or_a_checkpoint_in_place_of_a_config_is_told_the_order(file, tmp_path):
    path = tmp_path / file
    path.touch()
    sentence = rf"^{path} is no config, .*: the order is CONFIG, then CHECKPOINT, then images"
    for function in (load_model, read_config, trained_weights):
        with pytest.raises(InputError, match=sentence):
            function(path)


def test_the_folder_and_config_of_a_shared_model_are_told_their_function(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pub").mkdir()
    (tmp_path / "pub" / "model.safetensors").touch()
    content = {"library_name": "gfnet-dense", "version": "1", "config": {"model": {}}}
    (tmp_path / "pub" / "config.json").write_text(json.dumps(content))
    for name in ("pub", "pub/", "pub/config.json", tmp_path / "pub"):
        for function in (load_model, read_config, trained_weights):
            with pytest.raises(InputError) as error:
                function(name)
            folder = tmp_path / "pub" if name == tmp_path / "pub" else "pub"
            kind = (
                "the config of a shared model" if str(name).endswith(".json") else "a shared model"
            )
            assert str(error.value) == (
                f"{name} is {kind}, which gfnet_dense.from_pretrained({str(folder)!r}), "
                "infer and export_onnx load; other commands take the config of the training, and "
                f"{folder}/model.safetensors as checkpoint"
            )


@pytest.mark.parametrize("content", ["", "[]", '{"library_name": "other"}', "[" * 100000, "\udcff"])
def test_other_json_beside_weights_is_no_shared_config(content, tmp_path):
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "config.json").write_text(content, errors="surrogateescape")
    with pytest.raises(InputError) as error:
        read_config(tmp_path / "config.json")
    assert "from_pretrained" not in str(error.value)


@pytest.mark.parametrize(
    "files, words",
    [
        ({"config.json": "{"}, "holds no model.safetensors: give a folder that save_pretrained"),
        ({"model.safetensors": ""}, "holds no config.json: give a folder that save_pretrained"),
        ({"config.json": "{", "model.safetensors": ""}, "config.json cannot be read as JSON"),
        ({"config.json": "{}", "model.safetensors": ""}, "config.json is no config of gfnet-dense"),
    ],
)
def test_a_damaged_shared_folder_is_told_as_from_pretrained_tells_it(files, words, tmp_path):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    for load in (from_pretrained, lambda path: shared_config(shared_folder(path))):
        with pytest.raises(InputError, match=words):
            load(tmp_path)


def test_the_weights_of_a_shared_model_are_told_their_folder(tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).touch()
    with pytest.raises(InputError) as error:
        read_config(tmp_path / "model.safetensors")
    sentence = f"{tmp_path}/model.safetensors has the weights of a shared model: give the folder "
    assert str(error.value) == f"{sentence}{tmp_path}"
    (tmp_path / "config.json").unlink()
    with pytest.raises(InputError, match="is no config, which is a file"):
        read_config(tmp_path / "model.safetensors")


def test_both_functions_are_public():
    assert {"list_models", "load_model"} <= set(gfnet_dense.__all__)
