"""What the program that runs the commands shares with them; it imports no libraries."""

import os
import sys

PROGRAM = "gfnet-dense"  # the command that runs all others, see gfnet_dense.__main__


def discard_output() -> None:
    """Let what is still printed go nowhere, since nobody reads it any more, such as ``head``."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
