#!/usr/bin/env python
"""Measure time and memory of each border in evaluation; write the table to docs/resizing.md:

    python .dev/border_costs.py

The runs of all borders alternate. The machine must be idle.
"""

from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from gfnet_dense import cli
from gfnet_dense.utils import tables

PAGE = Path(__file__).parent.parent / "docs" / "resizing.md"
RESULTS = Path("work_dirs") / "border_costs" / "results.json"
SIZES = (512, 1024, 2048)  # sides of the images in pixels
ROUNDS, TIME_LIMIT = 3, 600
SETTINGS = (("circular", 224), ("zeros", 224), ("reflect", 224), ("zeros", 512))


def cases() -> list:
    """Return a case for each border, size of the stored filters and image size."""
    from gfnet_dense.benchmark.sweep import Case

    return [
        Case(f"{border}, filters for {img_size}", size, run, dict(border=border, img_size=img_size))
        for border, img_size in SETTINGS
        for size in SIZES
    ]


def run(size: int, border: str, img_size: int) -> dict[str, Any]:
    """Measure a forward of GFNet-H-Ti on one square image."""
    from gfnet_dense.benchmark.backbones import images
    from gfnet_dense.benchmark.measure import Settings, measure
    from gfnet_dense.models import GFNet

    model = GFNet("h-tiny", img_size=img_size, test_border=border)
    return measure(model, (images(size, 1),), Settings())


def format_table(results: dict[str, Any]) -> str:
    """Return a Markdown table with the medians, and in brackets their ratios to circular."""
    columns = [f"{what} at {size}" for size in SIZES for what in ("ms", "extra MiB")]
    rows = {entry["series"]: [entry["series"]] for entry in results["cases"]}
    reference: dict[int, tuple[float, float]] = {}
    for entry in sorted(results["cases"], key=lambda entry: entry["size"]):
        found = tuple(_medians(entry["records"]))
        first = reference.setdefault(entry["size"], found)
        for value, base in zip(found, first, strict=True):
            ratio = "" if found is first else f" ({value / base:.2f})"
            rows[entry["series"]].append(f"{value:.0f}{ratio}")
    return tables.format_table([["border in the test", *columns], *rows.values()])


def _medians(records: list[dict[str, Any]]) -> Iterator[float]:
    yield 1e3 * median(latency for record in records for latency in record["latencies"])
    yield median(record["extra_memory"] for record in records) / 2**20


def main() -> None:
    cli.ArgumentParser(__doc__).parse_args()
    cli.quiet_third_party()
    with cli.plain_errors():
        from gfnet_dense.benchmark.sweep import run_sweep
        from pages import insert_block

        results = run_sweep(cases(), RESULTS, ROUNDS, TIME_LIMIT, resume=RESULTS.exists())
        table = format_table(results)
        PAGE.write_text(insert_block(PAGE.read_text(), "border_costs", table))
        print(f"{table}\n\nwritten: {PAGE}")


if __name__ == "__main__":
    main()
