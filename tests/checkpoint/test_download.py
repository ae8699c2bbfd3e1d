"""Who downloads a checkpoint in a run of several processes, and who waits."""

import pytest

from gfnet_dense.checkpoint import download
from gfnet_dense.checkpoint.download import fetch
from gfnet_dense.utils.errors import InputError

ADDRESS = "https://example.com/file.pth"


@pytest.fixture
def events(tmp_path, monkeypatch):
    """Notes downloads and barriers instead of making them."""
    happened = []
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def downloading(url, path):
        happened.append("download")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"weights")

    monkeypatch.setattr(download, "_download", downloading)
    monkeypatch.setattr(download, "barrier", lambda: happened.append("barrier"))
    return happened


def test_the_first_process_of_a_machine_downloads_and_then_meets_the_others(events, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert fetch(ADDRESS).read_bytes() == b"weights"
    assert events == ["download", "barrier"]
    fetch(ADDRESS)
    assert events == ["download", "barrier", "barrier"]


def test_the_other_processes_wait_for_the_file_and_do_not_download(events, monkeypatch):
    """Here the first process has written the file when all meet."""
    monkeypatch.setenv("LOCAL_RANK", "0")
    path = fetch(ADDRESS)
    path.unlink()
    events.clear()
    monkeypatch.setenv("LOCAL_RANK", "1")

    def meeting():
        events.append("barrier")
        path.write_bytes(b"of the first process")

    monkeypatch.setattr(download, "barrier", meeting)
    assert fetch(ADDRESS).read_bytes() == b"of the first process"
    assert events == ["barrier"]


def test_a_download_that_fails_lets_nobody_wait_for_ever(events, monkeypatch):
    def failing(url, path):
        raise InputError("no network")

    monkeypatch.setattr(download, "_download", failing)
    for rank, message in (("0", "no network"), ("1", "is missing: its download failed")):
        monkeypatch.setenv("LOCAL_RANK", rank)
        with pytest.raises(InputError, match=message):
            fetch(ADDRESS)
    assert events == ["barrier", "barrier"]
