"""Hostile and unusual checkpoint files, made by hand."""

import argparse
import io
import os
import time
import zipfile
from collections import Counter, OrderedDict

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from safetensors.torch import save_file

from gfnet_dense.checkpoint.safe_reader import TRUST, read_checkpoint
from gfnet_dense.utils.errors import InputError
from tests.checkpoint.test_loading import Evil


def read(content, tmp_path):
    torch.save(content, tmp_path / "a.pth")
    return read_checkpoint(tmp_path / "a.pth")


def refusal(content, tmp_path):
    with pytest.raises(InputError) as error:
        read(content, tmp_path)
    text = str(error.value)
    assert "a.pth" in text and "\n" not in text
    return text


class Reduced:
    """Is pickled as the given function, its arguments and, optionally, a state."""

    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


POINTER = b"\x41" * 8
OBJECTS = Reduced(np.dtype, ("f8",), (3, "<", (np.dtype("O"), (1,)), None, None, -1, -1, 0))
FIELDS = Reduced(
    np.dtype, ("V8",), (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 63)
)  # fmt: skip
FORGED = {
    "array of pointers": Reduced(np.ndarray, ((1,), np.dtype("O"), POINTER)),
    "pointers by the state of a dtype": Reduced(np.ndarray, ((1,), OBJECTS, POINTER)),
    "taken apart while it is read": Reduced(
        set, (Reduced(np.ndarray, ((1,), OBJECTS, POINTER)),)
    ),
    "pointers in fields": Reduced(np.ndarray, ((1,), FIELDS, POINTER)),
    "objects": np.array([{}], dtype=object),
    "records": np.zeros(1, np.dtype([("a", "f8")])),
}  # fmt: skip


@pytest.mark.parametrize("kind", FORGED)
def test_forged_arrays_are_refused(kind, tmp_path):
    """NumPy would take the bytes of these arrays for pointers and follow them."""
    assert "was refused" in refusal({"x": FORGED[kind]}, tmp_path)
    assert "was refused" in refusal({"x": argparse.Namespace(y=[FORGED[kind]])}, tmp_path)


def test_the_state_of_a_dtype_changes_neither_its_kind_nor_its_size(tmp_path):
    numbers = np.array([1.5, -2.5])
    reconstruct, arguments, _ = numbers.__reduce__()
    lying = Reduced(np.dtype, ("f8",), (3, "|", None, None, None, 4, 1, 63))
    forged = Reduced(reconstruct, arguments, (1, (2,), lying, False, numbers.tobytes()))
    found = read({"x": [1, forged]}, tmp_path)["x"][1]
    assert found.dtype == np.float64 and np.array_equal(found, numbers)


TENSORS = {
    "sparse": torch.eye(3).to_sparse(),
    "compressed": torch.eye(3).to_sparse_csr(),
    "without numbers": torch.zeros(3, device="meta"),
    "of 8 bits": torch.zeros(3).to(torch.float8_e4m3fn),
    "quantized": torch.quantize_per_tensor(torch.zeros(3), 1.0, 0, torch.qint8),
    "a thousand million of one": torch.zeros(1).expand(10**9),
}


@pytest.mark.parametrize("kind", TENSORS)
def test_tensors_that_are_not_dense_arrays_of_numbers_are_refused(kind, tmp_path):
    start = time.perf_counter()
    text = refusal({"state_dict": {"w": TENSORS[kind]}}, tmp_path)
    assert "w" in text and time.perf_counter() - start < 60


def test_compressed_archives_are_refused(tmp_path):
    torch.save({"w": torch.zeros(10**6)}, tmp_path / "whole.pth")
    with zipfile.ZipFile(tmp_path / "whole.pth") as source:
        with zipfile.ZipFile(tmp_path / "a.pth", "w", zipfile.ZIP_DEFLATED) as target:
            for name in source.namelist():
                target.writestr(name, source.read(name))
    with pytest.raises(InputError, match="compressed, to 4 MiB"):
        read_checkpoint(tmp_path / "a.pth")


def test_cyclic_and_deep_containers_are_refused_and_shared_ones_are_read(tmp_path):
    ring, deep, wide = [], [], [0]
    ring.append(ring)
    for _ in range(200):
        deep = [deep]
    for _ in range(40):
        wide = [wide] * 10  # 10^40 lists for a reader that visits shared ones again
    assert "hold themselves" in refusal({"x": ring}, tmp_path)
    assert "too many in each other" in refusal({"x": deep}, tmp_path)
    assert len(read({"x": wide}, tmp_path)["x"]) == 10


@pytest.mark.parametrize(
    "content, message",
    [
        ({"meta": None}, "NoneType as meta"),
        ({"meta": []}, "list as meta"),
        ({"state_dict": [torch.zeros(1)]}, "holds a list, expected tensors by name"),
        ({"state_dict": None}, "holds a NoneType, expected tensors by name"),
        ({"state_dict": {1: torch.zeros(1)}}, "expected tensors by name"),
        ({"state_dict": {"w": "x"}}, "holds a str as w, not a tensor"),
        ({3: torch.zeros(1)}, "expected a dict of tensors by name"),
        ({"state_dict": {"a.complex_weight": torch.tensor([float("inf")])}}, "not finite"),
        ({"pos_embed": torch.tensor([float("inf")])}, "not finite"),
    ],
)
def test_files_of_a_wrong_structure_are_refused(content, message, tmp_path):
    assert message in refusal(content, tmp_path)


def test_methods_of_a_dict_that_a_file_hides_by_attributes_still_work(tmp_path):
    hiding = OrderedDict(meta={}, state_dict={})
    hiding.get = "not a method"
    content = read(hiding, tmp_path)
    assert content.get("meta") == {}


@pytest.mark.parametrize("value", ["", "0", "false"])
def test_empty_zero_and_false_do_not_enable_trust(value, tmp_path, monkeypatch):
    monkeypatch.setenv(TRUST, value)
    assert "was refused" in refusal({"x": Evil(tmp_path / "trace")}, tmp_path)
    assert not (tmp_path / "trace").exists()


def test_weights_that_are_not_finite_are_refused_in_trusted_files_too(tmp_path, monkeypatch):
    monkeypatch.setenv(TRUST, "1")
    assert "not finite, first in a.weight" in refusal({"a.weight": torch.ones(2) / 0}, tmp_path)


def test_devices_and_pipes_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.pth")
    for path in ("/dev/zero", tmp_path / "pipe.pth"):
        with pytest.raises(InputError, match="is not a file"):
            read_checkpoint(path)


def test_values_that_trainings_save_are_read_back(tmp_path):
    """Numbers, arrays of any order, histories, counters, versions of modules."""
    history = HistoryBuffer([1.0, 2.0], [1, 3])
    state = torch.nn.BatchNorm1d(3).state_dict()
    shared = torch.arange(6.0)
    content = {
        "numbers": (1, 2.5, None, True, "a", b"b", np.float32(0.5), np.int64(7)),
        "arrays": [
            np.arange(6).reshape(2, 3), np.asfortranarray(np.eye(3)[:2]),
            np.arange(3, dtype=">f4"), np.zeros((0, 2)), np.array([True, False]), np.float64(3),
        ],
        "message_hub": {"log_scalars": OrderedDict({"loss": history})},
        "milestones": Counter([8, 11, 11]),
        "views": [shared[2:4], shared.reshape(2, 3).t()],
        "size": torch.Size([2, 3]),
        "args": argparse.Namespace(lr=1e-3, betas=[0.9, 0.95]),
        "state_dict": state,
    }  # fmt: skip
    found = read(content, tmp_path)
    assert found["numbers"] == content["numbers"] and found["size"] == (2, 3)
    for a, b in zip(found["arrays"], content["arrays"], strict=True):
        assert np.array_equal(a, b) and np.asarray(a).shape == np.asarray(b).shape
    assert found["milestones"] == content["milestones"] and found["args"] == content["args"]
    for a, b in zip(found["views"], content["views"], strict=True):
        assert torch.equal(a, b)
    loss = found["message_hub"]["log_scalars"]["loss"]
    assert loss.statistics("mean") == history.statistics("mean")
    assert np.array_equal(loss.data[1], [1, 3])
    assert found["state_dict"]._metadata == state._metadata
    torch.nn.BatchNorm1d(3).load_state_dict(found["state_dict"])


def test_the_file_format_before_zip_archives_is_read(tmp_path):
    buffer = io.BytesIO()
    content = {"w": torch.arange(3.0), "x": np.arange(4)}
    torch.save(content, buffer, _use_new_zipfile_serialization=False)
    (tmp_path / "a.pth").write_bytes(buffer.getvalue())
    found = read_checkpoint(tmp_path / "a.pth")
    assert torch.equal(found["w"], content["w"]) and np.array_equal(found["x"], content["x"])


def test_the_content_of_a_file_decides_its_format_not_its_name(tmp_path):
    """PyTorch itself takes a name that ends in .safetensors for the format."""
    torch.save({"w": torch.ones(2)}, tmp_path / "a.safetensors")
    save_file({"w": torch.ones(2)}, tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.safetensors")["w"].tolist() == [1, 1]
    assert read_checkpoint(tmp_path / "a.pth")["state_dict"]["w"].tolist() == [1, 1]


@pytest.mark.parametrize("size", [1, 10, 100, 1000, 3000, -1, -100, -1000])
def test_truncated_files_are_called_so(size, tmp_path):
    torch.save({"state_dict": {"w": torch.ones(1000)}}, tmp_path / "a.pth")
    content = (tmp_path / "a.pth").read_bytes()[:size]
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(
        InputError, match="is not a PyTorch checkpoint, or (is truncated|a damaged)"
    ):
        read_checkpoint(tmp_path / "a.pth")
