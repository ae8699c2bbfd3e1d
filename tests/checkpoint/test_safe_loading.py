"""Reading checkpoints through mmengine's loaders: as data within the block, as before behind it."""

import io
import json
import re
import sys
import threading

import numpy as np
import pytest
import torch
from mmengine.fileio import LocalBackend
from mmengine.logging import HistoryBuffer
from mmengine.registry import MODELS
from mmengine.runner import CheckpointLoader, checkpoint

from gfnet_dense.apis.loading import load_model
from gfnet_dense.checkpoint.download import DIGEST_IN_NAME, _sha256
from gfnet_dense.checkpoint.safe_loading import read, safe_loading
from gfnet_dense.checkpoint.safe_reader import read_checkpoint
from gfnet_dense.utils.errors import InputError
from tests.checkpoint.test_loading import Evil
from tests.checkpoint.weights import tiny_config

RESNET = "layer1.0.conv1.weight"


class Getter:
    """Is pickled as a call of getattr."""

    def __reduce__(self):
        return getattr, (HistoryBuffer, "__init__")


def table():
    """Return everything that mmengine uses to read checkpoints."""
    functions = ("load_from_http", "_safe_torch_load", "load_from_local", "load_url")
    return dict(CheckpointLoader._schemes), [getattr(checkpoint, name) for name in functions]


@pytest.fixture(autouse=True)
def check_that_all_is_restored():
    before = table()
    yield
    assert table() == before and list(table()[0]) == list(before[0])


@pytest.fixture
def homes(tmp_path, monkeypatch):
    """Return empty folders for the downloads of torch.hub, and for mmengine's own models."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("MMENGINE_HOME", str(tmp_path / "mmengine"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    folders = tmp_path / "torch" / "hub" / "checkpoints", tmp_path / "mmengine"
    for folder in folders:
        folder.mkdir(parents=True)
    return folders


def named_by_digest(content, folder):
    """Write a file with the first digits of its SHA-256 in its name, as model zoos do."""
    for salt in range(9):  # eight decimal digits, one digest in 43, are not taken for one
        torch.save({**content, "salt": torch.tensor(salt)}, folder / "new")
        name = f"tiny-{_sha256(folder / 'new')[:8]}.pth"
        if DIGEST_IN_NAME.search(name):
            break
    return (folder / "new").rename(folder / name)


def test_mmengine_reads_checkpoints_with_the_safe_reader(tmp_path):
    """The history of a training is read back; objects that would run code are refused."""
    history = HistoryBuffer([1.0, 2.0], [1, 1])
    path = tmp_path / "iter_2.pth"
    torch.save({"message_hub": {"log_scalars": {"train/loss": history}}}, path)
    with safe_loading():
        content = CheckpointLoader.load_checkpoint(str(path))
        loaded = content["message_hub"]["log_scalars"]["train/loss"]
        np.testing.assert_array_equal(loaded.data[0], [1, 2])
        for evil in (Evil(tmp_path / "trace"), Getter()):
            torch.save({"state_dict": {}, "meta": evil}, path)
            with pytest.raises(InputError, match="was refused: it holds .*(mkdir|getattr)"):
                CheckpointLoader.load_checkpoint(str(path))
    assert not (tmp_path / "trace").exists()


def addresses(folders, monkeypatch, content):
    """Return an address of each scheme of mmengine, all of which lead to ``content``."""
    hub, home = folders
    cached = named_by_digest(content, hub)
    url = f"https://nowhere.invalid/{cached.name}"
    torch.save(content, home / "local.pth")
    (home / "open_mmlab.json").write_text(json.dumps({"tiny": url, "local": "local.pth"}))
    # torchvision is not installed here, and its real files are large.
    monkeypatch.setattr(checkpoint, "get_torchvision_models", lambda: {"resnet50": url})
    monkeypatch.setattr(checkpoint, "get_mmcls_models", lambda: {"tiny": url})
    monkeypatch.setattr(checkpoint, "get_file_backend", lambda *_, **__: Store(cached.read_bytes()))
    return [
        str(cached), url, "torchvision://resnet50", "modelzoo://resnet50", "open-mmlab://tiny",
        "openmmlab://tiny", "open-mmlab://local", "mmcls://tiny", "s3://bucket/tiny.pth",
        "petrel://tiny.pth", "open-mmlab:s3://tiny.pth",
    ]  # fmt: skip


class Store(LocalBackend):
    def __init__(self, data):
        self.data = data

    def get(self, path):
        return self.data


def test_each_scheme_of_mmengine_reads_data_and_runs_no_code(homes, monkeypatch, tmp_path):
    weights = {f"backbone.{RESNET}": torch.arange(3.0)}
    read_at = addresses(homes, monkeypatch, {"state_dict": weights})
    for address in read_at:
        content, _ = read(address)
        (tensor,) = content["state_dict"].values()
        assert torch.equal(tensor, torch.arange(3.0)), address
    schemes = {s for a in read_at for s in table()[0] if s and re.match(s, a)}
    assert schemes | {"", "pavi://", "http://"} == set(table()[0])  # pavi is a closed package
    for address in addresses(homes, monkeypatch, {"state_dict": {}, "x": Evil(tmp_path / "trace")}):
        with pytest.raises(InputError, match="was refused: it holds the object .*mkdir"):
            read(address)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    "address, message",
    [
        ("torchvision://resnet50", "torchvision://resnet50 cannot be read .*torchvision"),
        ("open-mmlab://nothing", "open-mmlab://nothing cannot be read .there is no 'nothing'"),
        ("mmcls://nothing", "mmcls://nothing cannot be read .there is no 'nothing'"),
        ("open-mmlab://local", "open-mmlab://local cannot be read .*local.pth can not be found"),
        ("s3://bucket/x.pth", "s3://bucket/x.pth cannot be read .*petrel"),
        ("pavi://x.pth", "pavi://x.pth cannot be read .Please install pavi"),
        ("unknown://x.pth", "unknown://x.pth does not exist"),
        ("https://nowhere.invalid/a.pth", "fetch it in another way and save it as .*a.pth"),
        ("open-mmlab://tiny", "fetch it in another way and save it as .*tiny-01234567.pth"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_sentence(address, message, homes, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)  # not installed
    url = "https://nowhere.invalid/tiny-01234567.pth"
    urls = {"tiny": url.replace("01234567", "0123456a"), "local": "local.pth"}
    (homes[1] / "open_mmlab.json").write_text(json.dumps(urls))
    with pytest.raises(InputError, match=message.replace("01234567", "0123456a")) as error:
        read(address)
    assert "\n" not in str(error.value)


def test_a_stock_backbone_is_loaded_from_the_models_of_mmengine(homes):
    pytest.importorskip("mmseg")
    backbone = dict(type="mmseg.ResNet", depth=18)
    state_dict = MODELS.build(backbone).state_dict()
    state_dict["conv1.weight"] = torch.full_like(state_dict["conv1.weight"], 3.0)
    cached = named_by_digest(state_dict, homes[0])
    urls = {"tiny": f"https://nowhere.invalid/{cached.name}"}
    (homes[1] / "open_mmlab.json").write_text(json.dumps(urls))
    init_cfg = dict(type="Pretrained", checkpoint="open-mmlab://tiny")
    model = MODELS.build({**backbone, "init_cfg": init_cfg})
    with safe_loading():
        model.init_weights()
    assert model.conv1.weight.unique().tolist() == [3.0]


def test_blocks_may_be_nested_and_end_in_any_order(tmp_path):
    torch.save({"x": Evil(tmp_path / "trace")}, tmp_path / "evil.pth")

    def is_safe():
        with pytest.raises(InputError):
            CheckpointLoader.load_checkpoint(str(tmp_path / "evil.pth"))

    before, (first, second) = table(), (safe_loading(), safe_loading())
    first.__enter__()
    second.__enter__()
    is_safe()
    first.__exit__(None, None, None)
    assert table() != before
    is_safe()
    second.__exit__(None, None, None)
    assert table() == before and not (tmp_path / "trace").exists()
    with pytest.raises(ZeroDivisionError), safe_loading():
        raise ZeroDivisionError
    assert table() == before


def test_blocks_of_several_threads_may_overlap(tmp_path):
    torch.save({"state_dict": {"w": torch.ones(2)}}, tmp_path / "a.pth")
    before, wrong = table(), []

    def work():
        for _ in range(50):
            with safe_loading():
                loader = CheckpointLoader._get_checkpoint_loader("a.pth")
                if loader.__name__ != "load_from_file":
                    wrong.append(loader)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and table() == before


def test_loaders_that_a_program_registers_are_kept(tmp_path):
    before = table()

    def mine(filename, map_location):
        return {"mine": filename}

    try:
        CheckpointLoader.register_scheme("mine://", mine)
        with safe_loading():
            assert read("mine://a")[0] == {"mine": "mine://a"}
            CheckpointLoader.register_scheme("late://", mine)
        schemes = set(table()[0])
        assert schemes == {*before[0], "mine://", "late://"} and read("late://b")[0]
    finally:
        CheckpointLoader._schemes.pop("mine://")
        CheckpointLoader._schemes.pop("late://")


def test_an_error_in_a_loader_of_the_user_keeps_its_traceback():
    def broken(filename, map_location):
        raise KeyError("mine")

    try:
        CheckpointLoader.register_scheme("mine://", broken)
        with pytest.raises(KeyError, match="mine"):
            read("mine://a")
    finally:
        CheckpointLoader._schemes.pop("mine://")


def test_load_model_leaves_the_loaders_of_the_program_as_they_were(tmp_path):
    pytest.importorskip("mmseg")
    before = table()
    model = load_model(tiny_config(), None)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "a.pth")
    load_model(tiny_config(), tmp_path / "a.pth")
    assert table() == before


def test_a_safetensors_file_in_a_store_is_read(monkeypatch):
    from safetensors.torch import save

    data = save({"w": torch.ones(2)})
    monkeypatch.setattr(checkpoint, "get_file_backend", lambda *_, **__: Store(data))
    assert read("s3://bucket/a.safetensors")[0]["state_dict"]["w"].tolist() == [1, 1]
    buffer = io.BytesIO(b"no checkpoint")
    monkeypatch.setattr(checkpoint, "get_file_backend", lambda *_, **__: Store(buffer.getvalue()))
    with pytest.raises(InputError, match="s3://bucket/a.pth cannot be read"):
        read("s3://bucket/a.pth")


def test_the_content_is_that_of_the_file(tmp_path):
    torch.save({"a": torch.ones(2), "meta": {"x": 1}}, tmp_path / "a.pth")
    content, path = read(tmp_path / "a.pth")
    assert content.keys() == read_checkpoint(tmp_path / "a.pth").keys() and path.name == "a.pth"
