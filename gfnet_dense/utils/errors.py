"""The one exception that stands for a user's mistake."""

from collections.abc import Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """Bad input, told in one sentence: what was given, what is accepted, what to do.

    The command lines print the sentence alone and exit with a non-zero code; anything else that
    is raised is a defect of the program and keeps its traceback.
    """


@contextmanager
def building(what: str) -> Iterator[None]:
    """Turn what a registry raises for unknown names and wrong arguments into an InputError."""
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
