#!/usr/bin/env python
"""Measure what each mode of resizing keeps, table and figure into docs/resizing.md:

python tools/resizing_report.py
"""

from pathlib import Path

from gfnet_dense import cli

DOCS = Path(__file__).parent.parent / "docs"


def main() -> None:
    cli.ArgumentParser(__doc__).parse_args()
    from gfnet_dense.benchmark.report import insert_block
    from gfnet_dense.benchmark.resizing import (
        draw_resized_filter,
        format_properties,
        measure_properties,
    )
    from gfnet_dense.pictures import save_figure

    page = DOCS / "resizing.md"
    table = format_properties(measure_properties())
    page.write_text(insert_block(page.read_text(), "properties", table))
    picture = DOCS / "images" / "resizing.png"
    save_figure(draw_resized_filter(), picture)
    print(f"{table}\n\nwritten: {page}, {picture}")


if __name__ == "__main__":
    main()
