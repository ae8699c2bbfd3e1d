#!/usr/bin/env python
"""Measure what each mode of resizing keeps, and put table and figure into docs/resizing.md."""

import argparse
import re
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    from gfnet_dense.benchmark.resizing import (
        draw_resized_filter,
        format_properties,
        measure_properties,
    )
    from gfnet_dense.pictures import save_figure

    page = DOCS / "resizing.md"
    table = format_properties(measure_properties())
    text = re.sub(
        r"(?<=<!-- properties -->\n).*?(?=\n<!-- end -->)",
        lambda _: table,
        page.read_text(),
        flags=re.DOTALL,
    )
    page.write_text(text)
    picture = DOCS / "images" / "resizing.png"
    save_figure(draw_resized_filter(), picture)
    print(f"{table}\n\nwritten: {page}, {picture}")


if __name__ == "__main__":
    main()
