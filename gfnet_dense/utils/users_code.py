"""Finding the user's own code in the traceback of an exception."""

import re
import sys
import sysconfig
import traceback
from pathlib import Path

# Libraries that their users often install in editable form, outside of site-packages
OFTEN_EDITABLE = ("mmengine", "mmcv", "mmseg", "mmdet", "torch", "torchvision")
PLACE = re.compile(r'^\s*File "([^"\n]+\.py)", line (\d+)', re.MULTILINE)


def places_in_users_code(error: BaseException) -> list[tuple[str, int]]:
    """Return the lines of a traceback that are neither this project's nor an installed library's.

    The text of the traceback is searched, since it has more than the frames: the causes, the line
    of a SyntaxError, and the traceback of a DataLoader's worker, which PyTorch puts into the
    message.

    Args:
        error: An exception that was caught.

    Returns:
        Pairs of file and line number, the innermost one of the last error at the end.
    """
    text = "".join(traceback.format_exception(error))
    libraries = _folders_of_others()
    return [
        (file, int(line))
        for file, line in PLACE.findall(text)
        if not any(Path(file).resolve().is_relative_to(folder) for folder in libraries)
    ]


def _folders_of_others() -> list[Path]:
    """Return the folders of this project's code, of Python's library and of installed packages."""
    package = Path(__file__).parents[1]
    folders = [package, *(package.parent / name for name in ("tools", ".dev"))]
    folders += [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")]
    # Those of the user and of the system, which a virtual environment may show
    folders += [Path(entry) for entry in sys.path if entry.endswith("-packages")]
    for name in OFTEN_EDITABLE:
        file = getattr(sys.modules.get(name), "__file__", None)
        folders += [Path(file).parent] if file else []
    return [folder.resolve() for folder in folders]
