#!/usr/bin/env python
"""Write configs/README.md and model-index.yml from the configs:

    python .dev/zoo_page.py

This takes minutes and needs no data and no download.
"""

from pathlib import Path

from gfnet_dense import cli

ROOT = Path(__file__).parent.parent


def write_pages(root: Path) -> None:
    """Write the two pages of a checkout at ``root``, and print the cost of each config."""
    import zoo

    entries = []
    for path in sorted((root / "configs").glob("*.py")):
        cfg = cli.read_config(path)
        settings, cost = zoo.read_settings(path.stem, cfg), zoo.measure_cost(cfg)
        entries.append((settings, cost))
        print(f"{path.stem}: {cost.parameters / 1e6:.1f} M, {cost.image.total / 1e9:.1f} G")
    pages = {
        root / "configs" / "README.md": zoo.format_page(entries),
        root / "model-index.yml": zoo.format_index(entries),
    }
    for path, text in pages.items():
        path.write_text(text)
        print(f"written: {path}")


def main() -> None:
    cli.ArgumentParser(__doc__).parse_args()
    cli.quiet_third_party()
    with cli.plain_errors():
        write_pages(ROOT)


if __name__ == "__main__":
    main()
