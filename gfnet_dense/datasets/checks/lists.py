"""Checks of the text files that list the images of a split, one name a line.

mmsegmentation joins each line to a folder and a suffix, whatever the line holds.
"""

import io
from collections import Counter
from pathlib import Path
from typing import Any

from mmengine.config import ConfigDict
from mmengine.registry import DATASETS

from gfnet_dense.utils.errors import InputError
from gfnet_dense.utils.images import IMAGE_SUFFIXES, read_bytes

BYTE_ORDER_MARK = "\ufeff"


def check_list(dataset: ConfigDict) -> None:
    """Check that the list of a split holds one name of an image in each line.

    Args:
        dataset: Config of one dataset; those that read no such list pass.

    Raises:
        InputError: If the list is no text in UTF-8 or names nothing, or if a line is empty, an
            absolute path beside label maps, or a name with the suffix that is added to it.
    """
    path = _list_of(dataset)
    if path is None:
        return
    lines = _lines(path)
    if not any(lines):
        raise InputError(f"the list {path}, ann_file in the config, names no image")
    prefix = dataset.get("data_prefix", {})
    folder = Path(dataset.get("data_root") or "", prefix.get("img_path") or "")
    for number, name in enumerate(lines, 1):
        reason = _why_wrong(name, folder, dataset)
        if reason:
            raise InputError(f"line {number} of the list {path} {reason}")


def repeated_names(dataset: ConfigDict) -> str:
    """Return a sentence on names that the list of a split holds more than once, '' without any.

    Args:
        dataset: Config of one dataset whose list has been checked.
    """
    path = _list_of(dataset)
    repeated = [name for name, n in Counter(_lines(path) if path else ()).items() if n > 1]
    if not repeated:
        return ""
    return (
        f"the list {path} holds {len(repeated)} names more than once, such as {repeated[0]}: these "
        "images are trained and counted as often"
    )


def _why_wrong(name: str, folder: Path, dataset: ConfigDict) -> str:
    """Return why a line is no name of an image, '' if it may be one."""
    if not name:
        return "is empty: remove it"
    if name.startswith(BYTE_ORDER_MARK):
        return "begins with a byte order mark: save the list as UTF-8 without it"
    if Path(name).is_absolute() and dataset.get("data_prefix", {}).get("seg_map_path"):
        return (
            f"is an absolute path, {name}, and would stand for the label map as well: give the "
            f"path in {folder}, without suffix"
        )
    suffix = dataset.get("img_suffix")
    if suffix != "" and Path(name).suffix.lower() in IMAGE_SUFFIXES and (folder / name).is_file():
        return f"is {name}: give the name without suffix, img_suffix is added to it"
    return ""


def _list_of(dataset: ConfigDict) -> Path | None:
    """Return the file that lists the images of a dataset, None without one or for another form."""
    ann_file = dataset.get("ann_file")
    path = Path(dataset.get("data_root") or "", ann_file or "")
    if not ann_file or path.suffix == ".json" or not path.is_file():
        return None
    cls: Any = dataset["type"]
    if isinstance(cls, str):
        cls = DATASETS.get(cls) or DATASETS.get(f"mmseg.{cls}")
    reader = getattr(cls, "load_data_list", None)
    known = getattr(reader, "__module__", "") == "mmseg.datasets.basesegdataset"
    return path if known else None


def _lines(path: Path) -> list[str]:
    """Return the lines of a list as mmsegmentation reads them."""
    try:
        text = read_bytes(path, "list").decode("utf-8")
    except UnicodeDecodeError as e:
        raise InputError(
            f"the list {path} is no text in UTF-8 (byte {e.start}): save it as UTF-8"
        ) from None
    return [line.strip() for line in io.StringIO(text)]
