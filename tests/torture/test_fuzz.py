"""Broken files are read or refused by one sentence: see tests/torture/fuzz.py."""

import io
import json
import sys
from pathlib import Path

import pytest
import torch
from mmengine.registry import DefaultScope

from tests.commands import run
from tests.conftest import ROOT, needs_operators
from tests.torture import fuzz

COUNTS = {
    "pth": 4000, "safetensors": 2000, "contents": 2000, "resumed": 400, "images": 3000,
    "labels": 2000, "coco": 2000,
}  # fmt: skip
NAMES = {
    "pth": ".pth checkpoints",
    "safetensors": ".safetensors",
    "contents": ".pth files of strange contents",
    "resumed": ".pth files of strange contents to resume from",
    "labels": "label maps",
    "coco": "COCO JSON files",
}
SLOW = 5  # seconds for a file of a few kilobytes; more would be a hang
GROWN = 512  # MiB: 3 KB may unpack to 49 million pixels


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="/proc is Linux's")
@pytest.mark.parametrize(
    "kind", [k if k != "coco" else pytest.param(k, marks=needs_operators) for k in COUNTS]
)
def test_broken_files_are_read_or_refused_in_bounded_time_and_memory(
    kind, torture, figure, tmp_path, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    count = COUNTS[kind] if torture else COUNTS[kind] // 20
    files = tmp_path / "files"
    files.mkdir()
    result = run([sys.executable, "-m", "tests.torture.fuzz", kind, str(count), "files"], tmp_path)
    assert result.returncode == 0, f"exit code {result.returncode}: {result.stderr[-3000:]}"
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["files"] == count and 0 < found["refused"] < count
    assert found["slowest"] < SLOW and found["grown"] < GROWN, found
    name = NAMES.get(kind, kind)
    costs = f"{found['slowest']:.2f} s; +{found['grown']:.0f} MiB"
    figure(f"broken {name}; refused; slowest; memory", f"{count}; {found['refused']}; {costs}")


def valid_files(subject):
    """Yield the valid files of a kind from which the broken files are made."""
    if hasattr(subject, "content"):
        for zipped in (True, False):
            buffer = io.BytesIO()
            torch.save(subject.content, buffer, _use_new_zipfile_serialization=zipped)
            yield buffer.getvalue()
    else:
        yield from subject.seeds if hasattr(subject, "seeds") else [subject.seed.encode()]


@pytest.mark.parametrize(
    "kind", [k if k != "coco" else pytest.param(k, marks=needs_operators) for k in COUNTS]
)
def test_valid_files_are_read_each_time(kind, tmp_path):
    with DefaultScope.overwrite_default_scope("mmengine"):  # restored at the end
        subject = fuzz.KINDS[kind](tmp_path)
        for data in [*valid_files(subject)] * 3:
            for reader in getattr(subject, "readers", [None]):
                subject.reader = reader
                subject.path.write_bytes(data)
                subject.read()
