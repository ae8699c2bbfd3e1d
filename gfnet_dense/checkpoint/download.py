"""Downloading checkpoints, official ones and others, each completely or not at all."""

import hashlib
import http.client
import logging
import os
import re
import shutil
import urllib.request
from pathlib import Path
from typing import IO

import torch
from mmengine.dist import barrier, is_distributed
from mmengine.logging import print_log
from rich.console import Console
from rich.progress import wrap_file

from gfnet_dense.utils.atomic_write import atomic_write
from gfnet_dense.utils.config import SHARED_WEIGHTS
from gfnet_dense.utils.errors import InputError

from .official import OFFICIAL_FILES, SCHEMES
from .safe_reader import read_checkpoint

REMOTE = (*SCHEMES, "http://", "https://")  # what addresses begin with
DOWNLOAD_TIMEOUT = 30  # seconds in which no byte arrives
BLOCK = 2**20  # bytes read at once
# End of the names of files that tell the first digits of their SHA-256, as in OpenMMLab's and
# PyTorch's model zoos. Eight decimal digits may as well be a date or a count: they are no promise.
DIGEST_IN_NAME = re.compile(r"-(?!\d{8}\.)([0-9a-f]{8})\.(pth|pt|safetensors)$")


def fetch(checkpoint: str | Path) -> Path:
    """Return the local file of a checkpoint, downloaded completely or not at all.

    In a distributed run, the first process of each machine downloads and the others wait. A
    downloaded file is checked each time it is fetched: against the digits in its name, such as
    ``resnet50-0676ba61.pth``, and against the SHA-256 in the file ``*.sha256`` beside it, which is
    written when the file is fetched for the first time.

    Args:
        checkpoint: A path, an http(s) URL, or the address of an official checkpoint, ``gfnet://ARCH``
            or ``hornet://NAME``, see :mod:`.official`. Downloads are kept in torch hub's folder
            (``TORCH_HOME``) and not repeated.

    Returns:
        Path of the file.

    Raises:
        InputError: If the file does not exist, cannot be downloaded, or has changed since its
            download.
    """
    checkpoint = str(checkpoint)
    for scheme in REMOTE:  # pathlib makes one slash of two
        checkpoint = re.sub(f"^{scheme[:-1]}(?!/)", scheme, checkpoint)
    if not checkpoint.startswith(REMOTE):
        path = Path(os.path.expanduser(checkpoint))  # keeps an unknown "~user"
        if path.is_dir():
            raise InputError(f"the checkpoint {checkpoint} is a folder: give a file{_in(path)}")
        if not path.is_file():
            raise InputError(f"the checkpoint {checkpoint} does not exist or is not a file")
        return path

    name, url = _name_and_address(checkpoint)
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    error = None
    # Processes that a launcher has started may not have joined yet: each fetches the file itself.
    if not is_distributed() or os.environ.get("LOCAL_RANK", "0") == "0":
        try:
            if not path.exists():
                _download(url, path)
            elif not _pin(path).exists():  # saved there by hand, or by another program
                read_checkpoint(path)
                _write_pin(path, url)
        except InputError as e:  # raised after the barrier, where the other ranks wait
            error = e
    barrier()
    if error is not None:
        raise error
    if not path.exists():
        raise InputError(f"{path} is missing: its download failed in another process")
    _check_digest(path)
    return path


def _name_and_address(checkpoint: str) -> tuple[str, str]:
    """Return the name under which a download is kept, and its URL.

    Raises:
        InputError: For an unknown official name, or an official address without encryption.
    """
    if checkpoint in OFFICIAL_FILES:
        return OFFICIAL_FILES[checkpoint]
    if checkpoint.startswith(SCHEMES):
        scheme = checkpoint.partition("//")[0]
        known = ", ".join(address for address in OFFICIAL_FILES if address.startswith(scheme))
        raise InputError(f"{checkpoint} is not an official checkpoint, these are: {known}")
    if checkpoint.startswith("http://"):
        encrypted = checkpoint.replace("http://", "https://", 1)
        for address, (_, official) in OFFICIAL_FILES.items():
            if encrypted == official:
                raise InputError(
                    f"{checkpoint} is an official file, whose address begins with https: give it "
                    f"as {address}"
                )
    name = checkpoint.partition("?")[0].rstrip("/").rpartition("/")[2]
    if not DIGEST_IN_NAME.search(name):  # other URLs may end in the same name
        name = f"{hashlib.sha256(checkpoint.encode()).hexdigest()[:8]}-{name}"
    return name, checkpoint


def _in(folder: Path) -> str:
    """Return the end of a sentence that names a checkpoint in a folder, '' if there is none."""
    kinds = (SHARED_WEIGHTS, "best_*.pth", "iter_*.pth", "epoch_*.pth", "*.pth")
    found = [path for kind in kinds for path in sorted(folder.glob(kind))]
    return f", such as {found[0]}" if found else ""


def _download(url: str, path: Path) -> None:
    """Download a checkpoint to ``path``, which is created only if the file reads as a checkpoint.

    Raises:
        InputError: If the download fails, or the file is no checkpoint.
    """
    print_log(f"downloading {url} to {path}", logger="current")
    if url.startswith("http://"):
        print_log(
            f"{url} is not encrypted: anybody on the way can exchange the file; give an address "
            "with https if there is one",
            logger="current",
            level=logging.WARNING,
        )
    try:
        with atomic_write(path) as part:
            _copy(url, part)
            in_name = DIGEST_IN_NAME.search(path.name)
            if in_name and not _sha256(part).startswith(in_name[1]):
                raise OSError("the SHA-256 of what came is not the one in its name")
            read_checkpoint(part)
    except (OSError, ValueError, http.client.HTTPException) as e:
        reason = "what came is no checkpoint" if isinstance(e, InputError) else e
        raise InputError(
            f"could not download {url} ({reason}); fetch it in another way and save it as {path}"
        ) from None
    _write_pin(path, url)


def _copy(url: str, path: Path) -> None:
    """Write the content of a URL to a file, and show the progress on stderr.

    Raises:
        OSError: If the connection fails, stalls or ends early.
        ValueError: If the server answers no URL of http(s), or one without encryption in its place.
    """
    opener = urllib.request.build_opener(_EncryptedStaysEncrypted)
    opener.addheaders = [("User-Agent", "gfnet-dense")]  # some servers refuse Python's
    with opener.open(url, timeout=DOWNLOAD_TIMEOUT) as answer, path.open("wb") as file:
        size = answer.headers.get("Content-Length")
        console = Console(stderr=True)
        with wrap_file(answer, int(size or 0), description="download", console=console) as source:
            shutil.copyfileobj(source, file)
        if size is not None and file.tell() != int(size):
            raise OSError(f"{file.tell()} of {size} bytes came")


class _EncryptedStaysEncrypted(urllib.request.HTTPRedirectHandler):
    """Refuses redirections from https to http."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise OSError(f"it is redirected to {newurl}, which is not encrypted")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _pin(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _write_pin(path: Path, url: str) -> None:
    """Write the SHA-256 of a download beside it, in the format of the command ``sha256sum``."""
    digest = _sha256(path)
    try:
        with atomic_write(_pin(path)) as part:
            part.write_text(f"{digest}  {path.name}\n")
    except OSError as e:  # a folder that many users read and few may write
        message = f"the SHA-256 of {path} is not checked: {_pin(path)} cannot be written ({e})"
        print_log(message, logger="current", level=logging.WARNING)
        return
    print_log(
        f"the SHA-256 of {url} is taken to be {digest} from now on, see {_pin(path)}",
        logger="current",
    )


def _check_digest(path: Path) -> None:
    """Raise InputError unless a download has the SHA-256 of its name and of its pin."""
    digest = _sha256(path)
    in_name = DIGEST_IN_NAME.search(path.name)
    pin = _pin(path)
    pinned = (pin.read_text(errors="replace").split() or [""])[0] if pin.exists() else digest
    if in_name and not digest.startswith(in_name[1]):
        reason = f"its name says {in_name[1]}"
    elif digest != pinned:
        reason = f"when it was fetched it was {pinned or 'not written down'}"
    else:
        return
    raise InputError(
        f"{path} has changed or is damaged: its SHA-256 is {digest}, {reason}; delete the file and "
        f"{pin.name} to fetch it anew"
    )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
