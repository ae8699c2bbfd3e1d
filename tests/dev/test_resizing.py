import re

from gfnet_dense.models.utils.filter_resize import FILTER_RESIZE_MODES
from resizing import (
    draw_resized_filter,
    format_properties,
    measure_properties,
)
from tests.conftest import ROOT


def test_what_the_docs_claim_is_measured():
    table = measure_properties()
    for title, errors in table.items():
        assert tuple(errors) == FILTER_RESIZE_MODES
        assert errors["trigonometric"] < 1e-13, title
    broken = [errors["bilinear"] > 1e-2 for errors in table.values()]
    assert sum(broken) == 7  # all but the same size and DC
    text = (ROOT / "docs" / "resizing.md").read_text()
    in_docs = re.search(r"(?<=<!-- properties -->\n).*?(?=\n<!-- end -->)", text, re.DOTALL)[0]
    # The order of magnitude: rounding errors differ between machines.
    for ours, theirs in zip(
        format_properties(table).splitlines(), in_docs.splitlines(), strict=True
    ):
        assert ours.split("|")[1] == theirs.split("|")[1]
        assert ours.split("|")[3:5] == theirs.split("|")[3:5]


def test_figure_has_a_column_for_the_stored_filter_and_each_mode():
    assert len(draw_resized_filter().axes) == 2 * (1 + len(FILTER_RESIZE_MODES))
