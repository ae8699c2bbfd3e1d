import re

from gfnet_dense.models.utils.filter_resize import FILTER_RESIZE_MODES
from resizing import (
    draw_resized_filter,
    format_properties,
    measure_properties,
)
from tests.conftest import ROOT
from tests.markdown import read_table


def test_table_in_the_docs_has_the_measured_errors():
    table = measure_properties()
    for title, errors in table.items():
        assert tuple(errors) == FILTER_RESIZE_MODES
        assert errors["trigonometric"] < 1e-13, title
    broken = [errors["bilinear"] > 1e-2 for errors in table.values()]
    assert sum(broken) == 7  # all properties except identity at the same size and gain at DC
    text = (ROOT / "docs" / "resizing.md").read_text()
    in_docs = re.search(r"(?<=<!-- properties -->\n).*?(?=\n<!-- end -->)", text, re.DOTALL)[0]
    for ours, theirs in zip(read_table(format_properties(table)), read_table(in_docs), strict=True):
        assert ours[0] == theirs[0]
        for a, b in zip(ours[1:], theirs[1:], strict=True):
            # Rounding errors differ between machines.
            assert a == b or max(float(a), float(b)) < 1e-12


def test_figure_has_a_column_for_the_stored_filter_and_each_mode():
    assert len(draw_resized_filter().axes) == 2 * (1 + len(FILTER_RESIZE_MODES))
