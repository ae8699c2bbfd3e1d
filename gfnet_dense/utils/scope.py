"""The default scope of mmengine's registries, for as long as something is built."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

from mmengine.registry import DefaultScope

_lock = RLock()  # all threads share mmengine's default scope


@contextmanager
def default_scope(name: str | None) -> Iterator[None]:
    """Look types up in the library ``name`` in the ``with`` block, such as ``mmseg``.

    mmengine's ``init_default_scope`` would leave it behind for the whole program. Other threads
    that use this function wait.

    Args:
        name: ``default_scope`` of a config; None changes nothing.
    """
    with _lock, DefaultScope.overwrite_default_scope(name):
        yield
