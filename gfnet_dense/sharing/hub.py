"""The Hugging Face hub, by its client ``huggingface_hub``, which is imported when it is needed."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import gfnet_dense
from gfnet_dense.utils.config import LIBRARY
from gfnet_dense.utils.errors import InputError

# USER/NAME with the names that https://huggingface.co/docs/huggingface_hub takes
# (validate_repo_id), which allows the name alone as well
ID = re.compile(r"(?!.*(?:--|\.\.|\.git$))\w(?:[\w.-]*\w)?/\w(?:[\w.-]{0,94}\w)?", re.ASCII)


def check_id(repo_id: object) -> None:
    """Raise InputError unless ``repo_id`` is ``USER/NAME`` in the form of the hub."""
    if not isinstance(repo_id, str) or not ID.fullmatch(repo_id):
        raise InputError(
            "an id on the Hugging Face hub is USER/NAME, of letters, digits and single -, _ and ., "
            f"got {repo_id!r}"
        )


def upload(folder: Path, repo_id: str, private: bool = False) -> str:
    """Upload a folder of :func:`.folder.save_pretrained`, see :func:`.folder.push_to_hub`.

    Returns:
        Address of the page on the hub.

    Raises:
        InputError: If the client is not installed, or if the hub cannot be reached or refuses it.
    """
    client = client_module()
    with _sentences(f"{repo_id} cannot be uploaded to the Hugging Face hub"):
        api = client.HfApi(library_name=LIBRARY, library_version=gfnet_dense.__version__)
        page = api.create_repo(repo_id, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=page.repo_id, folder_path=folder, commit_message="Upload by GFNet-Dense"
        )
    return str(page)


def download(repo_id: str, revision: str | None, files: Sequence[str]) -> Path:
    """Return the folder in the hub's cache that holds some files of a model.

    Args:
        repo_id: ``USER/NAME``.
        revision: Branch, tag or commit; None for the main branch.
        files: Names of the files.

    Raises:
        InputError: If it is no id, if ``huggingface_hub`` is not installed, or if the hub cannot be
            reached or has no such model.
    """
    if not ID.fullmatch(repo_id):
        raise InputError(
            f"there is no folder {repo_id}, and an id on the Hugging Face hub is USER/NAME"
        )
    client = client_module()
    with _sentences(f"{repo_id} is no folder and cannot be fetched from the Hugging Face hub"):
        return Path(
            client.snapshot_download(
                repo_id,
                revision=revision,
                allow_patterns=list(files),
                library_name=LIBRARY,
                library_version=gfnet_dense.__version__,
            )
        )


def client_module() -> ModuleType:
    """Return ``huggingface_hub``.

    Raises:
        InputError: If it is not installed.
    """
    try:
        import huggingface_hub
    except ImportError as e:
        raise InputError(
            f"the Hugging Face hub needs its client ({e}): pip install huggingface_hub"
        ) from e
    return huggingface_hub


@contextmanager
def _sentences(what: str) -> Iterator[None]:
    """Turn the errors of the client and of the network in the ``with`` block into an InputError."""
    from huggingface_hub import errors

    # Its HTTPError is that of its HTTP library, which raises some errors itself.
    known = (OSError, errors.HTTPError, errors.HFValidationError, errors.RevisionResolutionError)
    try:
        yield
    except known as e:
        reason = " ".join(str(e).split())
        raise InputError(
            f"{what} ({type(e).__name__}: {reason}); an upload, and a private model, need a token: "
            "hf auth login"
        ) from e
