"""The exception for mistakes of users, and what becomes of errors while objects are built."""

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

from .users_code import places_in_users_code

REGISTRY = "mmengine/registry/"  # part of the path of the files that build objects from configs
RUNNER = "mmengine/runner/"  # of those that raise RuntimeError for settings that exclude each other


class InputError(ValueError):
    """Wrong input; the message says in one sentence what was given, what is accepted, what to do.

    The commands print this message without a traceback and exit with a non-zero code. Any other
    exception is a defect of the program and keeps its traceback.
    """


@contextmanager
def building(what: str) -> Iterator[None]:
    """Turn the errors of a registry in the ``with`` block into an InputError.

    Registries raise several types of errors for unknown names and wrong arguments. An error in the
    user's own code, such as the constructor of a custom hook, stays as it is, with its traceback.

    Args:
        what: What is built, for the message: ``the config``.

    Raises:
        InputError: For an error that the registry raises, in the user's code as well, and for one
            that a library raises and that has not passed through the user's code.
    """
    try:
        yield
    except InputError:
        raise
    except (
        AssertionError, AttributeError, LookupError, OverflowError, RuntimeError, TypeError,
        ValueError,
    ) as e:  # fmt: skip
        is_runtime = isinstance(e, RuntimeError) and not isinstance(e, RecursionError)
        if is_runtime and not _is_raised_in(RUNNER, e):
            raise  # such as CUDA's, or of a lack of memory
        if not _is_raised_in(REGISTRY, e):
            if places_in_users_code(e):
                raise
        elif import_error := _import_error(str(e)):
            raise import_error from e
        reason = " ".join(str(e).split())
        raise InputError(f"{what} cannot be built: {type(e).__name__}: {reason}") from e


def _is_raised_in(folder: str, error: Exception) -> bool:
    return folder in traceback.extract_tb(error.__traceback__)[-1].filename


def _import_error(message: str) -> ImportError | None:
    """Return the error in a module that a registry could not import, None if there is none.

    For a class that is given by its full name, such as ``my_hooks.MyHook``, the registry says that
    the name is unknown (``get_object_from_string`` in onedl-mmengine 0.10.12).
    """
    match = re.match(r"'?([\w.]+)\.\w+ is not in the ", message)
    try:
        import_module(match[1]) if match else None
    except ImportError as e:
        return e if places_in_users_code(e) else None
    return None
