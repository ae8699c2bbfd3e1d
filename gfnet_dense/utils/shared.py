"""Changes of something that threads share, undone when the last of them is through."""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from threading import Lock

_lock = Lock()
_open: dict[Hashable, tuple[int, Callable[[], None]]] = {}  # number of blocks, and the undoing


@contextmanager
def shared_change(key: Hashable, change: Callable[[], Callable[[], None]]) -> Iterator[None]:
    """Have something changed in the ``with`` block, which several threads may be in at once.

    If each thread put back what it had found, the last one could put back the change of another.

    Args:
        key: Blocks of equal keys make the same change: the first one in makes it, and the last one
            out undoes it.
        change: Makes the change, and returns the function that undoes it.
    """
    with _lock:
        count, undo = _open.get(key) or (0, change())
        _open[key] = count + 1, undo
    try:
        yield
    finally:
        with _lock:
            count, undo = _open.pop(key)
            if count > 1:
                _open[key] = count - 1, undo
            else:
                undo()
