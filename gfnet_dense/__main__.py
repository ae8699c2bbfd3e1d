"""Run a command by its name, also without a clone: ``gfnet-dense COMMAND [arguments]``."""

import ast
import runpy
import sys
from difflib import get_close_matches
from pathlib import Path

import gfnet_dense
from gfnet_dense.utils.program import PROGRAM, discard_output

# In a clone this is a link to tools/, in an installed package it holds the files. mim, the command
# line of OpenMMLab, looks for them here, too.
TOOLS = Path(__file__).parent / ".mim" / "tools"


def main() -> None:
    """Run the command that the first argument names, with the others as its arguments."""
    tools = {path.stem: path for path in sorted(TOOLS.glob("*.py"))}
    name, *arguments = sys.argv[1:] or ["--help"]
    if name == "help" and arguments:  # help COMMAND
        name, *arguments = *arguments, "--help"
    if not name.startswith("-"):
        name = name.replace("-", "_")  # export-onnx
    if name in ("-V", "--version"):
        print(f"{PROGRAM} {gfnet_dense.__version__}")
    elif name in ("-h", "--help", "help"):
        try:
            print(_overview(tools), flush=True)
        except BrokenPipeError:
            discard_output()
            sys.exit(1)
    elif name not in tools:
        close = get_close_matches(name, tools, n=1)
        meant = f" (is {close[0]} meant?)" if close else ""
        print(f"error: there is no command {name}{meant}; all: {PROGRAM} --help", file=sys.stderr)
        sys.exit(2)
    else:
        sys.argv = [f"{PROGRAM} {name}", *arguments]  # argparse takes the name from it
        runpy.run_path(str(tools[name]))["main"]()


def _overview(tools: dict[str, Path]) -> str:
    """Return the help on all commands."""
    lines = [f"  {tool:<20}{_summary(path)}" for tool, path in tools.items()]
    head, tail = f"usage: {PROGRAM} COMMAND [arguments]", f"{PROGRAM} COMMAND --help"
    return "\n".join([head, "", "commands:", *lines, "", f"all arguments of one: {tail}"])


def _summary(path: Path) -> str:
    """Return the first sentence of the docstring of a command, without running it."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    return text.partition("\n\n")[0].rstrip(":")


if __name__ == "__main__":
    main()
