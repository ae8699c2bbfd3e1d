#!/usr/bin/env python
"""Measure which properties of a filter each resizing mode keeps; write docs/resizing.md:

    python .dev/resizing_report.py

This takes seconds.
"""

from pathlib import Path

from gfnet_dense import cli

DOCS = Path(__file__).parent.parent / "docs"


def main() -> None:
    cli.ArgumentParser(__doc__).parse_args()
    from gfnet_dense.visualization.figures import save_figure
    from pages import insert_block
    from resizing import (
        draw_resized_filter,
        format_properties,
        measure_properties,
    )

    page = DOCS / "resizing.md"
    table = format_properties(measure_properties())
    page.write_text(insert_block(page.read_text(), "properties", table))
    picture = DOCS / "images" / "resizing.png"
    save_figure(draw_resized_filter(), picture)
    print(f"{table}\n\nwritten: {page}, {picture}")


if __name__ == "__main__":
    main()
