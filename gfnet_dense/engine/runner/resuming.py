"""Finding the checkpoint from which a training resumes, the same in every process."""

from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dist import (
    all_gather_object,
    broadcast_object_list,
    init_dist,
    is_distributed,
    is_main_process,
)
from mmengine.logging import print_log

from gfnet_dense.checkpoint.safe_reader import read_checkpoint
from gfnet_dense.engine.state_keys import LAST_CHECKPOINT, NONE_YET
from gfnet_dense.utils.errors import InputError

BEGINNING = "the beginning"  # where a training starts that does not resume


def join_processes(launcher: str, env_cfg: dict) -> None:
    """Let the processes of a distributed run find each other; without a GPU they use gloo.

    Args:
        launcher: ``launcher`` of the config; nothing is done for ``none``.
        env_cfg: ``env_cfg`` of the config.
    """
    if launcher == "none" or is_distributed():
        return
    if torch.cuda.is_available():
        init_dist(launcher, **env_cfg.get("dist_cfg", {}))
    else:
        torch.distributed.init_process_group("gloo")


def check_same_start(start: str) -> None:
    """Raise InputError unless all processes start from the same checkpoint.

    Processes on a machine that does not share the work dir find no checkpoint there. They would
    start anew and spoil the training of the others.

    Args:
        start: Name of the checkpoint of this process, or :data:`BEGINNING`.
    """
    starts = all_gather_object(start)
    if len(set(starts)) > 1:
        raise InputError(
            f"the processes would start from {', '.join(starts)}: --resume needs a work dir that "
            "all machines share, or a copy of its last_checkpoint and the checkpoint on each"
        )


def agreed_start(cfg: Config) -> tuple[Path, int | None] | None:
    """Return the newest checkpoint of a training, and the seed of the training.

    With several processes the main one reads the files, and tells the others.

    Args:
        cfg: A whole config with its ``work_dir`` and, for a distributed run, its ``launcher``.

    Returns:
        Path and seed, None for an older file without one; None if there is no checkpoint.

    Raises:
        InputError: In all processes, see :func:`newest_checkpoint` and :func:`check_same_start`.
    """
    hook = (cfg.get("default_hooks") or {}).get("checkpoint") or {}
    place = Path(cfg.work_dir), hook.get("out_dir"), hook.get("filename_tmpl")
    join_processes(cfg.get("launcher") or "none", cfg.get("env_cfg") or {})
    told: list = [None]  # path and seed, or the sentence of an error
    failure = None
    if is_main_process():
        try:
            if newest := newest_checkpoint(*place):
                seed = newest[1].get("meta", {}).get("seed")
                told = [(newest[0], seed if type(seed) is int else None)]
        except Exception as e:
            failure, told = e, [str(e)]
    broadcast_object_list(told)
    if failure is not None:
        raise failure
    if isinstance(told[0], str):
        raise InputError(told[0])
    if told[0] is None:
        here = [path.name for path in _candidates(*place)]
    else:
        here = [path.name for path in (told[0][0],) if path.is_file()]
    check_same_start((here or [BEGINNING])[0])
    return told[0]


def newest_checkpoint(
    work_dir: Path, out_dir: str | None = None, filename_tmpl: str | None = None
) -> tuple[Path, dict] | None:
    """Return the newest checkpoint of a training that can be read, and its content.

    The checkpoint named in the file ``last_checkpoint`` is tried first, then the others from the
    newest to the oldest.

    Args:
        work_dir: Work dir of the training.
        out_dir: Argument of mmengine's CheckpointHook.
        filename_tmpl: Argument of mmengine's CheckpointHook.

    Returns:
        Path and content of the checkpoint; None if there is no checkpoint.

    Raises:
        InputError: If there are checkpoints but none can be read.
    """
    files, reasons = _candidates(work_dir, out_dir, filename_tmpl), []
    for path in files:
        try:
            return path, read_checkpoint(path)
        except InputError as e:
            reasons.append(str(e))
            print_log(f"left out: {e}", logger="current")
    if reasons:
        raise InputError(
            f"nothing to resume from: of {len(files)} checkpoints in {files[0].parent} none can be "
            f"read ({reasons[0]}); without --resume the training starts anew"
        )
    return None


def _candidates(work_dir: Path, out_dir: str | None, filename_tmpl: str | None) -> list[Path]:
    """Return the checkpoints of a training in the order in which they are tried."""
    folder = Path(out_dir, work_dir.name) if out_dir else work_dir
    names = [filename_tmpl] if filename_tmpl else ["iter_{}.pth", "epoch_{}.pth"]
    files = [p for name in names for p in folder.glob(name.format("*")) if p.is_file()]
    files.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    pointer = work_dir / LAST_CHECKPOINT
    named = pointer.read_text(errors="replace").strip() if pointer.is_file() else ""
    if named == NONE_YET:
        # The training may have been killed after its first checkpoint was written and before it
        # was named. Older files belong to another training.
        files = [p for p in files if p.stat().st_mtime > pointer.stat().st_mtime]
    elif named:
        # If the folder is a copy, the named path points to the original: its own file comes first.
        places = [folder / Path(named).name, Path(named)]
        found = [path for path in places if path.is_file()][:1]
        files = [*found, *(path for path in files if path not in found)]
    return files
