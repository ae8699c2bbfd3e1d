"""Downloads: who makes them in a run of several processes, and how the files are checked."""

import hashlib
import http.client
import http.server
import io
import re
import threading
import urllib.request
from pathlib import Path

import pytest
import torch
from mmengine.runner import CheckpointLoader

from gfnet_dense.checkpoint import download
from gfnet_dense.checkpoint.download import fetch
from gfnet_dense.checkpoint.loading import load_pretrained
from gfnet_dense.checkpoint.official import OFFICIAL_FILES, SCHEMES
from gfnet_dense.checkpoint.safe_loading import read, safe_loading
from gfnet_dense.models import GFNet
from gfnet_dense.utils.errors import InputError
from tests.checkpoint.weights import Messages
from tests.conftest import TINY
from tests.published import official_state_dict

ADDRESS = "https://example.com/file.pth"


def content(value=1.0):
    """Return the bytes of a small checkpoint."""
    buffer = io.BytesIO()
    torch.save({"state_dict": {"w": torch.full((1000,), value)}}, buffer)
    return buffer.getvalue()


@pytest.fixture
def events(hub, monkeypatch):
    """Note downloads and barriers of a distributed run instead of making them."""
    happened = []

    def downloading(url, path):
        happened.append("download")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content())

    monkeypatch.setattr(download, "_download", downloading)
    monkeypatch.setattr(download, "barrier", lambda: happened.append("barrier"))
    monkeypatch.setattr(download, "is_distributed", lambda: True)
    return happened


def test_the_first_process_of_a_machine_downloads_and_then_meets_the_others(events, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert fetch(ADDRESS).read_bytes() == content()
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
        path.write_bytes(content(2.0))

    monkeypatch.setattr(download, "barrier", meeting)
    assert fetch(ADDRESS).read_bytes() == content(2.0)
    assert events == ["barrier"]


def test_a_process_that_has_not_joined_the_others_downloads_itself(events, monkeypatch):
    """torchrun has started it, but the program has not called init_process_group yet."""
    monkeypatch.setattr(download, "is_distributed", lambda: False)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert fetch(ADDRESS).read_bytes() == content()
    assert events[0] == "download"


def test_a_download_that_fails_lets_nobody_wait_for_ever(events, monkeypatch):
    def failing(url, path):
        raise InputError("no network")

    monkeypatch.setattr(download, "_download", failing)
    for rank, message in (("0", "no network"), ("1", "is missing: its download failed")):
        monkeypatch.setenv("LOCAL_RANK", rank)
        with pytest.raises(InputError, match=message):
            fetch(ADDRESS)
    assert events == ["barrier", "barrier"]


@pytest.fixture
def www(tmp_path):
    """Return a folder whose files are served, with redirections from /to/NAME and torn files."""
    (tmp_path / "www").mkdir()
    return tmp_path / "www"


@pytest.fixture
def server(www):
    """Serve the folder ``www`` over HTTP; yield the address."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(www))

        def do_GET(self):
            if self.path.startswith("/to/"):
                self.send_response(302)
                self.send_header("Location", self.path.removeprefix("/to"))
                self.end_headers()
            elif self.path.startswith("/torn/"):  # the connection ends before the file
                data = (www / Path(self.path).name).read_bytes()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data[:-1000])
            else:
                super().do_GET()

        def log_message(self, *args):
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_an_official_file_is_downloaded_once(www, server, hub, monkeypatch):
    state_dict = official_state_dict(TINY["dims"], TINY["depths"], 64)
    torch.save({"model": state_dict}, www / "weights")
    files = {"gfnet://h-tiny": ("gfnet-h-ti.pth", f"{server}/weights?dl=1")}
    monkeypatch.setattr(download, "OFFICIAL_FILES", files)
    load_pretrained(GFNet(TINY, img_size=64), "gfnet://h-tiny")
    assert names(hub) == ["gfnet-h-ti.pth", "gfnet-h-ti.pth.sha256"]
    (www / "weights").unlink()
    assert fetch("gfnet://h-tiny") == hub / "gfnet-h-ti.pth"


@pytest.mark.parametrize("broken", ["missing", "a page", "truncated", "torn", "no host"])
def test_a_failed_download_leaves_no_files(broken, www, server, hub):
    if broken != "missing":
        data = b"<html>" if broken == "a page" else content()
        (www / "x.pth").write_bytes(data[:3000] if broken == "truncated" else data)
    url = f"{server}/torn/x.pth" if broken == "torn" else f"{server}/x.pth"
    url = "https://nowhere.invalid/x.pth" if broken == "no host" else url
    with pytest.raises(InputError, match="could not download .*/x.pth") as error:
        fetch(url)
    assert re.search(f"save it as {hub}/[0-9a-f]{{8}}-x.pth", str(error.value))
    assert "\n" not in str(error.value) and not list(hub.iterdir())


def test_redirections_are_followed(www, server, hub):
    (www / "x.pth").write_bytes(content())
    assert fetch(f"{server}/to/to/x.pth?a=b").read_bytes() == content()


def test_an_encrypted_address_never_becomes_one_without_encryption():
    handler = download._EncryptedStaysEncrypted()
    arguments = (io.BytesIO(), 302, "Found", http.client.HTTPMessage())
    request = urllib.request.Request("https://a.org/x.pth")
    with pytest.raises(OSError, match="redirected to http://b.org/x.pth, which is not encrypted"):
        handler.redirect_request(request, *arguments, "http://b.org/x.pth")
    followed = handler.redirect_request(request, *arguments, "https://b.org/x.pth")
    assert followed.full_url == "https://b.org/x.pth"


def test_an_official_file_is_not_fetched_without_encryption(hub):
    for address, (_, url) in OFFICIAL_FILES.items():
        assert url.startswith("https://")
        with pytest.raises(InputError, match=f"begins with https: give it as {address}$"):
            fetch(url.replace("https", "http"))


def test_official_files_have_names_and_urls_of_their_own():
    names, urls = zip(*OFFICIAL_FILES.values(), strict=True)
    assert len(set(names)) == len(set(urls)) == len(OFFICIAL_FILES) == 7 + 3 * 4
    assert all(Path(name).name == name and name.endswith(".pth") for name in names)
    assert all(
        re.fullmatch(r"https://cloud\.tsinghua\.edu\.cn/f/[0-9a-f]{20}/\?dl=1", u) for u in urls
    )
    assert all(address.startswith(SCHEMES) for address in OFFICIAL_FILES)


def test_an_address_without_encryption_is_warned_of(www, server, hub):
    (www / "x.pth").write_bytes(content())
    with Messages() as messages:
        fetch(f"{server}/x.pth")
    assert any("x.pth is not encrypted" in message for message in messages)


def test_the_digest_is_pinned_at_the_first_download_and_told(www, server, hub):
    (www / "x.pth").write_bytes(content())
    with Messages() as messages:
        path = fetch(f"{server}/x.pth")
    digest = hashlib.sha256(content()).hexdigest()
    assert (hub / f"{path.name}.sha256").read_text() == f"{digest}  {path.name}\n"
    assert any(f"is taken to be {digest} from now on" in message for message in messages)
    with Messages() as messages:
        fetch(f"{server}/x.pth")
    assert not messages


@pytest.mark.parametrize("change", ["another", "truncated", "longer", "empty", "pin", "no pin"])
def test_a_file_that_has_changed_since_its_download_is_refused(change, www, server, hub):
    (www / "x.pth").write_bytes(content())
    path = fetch(f"{server}/x.pth")
    pin = path.with_name(f"{path.name}.sha256")
    data = content()
    data = {"another": content(2.0), "truncated": data[:-9], "longer": data + b"0", "empty": b""}
    if change == "no pin":
        pin.write_text("")
    elif change == "pin":
        pin.write_text("0" * 64)
    else:
        path.write_bytes(data[change])
    with pytest.raises(InputError, match="has changed or is damaged: its SHA-256 is") as error:
        fetch(f"{server}/x.pth")
    assert f"delete the file and {pin.name} to fetch it anew" in str(error.value)
    path.unlink()
    pin.unlink()
    assert fetch(f"{server}/x.pth").read_bytes() == content()


def test_a_file_saved_by_hand_is_read_and_then_pinned(hub):
    with pytest.raises(InputError, match="save it as") as error:
        fetch("https://nowhere.invalid/x.pth")
    path = Path(str(error.value).rpartition("save it as ")[2])
    path.write_bytes(content()[:-1000])
    with pytest.raises(InputError, match="is truncated"):
        fetch("https://nowhere.invalid/x.pth")
    assert names(hub) == [path.name]
    path.write_bytes(content())
    assert fetch("https://nowhere.invalid/x.pth") == path
    assert names(hub) == [path.name, f"{path.name}.sha256"]


def test_a_folder_in_which_nobody_may_write_is_enough_for_a_file_that_is_there(hub, monkeypatch):
    hub.mkdir(parents=True)
    digest = hashlib.sha256(content()).hexdigest()[:8]
    (hub / f"x-{digest}.pth").write_bytes(content())
    monkeypatch.setattr(
        download, "atomic_write", lambda _: (_ for _ in ()).throw(PermissionError(13, "denied"))
    )
    with Messages() as messages:
        assert fetch(f"https://nowhere.invalid/x-{digest}.pth").is_file()
    assert any("is not checked" in message for message in messages)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_digits_of_the_digest_in_a_name_are_checked(suffix, www, server, hub):
    digest = hashlib.sha256(content()).hexdigest()[:8]
    right = f"iter_20200101-{digest}{suffix}"
    (www / right).write_bytes(content())
    assert fetch(f"{server}/{right}") == hub / right  # the name that torch.hub gives it
    wrong = f"iter_20200101-{'0' if digest[0] != '0' else '1'}{digest[1:]}{suffix}"
    (www / wrong).write_bytes(content())
    with pytest.raises(InputError, match="SHA-256 of what came is not the one in its name"):
        fetch(f"{server}/{wrong}")
    (hub / wrong).write_bytes(content())
    with pytest.raises(
        InputError, match=f"its name says {wrong[-len(digest) - len(suffix) :][:8]}"
    ):
        fetch(f"{server}/{wrong}")


@pytest.mark.parametrize("digits", ["20200101", "31122024", "00160000", "83331528"])
def test_a_date_or_a_count_in_a_name_is_no_digest(digits, www, server, hub):
    (www / f"iter-{digits}.pth").write_bytes(content())
    path = fetch(f"{server}/iter-{digits}.pth")
    assert re.fullmatch(f"[0-9a-f]{{8}}-iter-{digits}.pth", path.name)


@pytest.mark.parametrize(
    "names, told",
    [
        ([], "is a folder: give a file$"),
        (["iter_1.pth", "best_mIoU_iter_9.pth"], "give a file, such as .*/best_mIoU_iter_9.pth$"),
        (["model.safetensors", "README.md"], "give a file, such as .*/model.safetensors$"),
    ],
)
def test_a_folder_is_told_the_file_in_it(names, told, tmp_path):
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=told):
        fetch(tmp_path)


@pytest.mark.parametrize(
    "address, known",
    [
        ("gfnet://h-huge", "gfnet://h-tiny, gfnet://h-small, .*, gfnet://base$"),
        ("hornet://tiny", "hornet://tiny-gf, .*, hornet://cascade-mask-rcnn-large-gf-coco$"),
        ("hornet://h-tiny", "hornet://tiny-gf, "),
    ],
)
def test_an_unknown_official_name_is_refused_with_the_names_of_its_scheme(address, known):
    with pytest.raises(InputError, match=f"{address} is not .*, these are: {known}"):
        fetch(address)
    with pytest.raises(InputError, match=f"{address} is not .*, these are: {known}"):
        fetch(Path(address))  # which makes one slash of two


@pytest.mark.parametrize("address", ["hornet://tiny-gf", "hornet://upernet-tiny-gf-ade20k"])
def test_every_reader_of_checkpoints_knows_hornet(address, www, server, hub, monkeypatch):
    """Our reader and, within ``safe_loading``, mmengine's, which runners use for load_from."""
    torch.save({"state_dict": {"w": torch.ones(3)}}, www / "weights")
    monkeypatch.setitem(OFFICIAL_FILES, address, ("x.pth", f"{server}/weights?dl=1"))
    content, path = read(address)
    assert path == hub / "x.pth" and content["state_dict"]["w"].tolist() == [1, 1, 1]
    with safe_loading():
        content = CheckpointLoader.load_checkpoint(address, "cpu")
    assert content["state_dict"]["w"].tolist() == [1, 1, 1]
