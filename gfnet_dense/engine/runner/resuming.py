"""Finding the checkpoint from which a training resumes, the same in every process."""

from pathlib import Path

from mmengine.config import Config
from mmengine.dist import all_gather_object
from mmengine.logging import print_log

from gfnet_dense.checkpoint.safe_reader import read_checkpoint
from gfnet_dense.engine.state_keys import LAST_CHECKPOINT, NONE_YET
from gfnet_dense.utils.errors import InputError


def check_same_start(cfg: Config) -> None:
    """Raise InputError unless all processes start from the same checkpoint.

    Processes on a machine that does not share the work dir find no checkpoint there. They would
    start anew and spoil the training of the others.
    """
    start = Path(cfg.get("load_from") or "none").name if cfg.get("resume") else "the beginning"
    starts = all_gather_object(start)
    if len(set(starts)) > 1:
        raise InputError(
            f"the processes would start from {', '.join(starts)}: --resume needs a work dir that "
            "all machines share, or a copy of its last_checkpoint and the checkpoint on each"
        )


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
    reasons = []
    for path in files:
        try:
            return path, read_checkpoint(path)
        except InputError as e:
            reasons.append(str(e))
            print_log(f"left out: {e}", logger="current")
    if reasons:
        raise InputError(
            f"nothing to resume from: of {len(files)} checkpoints in {folder} none can be read "
            f"({reasons[0]}); without --resume the training starts anew"
        )
    return None
