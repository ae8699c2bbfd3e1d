#!/usr/bin/env python
"""Write the tables and plots of docs/benchmarks/*.json into docs/benchmarks.md:

    python .dev/benchmark_report.py

The JSON files are results of tools/benchmark.py. NAME.json goes between the markers <!-- NAME -->
and <!-- end --> of the page, together with NAME_compiled.json, if there is one: the same command
with --compile. Between <!-- gpu --> and <!-- end --> goes what make gpu has measured.
"""

import json
from pathlib import Path

from gfnet_dense import cli

DOCS = Path(__file__).parent.parent / "docs"
COMPILED = "_compiled"  # end of the names of results with --compile


def main() -> None:
    cli.ArgumentParser(__doc__).parse_args()
    cli.quiet_third_party()
    with cli.plain_errors():
        from gfnet_dense.benchmark.report import present, write_plot
        from gpu_report import describe_page
        from pages import insert_block

        page = DOCS / "benchmarks.md"
        text = page.read_text()
        files = sorted((DOCS / "benchmarks").glob("*.json"))
        for path in [path for path in files if not path.stem.endswith(COMPILED)]:
            compiled = path.with_stem(path.stem + COMPILED)
            others = json.loads(compiled.read_text()) if compiled in files else None
            _, tables, figure = present(json.loads(path.read_text()), others)
            picture = DOCS / "images" / f"benchmark_{path.stem}.png"
            write_plot(figure, picture)
            block = f"![Time and memory over size](images/{picture.name})\n\n{tables}"
            text = insert_block(text, path.stem, block)
            print(f"written: {picture}")
        text = insert_block(text, "gpu", describe_page(DOCS / "benchmarks" / "gpu", DOCS))
        page.write_text(text)
        print(f"written: {page}")


if __name__ == "__main__":
    main()
