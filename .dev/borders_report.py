#!/usr/bin/env python
"""Train and test with circular and zeros borders; write table and figure to docs/resizing.md:

    python .dev/borders_report.py

This takes hours on two CPU cores. Finished runs in work_dirs/borders are not repeated.
"""

from pathlib import Path

from gfnet_dense import cli

DOCS = Path(__file__).parent.parent / "docs"


def main() -> None:
    cli.ArgumentParser(__doc__).parse_args()
    cli.quiet_third_party()
    cli.limit_onednn_cache()
    with cli.plain_errors():
        import borders
        from gfnet_dense.visualization.figures import save_figure
        from pages import insert_block

        metrics = borders.run()
        table = borders.format_table(metrics)
        picture, page = DOCS / "images" / "borders.png", DOCS / "resizing.md"
        save_figure(borders.draw_plot(metrics), picture)
        title = "mIoU of whole images minus that of sliding windows, at x 1"
        block = f"![{title}](images/{picture.name})\n\n{table}"
        page.write_text(insert_block(page.read_text(), "borders", block))
        print(f"{table}\n\nwritten: {page}, {picture}")


if __name__ == "__main__":
    main()
