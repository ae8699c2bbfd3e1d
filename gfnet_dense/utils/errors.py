"""The exception for mistakes of users."""

from collections.abc import Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """Wrong input; the message says in one sentence what was given, what is accepted, what to do.

    The commands print this message without a traceback and exit with a non-zero code. Any other
    exception is a defect of the program and keeps its traceback.
    """


@contextmanager
def building(what: str) -> Iterator[None]:
    """Turn the errors of a registry in the ``with`` block into an InputError.

    Registries raise several types of errors for unknown names and wrong arguments.

    Args:
        what: What is built, for the message: ``the config``.
    """
    try:
        yield
    except InputError:
        raise
    except (
        AssertionError, AttributeError, LookupError, OverflowError, RecursionError, TypeError,
        ValueError,
    ) as e:  # fmt: skip
        reason = " ".join(str(e).split())
        raise InputError(f"{what} cannot be built: {type(e).__name__}: {reason}") from e
