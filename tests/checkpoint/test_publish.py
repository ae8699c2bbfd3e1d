import copy
import hashlib
import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from safetensors import safe_open

from gfnet_dense import api, from_pretrained
from gfnet_dense.checkpoint.convert import convert
from gfnet_dense.checkpoint.loading import load_pretrained
from gfnet_dense.checkpoint.publish import publish
from gfnet_dense.checkpoint.safe_reader import read_checkpoint
from gfnet_dense.models import GFNet, IsotropicGFNet
from gfnet_dense.models.backbones.gfnet import ARCHS
from gfnet_dense.sharing.training import publish_folder
from gfnet_dense.utils.config import read_config
from gfnet_dense.utils.errors import InputError
from tests.checkpoint.weights import Messages
from tests.commands import error_of, run, tool
from tests.conftest import ROOT
from tests.published import official_isotropic_state_dict, official_state_dict
from tests.sharing.small_models import small_model

DIMS, DEPTHS = (8, 16), (2, 1)


@pytest.fixture
def training(tmp_path):
    """A checkpoint as a training writes it."""
    torch.manual_seed(0)
    model = GFNet(dict(dims=DIMS, depths=DEPTHS), img_size=64, out_indices=(0, 1))
    content = {
        "state_dict": {f"backbone.{k}": v for k, v in model.state_dict().items()},
        "optimizer": {"state": {i: torch.randn(1000) for i in range(50)}},
        "message_hub": {},
        "meta": {"cfg": "model = 1", "dataset_meta": {"classes": ["a", "b"]}, "seed": 3},
    }
    torch.save(content, tmp_path / "iter_4.pth")
    return tmp_path / "iter_4.pth"


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_published_files_hold_only_weights_config_and_classes(suffix, training, tmp_path):
    path = publish(training, tmp_path / "out" / f"model{suffix}")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.name == f"model-{digest[:8]}{suffix}"
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert path.stat().st_size < training.stat().st_size / 2
    before, after = read_checkpoint(training), read_checkpoint(path)
    assert set(after) == {"state_dict", "meta"}
    assert after["meta"] == {"cfg": "model = 1\n", "dataset_meta": {"classes": ["a", "b"]}}
    torch.testing.assert_close(after["state_dict"], before["state_dict"], rtol=0, atol=0)


def test_the_config_is_in_the_metadata_of_safetensors(training, tmp_path):
    path = publish(training, tmp_path / "model.safetensors")
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()["meta"])["cfg"] == "model = 1\n"


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_is_private_in_the_config_is_left_out_and_told(suffix, tmp_path):
    pytest.importorskip("mmseg")
    model = small_model(classes=["a", "b"])
    cfg = copy.deepcopy(model.cfg)
    expected = cfg.to_dict()
    cfg.work_dir, cfg.load_from = "/home/alice/private/work", "s3://K:S3CRET@b/a.pth"
    init_kwargs = dict(api_key="S3CRET", project="p")
    cfg.visualizer.vis_backends = [dict(type="WandbVisBackend", init_kwargs=init_kwargs)]
    cfg.test_dataloader.dataset.data_root = "/home/alice/ade"
    mapping = {"s3://KEY:S3CRET@bucket/": "/home/alice/x/"}
    cfg.train_dataloader.dataset.backend_args = dict(backend="local", path_mapping=mapping)
    meta = dict(cfg=f"# of alice\n{cfg.pretty_text}", dataset_meta=model.dataset_meta)
    torch.save(dict(state_dict=model.state_dict(), meta=meta), tmp_path / "iter_4.pth")
    result = run(tool("publish_checkpoint", "iter_4.pth", f"model{suffix}"), tmp_path)
    assert result.returncode == 0, result.stderr
    (path,) = tmp_path.glob("model-*")
    for text in (path.read_bytes(), result.stdout.encode(), result.stderr.encode()):
        assert b"S3CRET" not in text and b"alice" not in text and b"KEY" not in text
    for words in (
        "settings are left out: work_dir, load_from",
        "secrets are left out: visualizer.vis_backends.init_kwargs.api_key",
        "cut to their last part: test_dataloader.dataset.data_root, train_dataloader",
        "from texts: train_dataloader.dataset.backend_args.path_mapping\n",
    ):
        assert words in result.stdout
    stored = Config.fromstring(read_checkpoint(path)["meta"]["cfg"], ".py").to_dict()
    for name in ("work_dir", "load_from", "resume"):
        expected.pop(name, None)
    expected["visualizer"]["vis_backends"] = [
        dict(type="WandbVisBackend", init_kwargs=dict(project="p"))
    ]
    expected["test_dataloader"]["dataset"]["data_root"] = "ade"
    expected["train_dataloader"]["dataset"]["backend_args"] = dict(
        backend="local", path_mapping={"s3://bucket/": "x"}
    )
    assert stored == expected
    x = torch.randn(1, 3, 64, 96)
    assert torch.equal(api.load_model(cfg, path)(x), model(x))
    # The published file has all that a folder needs.
    (folder,) = publish_folder(path, tmp_path / "shared")
    shared = from_pretrained(folder)
    assert torch.equal(shared(x), model(x)) and shared.dataset_meta["classes"] == ["a", "b"]


@pytest.mark.parametrize("text", ["model = 1\nlogin('S3CRET')", {"key": "S3CRET"}, "a = [S3CRET"])
def test_a_config_that_is_no_data_is_left_out_with_a_sentence(text, training, tmp_path):
    content = read_checkpoint(training)
    content["meta"]["cfg"] = text
    torch.save(content, training)
    with Messages() as logged:
        path = publish(training, tmp_path / "model.safetensors")
    assert read_checkpoint(path)["meta"] == {"dataset_meta": {"classes": ["a", "b"]}}
    assert b"S3CRET" not in path.read_bytes()
    (sentence,) = logged[1:]
    assert sentence == (
        "config in the file: it is left out, since it is no plain data, and may hold what is "
        "private"
    )


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_conversion_to_our_form_and_back_keeps_weights_and_features(suffix, tmp_path):
    """Trigonometric interpolation to a larger grid and back loses nothing."""
    torch.manual_seed(0)
    official = {k: v.double() for k, v in official_state_dict(DIMS, DEPTHS, 64).items()}
    torch.save({"model": official}, tmp_path / "official.pth")
    ours = convert(
        tmp_path / "official.pth", tmp_path / f"ours{suffix}", "ours", (128, 128), "trigonometric"
    )
    assert convert(ours, tmp_path / f"back{suffix}", "official", (64, 64), "trigonometric")
    back = read_checkpoint(tmp_path / f"back{suffix}")["model"]
    assert set(back) == set(official) - {"head.weight", "head.bias"}

    def maps(path, img_size):
        model = GFNet(dict(dims=DIMS, depths=DEPTHS), img_size=img_size, out_indices=(0, 1))
        load_pretrained(model.double().eval(), str(path))
        return model(torch.ones(1, 3, 128, 128, dtype=torch.float64).cumsum(2).sin())

    expected = maps(tmp_path / "official.pth", 128)
    for a, b in zip(maps(ours, 128), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)
    for name, weight in back.items():
        if name.endswith("complex_weight"):  # conversion symmetrizes filters, as the layer does
            continue
        if name != "pos_embed":  # resized by the published bicubic interpolation
            assert torch.equal(weight, official[name]), name


def test_conversion_to_the_official_form_at_the_same_size_keeps_weights(tmp_path):
    official = official_state_dict(DIMS, DEPTHS, 64)
    torch.save({"model": official}, tmp_path / "official.pth")
    path = convert(tmp_path / "official.pth", tmp_path / "b.pth", "official", None, "bicubic")
    torch.testing.assert_close(read_checkpoint(path)["model"], official, rtol=0, atol=0)


def test_isotropic_models_are_converted_to_our_form_and_back(tmp_path):
    torch.save(official_isotropic_state_dict(8, 3, 64), tmp_path / "official.pth")
    path = convert(
        tmp_path / "official.pth", tmp_path / "a.safetensors", "ours", (96, 64), "bilinear"
    )
    model = IsotropicGFNet(dict(dim=8, depth=3), img_size=(96, 64))
    assert "new: nothing" in load_pretrained(model, str(path))
    assert "norm.weight" in read_checkpoint(
        convert(path, tmp_path / "b.pth", "official", None, "bilinear")
    )["model"]  # fmt: skip


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_segmentor_gives_the_same_logits_after_conversion_and_publishing(suffix, tmp_path):
    """GFNet-H-Ti at its full size: official -> ours at 512 -> segmentor -> published -> loaded."""
    torch.manual_seed(0)
    dims, depths = ARCHS["h-tiny"]["dims"], ARCHS["h-tiny"]["depths"]
    torch.save({"model": official_state_dict(dims, depths, 224)}, tmp_path / "official.pth")
    image = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)

    def segmentor(checkpoint, img_size):
        cfg = read_config(str(ROOT / "configs" / "fpn_gfnet-h-ti_ade20k.py"))
        cfg.model.backbone.img_size = img_size
        init_default_scope("mmseg")
        model = MODELS.build({**cfg.model, "backbone": {**cfg.model.backbone, "init_cfg": None}})
        load_pretrained(model.backbone, str(checkpoint))
        torch.manual_seed(1)
        for part in (model.neck, model.decode_head):
            for parameter in part.parameters():
                torch.nn.init.normal_(parameter, std=0.05)
        return cfg, model.eval()

    def logits(model):
        data = {"inputs": [torch.from_numpy(image).permute(2, 0, 1)], "data_samples": None}
        with torch.no_grad():
            inputs = model.data_preprocessor(data, False)["inputs"]
            return model.encode_decode(inputs, [dict(img_shape=(512, 512))])

    _, model = segmentor(tmp_path / "official.pth", 224)
    expected = logits(model)
    converted = convert(
        tmp_path / "official.pth", tmp_path / f"ours{suffix}", "ours", 512, "trigonometric"
    )
    cfg, model = segmentor(converted, 512)
    content = {"state_dict": model.state_dict(), "meta": {"cfg": cfg.pretty_text}}
    torch.save(content, tmp_path / "iter_1.pth")
    published = publish(tmp_path / "iter_1.pth", tmp_path / f"published{suffix}")
    model = api.load_model(cfg, published)
    assert model.backbone.grids[0] == (128, 128)
    assert (logits(model) - expected).norm() < 1e-5 * expected.norm()


def test_a_backbone_is_built_and_loaded_from_safetensors(tmp_path):
    model = GFNet(dict(dims=DIMS, depths=DEPTHS), img_size=64, out_indices=(0, 1))
    weights = {f"backbone.{k}": v for k, v in model.state_dict().items()}
    torch.save({"state_dict": weights, "meta": {}}, tmp_path / "a.pth")
    path = publish(tmp_path / "a.pth", tmp_path / "a.safetensors")
    assert api.load_backbone(path).grids[0] == (16, 16)
    assert "loaded" in load_pretrained(model, str(path))


@pytest.mark.parametrize("content", [b"\x10\0\0\0\0\0\0\0{", b"\x02\0\0\0\0\0\0\0{}", b""])
def test_broken_safetensors_are_refused(content, tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    if content.endswith(b"{}"):  # a file without tensors is valid
        assert read_checkpoint(path)["state_dict"] == {}
        return
    with pytest.raises(InputError, match="damaged|truncated"):
        read_checkpoint(path)


def test_publish_and_convert_commands_write_their_files(training, tmp_path):
    result = run(tool("publish_checkpoint", "iter_4.pth", "model.safetensors"), tmp_path)
    assert result.returncode == 0 and "written: model-" in result.stdout, result.stderr
    (published,) = tmp_path.glob("model-*.safetensors")
    command = tool("convert_checkpoint", published.name, "official.pth", "--to", "official")
    result = run([*command, "--img-size", "96x64"], tmp_path)
    assert result.returncode == 0, result.stderr
    stored = read_checkpoint(tmp_path / "official.pth")["model"]
    assert stored["blocks.0.0.filter.complex_weight"].shape == (24, 9, 8, 2)


@pytest.mark.parametrize(
    "args, message",
    [
        (("publish_checkpoint", "nothing.pth", "a.pth"), "nothing.pth does not exist"),
        (("publish_checkpoint", "iter_4.pth", "a.zip"), ".pth or .safetensors, got a.zip"),
        (("convert_checkpoint", "iter_4.pth", "a.pth", "--img-size", "0"), "32 pixels and more"),
        (("convert_checkpoint", "iter_4.pth", "a.pth", "--filter-resize", "x"), "got 'x'"),
    ],
)
def test_wrong_arguments_give_an_error_of_one_sentence(args, message, training, tmp_path):
    assert message in error_of(run(tool(*args), tmp_path))
    assert not (tmp_path / "a.pth").exists()
