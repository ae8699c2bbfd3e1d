"""Scale and figures of the torture tests: a small scale, and a large one with ``--torture``.

``make torture`` runs the large scale, prints the table of figures and writes it to
docs/reliability.md.
"""

import platform
from collections import Counter
from datetime import date
from pathlib import Path

import pytest
import torch

from gfnet_dense.utils.tables import format_table
from pages import insert_block
from tests.conftest import ROOT
from tests.torture import FILES, PATHS

PAGE = ROOT / "docs" / "reliability.md"


def pytest_addoption(parser):
    parser.addoption("--torture", action="store_true", help="in full, and write the figures down")


@pytest.fixture(scope="session")
def torture(request) -> bool:
    return request.config.getoption("--torture", default=False)


@pytest.fixture
def figure(request):
    """Record a result of a test: ``figure("kills survived", 21)``."""

    def write(what: str, value: str | int) -> None:
        request.node.user_properties.append((what, str(value)))

    return write


def is_complete(reporter, exitstatus) -> bool:
    """Return whether all torture tests have run and passed, none of them left out."""
    chosen = [Path(argument).resolve() for argument in reporter.config.args]
    left_out = any(reporter.stats.get(how) for how in ("deselected", "skipped", "xfailed"))
    return exitstatus == 0 and set(chosen) == set(PATHS) and not left_out


def pytest_terminal_summary(terminalreporter, exitstatus, config):
    passed, failed = (terminalreporter.stats.get(how, []) for how in ("passed", "failed"))
    reports = sorted(passed + failed, key=lambda report: report.nodeid.partition("::")[0])
    figures = [figure for report in reports for figure in report.user_properties]
    if not figures:
        return
    if config.getoption("--torture", default=False):
        counts = Counter(report.nodeid.partition("::")[0] for report in passed)
        figures += [(f"tests of {FILES[name]}", str(counts[name])) for name in FILES]
    table = format_table([["what", "figure"], *figures])
    terminalreporter.section("figures")
    terminalreporter.write_line(table)
    if config.getoption("--torture", default=False) and is_complete(terminalreporter, exitstatus):
        where = f"{date.today()}, {platform.machine()}, threads: {torch.get_num_threads()}, "
        where += f"Python {platform.python_version()}, PyTorch {torch.__version__}"
        block = f"{table}\n\n*`make torture`, {where}.*"
        PAGE.write_text(insert_block(PAGE.read_text(), "torture", block))
        terminalreporter.write_line(f"written: {PAGE}")
