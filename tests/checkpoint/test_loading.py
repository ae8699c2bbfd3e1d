import argparse
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from gfnet_dense.checkpoint.download import fetch
from gfnet_dense.checkpoint.loading import load_pretrained
from gfnet_dense.checkpoint.safe_reader import TRUST, read_checkpoint
from gfnet_dense.models import GFNet
from gfnet_dense.utils.errors import InputError
from tests.conftest import TINY
from tests.published import official_state_dict, stage_maps


@pytest.fixture
def official(tmp_path):
    """Return a file as the official training script writes it, and its weights."""
    state = official_state_dict(TINY["dims"], TINY["depths"], img_size=64)
    path = tmp_path / "gfnet-h-ti.pth"
    args = argparse.Namespace(arch="gfnet-h-ti", lr=1e-3)
    torch.save({"model": state, "epoch": 299, "args": args}, path)
    return path, state


def tiny(**kwargs):
    return GFNet(arch=TINY, img_size=kwargs.pop("img_size", 64), **kwargs)


def load(path, **kwargs):
    model = tiny(init_cfg=dict(type="Pretrained", checkpoint=str(path)), **kwargs)
    model.init_weights()
    return model.eval()


def report_of(path, **kwargs):
    return load_pretrained(tiny(**kwargs), str(path))


def test_official_file_gives_the_published_features_and_a_report(official):
    path, state = official
    report = report_of(path)
    total = len(tiny().state_dict())
    assert f"gfnet-h-ti.pth: loaded {total - 6} of {total} tensors; resized 0; " in report
    assert "new: norm0, norm1, norm2; not used: nothing" in report
    x = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(load(path)(x)[3], stage_maps(state, x)[3], rtol=0, atol=1e-5)


def test_h_tiny_at_224_equals_the_published_model(tmp_path):
    """The real arch, loaded from a file in the official format."""
    state = official_state_dict((64, 128, 256, 512), (3, 3, 10, 3))
    path = tmp_path / "gfnet-h-ti.pth"
    torch.save({"model": state}, path)
    model = GFNet("h-tiny", init_cfg=dict(type="Pretrained", checkpoint=str(path))).eval()
    model.init_weights()
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(model(x)[3], stage_maps(state, x)[3], rtol=0, atol=1e-5)


def test_report_tells_the_number_of_resized_tensors_and_the_grid(official):
    report = report_of(official[0], img_size=(96, 80))
    filters = sum(TINY["depths"])
    assert f"resized {filters + 1} (filters and position embedding, to the grid 24x20)" in report


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"model": s},
        lambda s: {"state_dict": s, "meta": {}},
        lambda s: {"model": {f"module.{k}": v for k, v in s.items()}},
        lambda s: {"state_dict": {f"backbone.{k}": v for k, v in s.items()}},
        lambda s: {
            "state_dict": {f"module.backbone.{k}": v for k, v in s.items()}
            | {"module.decode_head.conv_seg.weight": torch.zeros(1)}
        },
    ],
    ids=["bare", "model", "state_dict", "module", "backbone", "segmentor"],
)
def test_wrapping_dicts_and_prefixes_are_removed(official, tmp_path, wrap):
    path, state = official
    wrapped = tmp_path / "wrapped.pth"
    torch.save(wrap(state), wrapped)
    for a, b in zip(load(path).parameters(), load(wrapped).parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_own_checkpoint_gives_the_same_maps_after_saving_and_loading(official, tmp_path):
    model = load(official[0], img_size=96)
    path = tmp_path / "ours.pth"
    torch.save({"state_dict": {f"backbone.{k}": v for k, v in model.state_dict().items()}}, path)
    x = torch.randn(1, 3, 96, 96)
    for a, b in zip(load(path, img_size=96)(x), model(x), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_report_for_a_model_without_the_last_stages_names_unused_weights(official):
    report = report_of(official[0], out_indices=(0, 1))
    assert "new: norm0, norm1; not used: blocks.2, blocks.3, norm3, patch_embed.2" in report


class Evil:
    """Makes the folder ``trace`` when it is unpickled by a reader that runs code."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


def write_bad_files(folder, state):
    """Write files that must be refused; return {path: pattern of its error message}."""
    bad = {}

    def file(name, message):
        bad[folder / name] = message
        return folder / name

    other = official_state_dict((8, 16, 24, 40), TINY["depths"], img_size=64)
    torch.save({"model": other}, file("arch.pth", "expected dims 8/16/24/32 and depths 1/2/1/1, "))
    deeper = official_state_dict(TINY["dims"], (1, 2, 3, 1), img_size=64)
    torch.save({"model": deeper}, file("depth.pth", "found dims 8/16/24/32 and depths 1/2/3/1"))
    resnet = {"layer1.0.conv1.weight": torch.zeros(4, 4, 1, 1)}
    torch.save(resnet, file("resnet.pth", "no GFNet weights.*found 'layer1.0.conv1.weight'"))
    torch.save({"epoch": 3}, file("empty_dict.pth", "holds no weights.*its keys are 'epoch'"))
    torch.save([torch.zeros(3)], file("list.pth", "holds a list, expected a dict"))
    partial_state = {k: v for k, v in state.items() if "fc1" not in k}
    torch.save({"model": partial_state}, file("partial.pth", "incomplete: 10 of .* are missing"))
    torch.save({"model": state}, folder / "whole.pth")
    content = (folder / "whole.pth").read_bytes()
    file("truncated.pth", "is not a PyTorch checkpoint, or is truncated").write_bytes(
        content[: len(content) // 2]
    )
    file("empty.pth", "is not a PyTorch checkpoint").write_bytes(b"")
    file("page.pth", "is not a PyTorch checkpoint").write_bytes(b"<html>Not found</html>")
    evil = {"model": state, "args": Evil(folder / "trace")}
    torch.save(evil, file("evil.pth", "was refused: it holds the object .*mkdir"))
    torch.save({0: torch.zeros(3)}, file("numbers.pth", "expected a dict of tensors by name"))
    odd = state | {"norm.weight": torch.zeros(3)}
    torch.save(
        {"model": odd},
        file("odd.pth", r"backbone: 1 tensors .* shape, norm3.weight \(file \(3\), model \(32\)"),
    )
    forged = np.zeros(1, np.dtype([("a", "f8")]))
    torch.save(
        {"model": state, "x": forged},
        file("forged.pth", "was refused: it holds the object numpy.dtype"),
    )
    weight = "blocks.0.0.mlp.fc1.weight"
    for name, tensor, message in (
        ("nan.pth", state[weight] / 0, f"are not finite, first in model.{weight}"),
        ("infinite.pth", state[weight] + float("inf"), f"not finite, first in model.{weight}"),
        ("int8.pth", state[weight].to(torch.int8), f"{weight} as torch.int8, the model has"),
        ("complex.pth", state[weight].to(torch.complex64), "as torch.complex64, the model has"),
    ):
        torch.save({"model": state | {weight: tensor}}, file(name, message))
    bad[folder / "missing.pth"] = "does not exist"
    bad[folder] = "is a folder: give a file"
    return bad


def test_bad_files_are_refused_with_one_sentence(official, tmp_path):
    for path, message in write_bad_files(tmp_path, official[1]).items():
        with pytest.raises(InputError, match=message) as error:
            load(path)
        assert path.name in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_any_precision_are_loaded_in_float32(dtype, official, tmp_path):
    path = tmp_path / "half.pth"
    torch.save({k: v.to(dtype) for k, v in official[1].items()}, path)
    weight = load(path).blocks[0][0].mlp.fc1.weight
    expected = official[1]["blocks.0.0.mlp.fc1.weight"].to(dtype).float()
    assert weight.dtype == torch.float32 and torch.equal(weight, expected)


def test_infinity_in_a_buffer_is_accepted(tmp_path):
    """Attention masks hold infinity."""
    torch.save({"state_dict": {"mask": torch.tensor([0.0, -float("inf")])}}, tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth")


def test_trusted_files_may_run_code(official, tmp_path, monkeypatch):
    monkeypatch.setenv(TRUST, "1")  # is undone after the test
    evil = {"model": official[1], "args": Evil(tmp_path / "trace")}
    torch.save(evil, tmp_path / "evil.pth")
    load(tmp_path / "evil.pth")
    assert (tmp_path / "trace").exists()


@pytest.mark.parametrize("others", [[], [dict(type="Constant", layer="LayerNorm", val=0.25)]])
@pytest.mark.parametrize("kind", ["Pretrained", "gfnet_dense.Pretrained"])
def test_a_list_as_init_cfg_loads_its_checkpoint_behind_its_other_entries(official, others, kind):
    path, state = official
    cfg = [dict(type=kind, checkpoint=str(path)), *others]
    backbone = GFNet(TINY, img_size=64, init_cfg=cfg)
    backbone.init_weights()
    assert torch.equal(backbone.blocks[0][0].norm1.weight, state["blocks.0.0.norm1.weight"])
    assert torch.equal(backbone.norm3.weight, state["norm.weight"])
    # The output norms but the last one are not in the file.
    assert backbone.norm0.weight.unique().tolist() == ([0.25] if others else [1.0])


def test_a_list_as_init_cfg_runs_nothing_that_a_file_holds(tmp_path):
    torch.save({"model": {}, "evil": Evil(tmp_path / "trace")}, tmp_path / "evil.pth")
    cfg = [dict(type="Pretrained", checkpoint=str(tmp_path / "evil.pth"))]
    with pytest.raises(InputError, match="was refused"):
        GFNet(TINY, img_size=64, init_cfg=cfg).init_weights()
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("prefix", ["teacher.backbone", "teacher.backbone."])
def test_prefix_chooses_the_part_of_the_model_that_is_loaded(official, prefix, tmp_path):
    _, state = official
    other = {f"backbone.{name}": torch.zeros_like(tensor) for name, tensor in state.items()}
    teacher = {f"teacher.backbone.{name}": tensor for name, tensor in state.items()}
    torch.save({"state_dict": other | teacher}, tmp_path / "both.pth")
    cfg = dict(type="Pretrained", checkpoint=str(tmp_path / "both.pth"), prefix=prefix)
    backbone = GFNet(TINY, img_size=64, init_cfg={**cfg, "map_location": "cpu"})
    backbone.init_weights()
    name = "blocks.0.0.norm1.weight"
    assert torch.equal(backbone.state_dict()[name], state[name])
    backbone = GFNet(TINY, img_size=64, init_cfg={**cfg, "prefix": "student."})
    with pytest.raises(InputError, match="holds no tensor whose name begins with student."):
        backbone.init_weights()


@pytest.mark.parametrize(
    "entries, message",
    [
        ([dict(checkpoint="a.pth"), dict(checkpoint="b.pth")], "one checkpoint, got 2"),
        ([dict(checkpoint="a.pth", strict=True)], "takes prefix and map_location as well, got str"),
    ],
)
def test_two_checkpoints_and_unknown_keys_are_refused(entries, message):
    cfg = [dict(entry, type="Pretrained") for entry in entries]
    with pytest.raises(InputError, match=message):
        GFNet(TINY, img_size=64, init_cfg=cfg).init_weights()


def test_a_path_object_may_name_a_file_or_an_official_checkpoint(official):
    path, _ = official
    assert fetch(Path(path)) == path
    with pytest.raises(InputError, match="gfnet://h-huge is not an official checkpoint"):
        fetch(Path("gfnet://h-huge"))


def test_the_epoch_of_an_official_file_is_read(official):
    assert read_checkpoint(official[0])["epoch"] == 299


def test_several_threads_can_read_files_at_once(official):
    """All threads share PyTorch's list of the classes that a file may hold."""
    with ThreadPoolExecutor(4) as threads:
        contents = list(threads.map(read_checkpoint, [official[0]] * 200))
    assert all(content["epoch"] == 299 for content in contents)
