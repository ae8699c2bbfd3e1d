"""A mended copy of the data of a config: what has one meaning is mended, the rest is said.

The source is only read. The copy is complete: also files without a fault are copied, not linked,
since an editor that changes a linked file would change the source.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import ConfigDict
from rich.console import Console
from rich.progress import track

from gfnet_dense.datasets.checks.datasets import check_local_data
from gfnet_dense.datasets.survey.contents import Problem
from gfnet_dense.datasets.survey.report import format_problems
from gfnet_dense.utils.errors import InputError


@dataclass
class Plan:
    """A mended copy that is not yet written.

    Attributes:
        out: Folder of the copy.
        files: By path in the copy: the file to copy, or a function that returns the content.
        mended: What the copy has mended.
        left: What the copy cannot mend, and why.
        options: Settings of the config for the copy, by dotted key.
    """

    out: Path
    files: dict[str, Path | Callable[[], bytes]] = field(default_factory=dict)
    mended: list[Problem] = field(default_factory=list)
    left: list[Problem] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)

    def say(self, sentence: str, path: Path | str = "") -> None:
        """Note what the copy has mended, in a file or in a config."""
        self.mended.append(Problem(str(path), sentence))


@dataclass
class NamedDataset:
    """A dataset of a config.

    Attributes:
        split: 'train', 'val' or 'test'.
        key: Dotted key of its config: 'train_dataloader.dataset'.
        cfg: Its config, without wrappers.
    """

    split: str
    key: str
    cfg: ConfigDict


def named_datasets(cfg: ConfigDict) -> Iterator[NamedDataset]:
    """Yield the datasets of all splits, from inside of wrappers such as ConcatDataset."""
    for split in ("train", "val", "test"):
        loader = cfg.get(f"{split}_dataloader")
        if loader is not None:
            yield from _inside(split, f"{split}_dataloader.dataset", loader["dataset"])


def _inside(split: str, key: str, dataset: ConfigDict) -> Iterator[NamedDataset]:
    if "dataset" in dataset:
        yield from _inside(split, f"{key}.dataset", dataset["dataset"])
    elif "datasets" in dataset:
        for i, inner in enumerate(dataset["datasets"]):
            yield from _inside(split, f"{key}.datasets.{i}", inner)
    else:
        yield NamedDataset(split, key, dataset)


def plan_copy(cfg: ConfigDict, out: Path) -> Plan:
    """Plan a mended copy of the data of a config; all files are read.

    Args:
        cfg: A whole config of mmsegmentation or mmdetection.
        out: Folder of the copy.

    Raises:
        InputError: If ``out`` is there and not empty, if it lies in a folder of the data, or if
            the data cannot be read.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"--fix writes into a new folder, but {out} is there already")
    # These modules add to the plan, and import this one.
    if cfg.default_scope == "mmseg":
        from .segmentation import plan_dataset
    elif cfg.default_scope == "mmdet":
        from .detection import plan_dataset
    else:
        raise InputError(f"--fix is for mmsegmentation and mmdetection, not {cfg.default_scope}")
    check_local_data(cfg)
    plan = Plan(out)
    known: list[tuple[ConfigDict, dict[str, Any]]] = []
    named: list[NamedDataset] = []
    for dataset in named_datasets(cfg):
        _check_outside(out, dataset.cfg)
        options = next((options for other, options in known if other == dataset.cfg), None)
        if options is None:
            number = 1 + sum(name.split == dataset.split for name in named)
            named.append(dataset)
            name = f"{dataset.split}{number if number > 1 else ''}"
            options = plan_dataset(plan, cfg, dataset, name)
            known.append((dataset.cfg, options))
        plan.options[f"{dataset.key}.data_root"] = str(out)
        plan.options.update({f"{dataset.key}.{key}": value for key, value in options.items()})
    return plan


def _check_outside(out: Path, dataset: ConfigDict) -> None:
    """Raise InputError if a copy lies in a folder whose files the data set finds."""
    for prefix in (dataset.get("data_prefix") or {}).values():
        folder = Path(dataset.get("data_root") or "", prefix or "")
        if prefix and out.resolve().is_relative_to(folder.resolve()):
            raise InputError(
                f"--fix {out}: give a folder outside of {folder}, which holds the data"
            )


def write_copy(plan: Plan, text: str) -> None:
    """Write a copy, as a whole or not at all.

    Args:
        plan: The copy, whose folder is absent or empty.
        text: Content of ``mended.txt`` beside the data.

    Raises:
        OSError: If it cannot be written.
    """
    write_files({"mended.txt": text.encode, **plan.files}, plan.out, "copy")


def write_files(files: Mapping[str, Path | Callable[[], bytes]], out: Path, title: str) -> None:
    """Write a folder of files, as a whole or not at all.

    Args:
        files: By path in the folder: the file to copy, or a function that returns the content.
        out: The folder, absent or empty.
        title: Text beside the progress bar.

    Raises:
        OSError: If it cannot be written.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    part.chmod(0o755)
    try:
        for name, source in track(files.items(), title, console=Console(stderr=True)):
            target = part / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(source, Path):
                shutil.copyfile(source, target)
            else:
                target.write_bytes(source())
        if out.exists():
            out.rmdir()
        part.rename(out)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def format_plan(plan: Plan, max_groups: int | None = None, max_files: int | None = None) -> str:
    """Return a plan as text: what is mended, what is not, and the settings of the config.

    Args:
        plan: The plan.
        max_groups, max_files: See :func:`.survey.report.format_problems`.
    """
    parts = []
    for title, problems in (("mended", plan.mended), ("not mended", plan.left)):
        lines = format_problems(list(dict.fromkeys(problems)), max_groups, max_files)
        parts.append("\n".join([f"{title}: {len(problems) or 'nothing'}", *lines]))
    if plan.mended:
        settings = (f"  {key}={value!r}" for key, value in plan.options.items())
        parts.append("\n".join([f"the copy is {plan.out}; set in the config:", *settings]))
    return "\n\n".join(parts) + "\n"
