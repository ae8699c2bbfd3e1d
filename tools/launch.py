"""What dist_train.sh and dist_test.sh share: launch.py TOOL PROCESSES ARGUMENTS, by torchrun.

A process that fails tells why itself: torchrun's own report of several screens stays away.
"""

import logging
import os
import signal
import sys
from pathlib import Path

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run


def launcher_arguments(count: str) -> list[str]:
    """Return torchrun's arguments for ``count`` processes on this machine."""
    if os.environ.get("NNODES", "1") == "1":
        return ["--standalone", "--nproc-per-node", count]  # on any free port
    settings = {"nnodes": "NNODES", "node-rank": "NODE_RANK", "master-addr": "MASTER_ADDR"}
    missing = [variable for variable in settings.values() if variable not in os.environ]
    if missing:
        sys.exit(f"error: NNODES is set, so {', '.join(missing)} must be, too, on every machine")
    arguments = ["--master-port", os.environ.get("PORT", "29500"), "--nproc-per-node", count]
    for name, variable in settings.items():
        arguments += [f"--{name}", os.environ[variable]]
    return arguments


def describe(error: ChildFailedError) -> str:
    """Return which process has failed first, and how."""
    rank, failure = error.get_first_failure()
    if failure.exitcode == -signal.SIGKILL:
        return f"process {rank} was killed (the system does that where memory runs out)"
    return f"process {rank} ended with the exit code {failure.exitcode}, the reason is above"


def main() -> None:
    tool, count, *arguments = sys.argv[1:]
    if not count.isdecimal() or int(count) < 1:
        print(
            f"error: the number of processes on this machine is 1 or more, got {count!r}",
            file=sys.stderr,
        )
        sys.exit(2)
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)
    command = [*launcher_arguments(count), str(Path(__file__).with_name(tool)), *arguments]
    try:
        run(parse_args([*command, "--launcher", "pytorch"]))
    except ChildFailedError as e:
        sys.exit(f"error: {describe(e)}")
    except SignalException as e:
        sys.exit(128 + e.sigval)


if __name__ == "__main__":
    main()
