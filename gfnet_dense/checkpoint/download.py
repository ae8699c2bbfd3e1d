"""Downloading checkpoints, official ones and others, each completely or not at all."""

import hashlib
import http.client
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.dist import barrier
from mmengine.logging import print_log

from gfnet_dense.utils.atomic_write import atomic_replace
from gfnet_dense.utils.errors import InputError

from .safe_reader import read_checkpoint

# File name and URL by arch, https://github.com/raoyongming/GFNet#model-zoo. The URLs contain no
# file name.
OFFICIAL_FILES = {
    "h-tiny": ("gfnet-h-ti.pth", "https://cloud.tsinghua.edu.cn/f/b22dd45eccbe462cbbfb/?dl=1"),
    "h-small": ("gfnet-h-s.pth", "https://cloud.tsinghua.edu.cn/f/5229cb4d1daf48e69675/?dl=1"),
    "h-base": ("gfnet-h-b.pth", "https://cloud.tsinghua.edu.cn/f/954c5af21e824ba6b40c/?dl=1"),
    "tiny": ("gfnet-ti.pth", "https://cloud.tsinghua.edu.cn/f/3d0c1579aa524a0a99dd/?dl=1"),
    "xsmall": ("gfnet-xs.pth", "https://cloud.tsinghua.edu.cn/f/e0ab5b1583954a1fa9b2/?dl=1"),
    "small": ("gfnet-s.pth", "https://cloud.tsinghua.edu.cn/f/e5561fa070c44d9399bf/?dl=1"),
    "base": ("gfnet-b.pth", "https://cloud.tsinghua.edu.cn/f/2fbf264597af4d72afb3/?dl=1"),
}

DOWNLOAD_TIMEOUT = 30  # seconds in which no byte arrives


def fetch(checkpoint: str | Path) -> Path:
    """Return the local file of a checkpoint, downloaded completely or not at all.

    With several processes, the first of each machine downloads and the others wait.

    Args:
        checkpoint: A path, an http(s) URL, or ``gfnet://ARCH`` for an official checkpoint.
            Downloads are kept in torch hub's folder (``TORCH_HOME``) and not repeated.

    Returns:
        Path of the file.

    Raises:
        InputError: If the file does not exist or cannot be downloaded.
    """
    # pathlib makes one slash of two.
    checkpoint = re.sub(r"^(gfnet|https?):/(?!/)", r"\1://", str(checkpoint))
    if checkpoint.startswith("gfnet://"):
        arch = checkpoint.removeprefix("gfnet://")
        if arch not in OFFICIAL_FILES:
            raise InputError(
                f"{checkpoint} is not an official checkpoint, these are: "
                f"{', '.join('gfnet://' + name for name in OFFICIAL_FILES)}"
            )
        name, url = OFFICIAL_FILES[arch]
    elif checkpoint.startswith(("http://", "https://")):
        url = checkpoint
        digest = hashlib.sha256(url.encode()).hexdigest()[:8]  # other URLs may end in the same name
        name = f"{digest}-{url.partition('?')[0].rstrip('/').rpartition('/')[2]}"
    else:
        path = Path(os.path.expanduser(checkpoint))  # keeps an unknown "~user"
        if not path.is_file():
            raise InputError(f"the checkpoint {checkpoint} does not exist or is not a file")
        return path

    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    error = None
    if os.environ.get("LOCAL_RANK", "0") == "0" and not path.exists():
        try:
            _download(url, path)
        except InputError as e:  # raised after the barrier, where the other ranks wait
            error = e
    barrier()
    if error is not None:
        raise error
    if not path.exists():
        raise InputError(f"{path} is missing: its download failed in another process")
    return path


def _download(url: str, path: Path) -> None:
    """Download a checkpoint to ``path``, which is created only if the file reads as a checkpoint.

    Raises:
        InputError: If the download fails, or the file is no checkpoint.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}")
    print_log(f"downloading {url} to {path}", logger="current")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _socket_timeout(DOWNLOAD_TIMEOUT):
            torch.hub.download_url_to_file(url, str(part))
        read_checkpoint(part)
        atomic_replace(part, path)
    except (OSError, ValueError, http.client.HTTPException) as e:
        reason = "what came is no checkpoint" if isinstance(e, InputError) else e
        raise InputError(
            f"could not download {url} ({reason}); fetch it in another way and save it as {path}"
        ) from None
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Limit how long a connection may stall; torch.hub alone would wait for it forever."""
    previous = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(previous)
