"""Configs as JSON: nothing that is private to their author is in them, in notes, cards and logs."""

import json

import pytest
from mmengine.config import Config

from gfnet_dense import save_pretrained
from gfnet_dense.sharing.config_json import encode, portable
from tests.checkpoint.weights import Messages
from tests.conftest import ROOT, config_param
from tests.sharing.small_models import small_model

pytest.importorskip("mmseg")
NAMES = sorted(path.stem for path in (ROOT / "configs").glob("*.py"))
CUT = ("logins", "secrets", "addresses", "absolute", "homes", "entries")  # starts of notes


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
    assert addresses.startswith("logins, queries and secrets are cut from texts: visualizer.vis_b")


def test_a_secret_in_a_key_is_neither_in_the_folder_nor_in_the_log(tmp_path):
    model = small_model(classes=["a", "b"])
    model.cfg.test_dataloader.dataset.backend_args = dict(
        backend="local",
        path_mapping={
            "s3://KEY:S3CRET@bucket/": "s3://KEY:S3CRET@other/",
            "/home/alice/project/": "s3://b/",
            "//u:S3CRET@host/x": 1,
        },
    )
    with Messages() as logged:
        folder = save_pretrained(model, tmp_path / "shared")
    card, config = ((folder / name).read_text() for name in ("README.md", "config.json"))
    for text in (card, config, "\n".join(logged)):
        assert "S3CRET" not in text and "KEY" not in text and "alice" not in text
        assert "s3://bucket/" in text
    place = "test_dataloader.dataset.backend_args.path_mapping"
    assert f"cut from texts: {place}, {place}.s3://bucket/" in card
    mapping = json.loads(config)["config"]
    for key in place.split("."):
        mapping = mapping[key]
    assert mapping == {"s3://bucket/": "s3://other/", "project": "s3://b/", "x": 1}


@pytest.mark.parametrize("name", [config_param(name) for name in NAMES])
def test_no_setting_of_the_configs_of_the_project_is_taken_for_a_secret(name):
    cfg = Config.fromfile(ROOT / "configs" / f"{name}.py")
    _, notes = portable(cfg)
    assert not [note for note in notes if note.startswith(CUT)]


def test_imports_of_the_libraries_alone_are_left_out():
    settings = dict(work_dir="w", resume=False, model=dict(type="X"))
    libraries = dict(imports=["mmseg.models", "gfnet_dense"])
    config, notes = portable(Config(dict(settings, custom_imports=libraries)))
    assert config == dict(model=dict(type="X"))
    assert notes == ["settings are left out: work_dir, custom_imports"]
    own = dict(imports=["mmseg.models", "mine"])
    assert portable(Config(dict(settings, custom_imports=own)))[0]["custom_imports"] == own
