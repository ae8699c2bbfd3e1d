"""Start several processes of a tool with torchrun; dist_train.sh and dist_test.sh call this:

    python tools/launch.py train.py 8 configs/upernet_gfnet_ade20k.py

Plain torchrun answers a user's mistake with 60 lines of traceback. The failing process has already
printed the reason, so this command adds one line: which process failed and how. It imports modules
of torchrun that are not public API of PyTorch (seen in PyTorch 2.13).
"""

import argparse
import logging
import os
import signal
import sys
from pathlib import Path
from types import FrameType

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args as parse_torchrun_args
from torch.distributed.run import run

from gfnet_dense import cli


def launcher_arguments(count: str) -> list[str]:
    """Return torchrun's arguments for a run of ``count`` processes per machine.

    Runs over several machines are described by NNODES, NODE_RANK, MASTER_ADDR and PORT.
    """
    if os.environ.get("NNODES", "1") == "1":
        return ["--standalone", "--nproc-per-node", count]  # standalone takes any free port
    settings = {"nnodes": "NNODES", "node-rank": "NODE_RANK", "master-addr": "MASTER_ADDR"}
    missing = [variable for variable in settings.values() if variable not in os.environ]
    if missing:
        sys.exit(f"error: NNODES is set, so {', '.join(missing)} must be, too, on every machine")
    arguments = ["--master-port", os.environ.get("PORT", "29500"), "--nproc-per-node", count]
    for name, variable in settings.items():
        arguments += [f"--{name}", os.environ[variable]]
    return arguments


def describe(error: ChildFailedError) -> str:
    """Return a sentence that says which process failed first, and how it ended."""
    rank, failure = error.get_first_failure()
    if failure.exitcode == -signal.SIGKILL:
        return f"process {rank} was killed (the system does that where memory runs out)"
    return f"process {rank} ended with the exit code {failure.exitcode}, the reason is above"


def forward(number: int, frame: FrameType | None) -> None:
    """Send a signal on to the processes of the run; torchrun sends on those that end a run."""
    for path in Path("/proc/self/task").glob("*/children"):
        for child in map(int, path.read_text().split()):
            os.kill(child, number)


def parse_args() -> argparse.Namespace:
    parser = cli.ArgumentParser(__doc__)
    parser.add_argument("tool", choices=["train.py", "test.py"])
    parser.add_argument("processes", help="number on this machine: one for each GPU, any on CPUs")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="arguments of the tool")
    args = parser.parse_args()
    if not args.processes.isdecimal() or int(args.processes) < 1:
        parser.error(f"the number of processes is 1 or more, got {args.processes!r}")
    return args


def main() -> None:
    args = parse_args()
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)
    tool = str(Path(__file__).with_name(args.tool))
    signal.signal(signal.SIGUSR1, forward)  # asks for a checkpoint
    command = [*launcher_arguments(args.processes), tool, *args.arguments]
    try:
        run(parse_torchrun_args([*command, "--launcher", "pytorch"]))
    except ChildFailedError as e:
        sys.exit(f"error: {describe(e)}")
    except SignalException as e:
        sys.exit(128 + e.sigval)


if __name__ == "__main__":
    main()
