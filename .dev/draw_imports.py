#!/usr/bin/env python
"""Draw which folder of the package imports which, docs/images/imports.svg (needs graphviz):

python .dev/draw_imports.py
"""

import subprocess
from collections import Counter
from pathlib import Path

import grimp

from gfnet_dense import cli

PACKAGE = "gfnet_dense"
PICTURE = Path(__file__).parent.parent / "docs" / "images" / "imports.svg"
STYLE = 'node [shape=box, style="rounded,filled", fillcolor="#eef3f8", fontname="sans-serif"]'


def draw(graph: grimp.ImportGraph) -> str:
    """Return the folders below the package and their imports in graphviz's language."""
    folders = {module: module.split(".")[1] for module in graph.modules if module != PACKAGE}
    sizes = Counter(folder for module, folder in folders.items() if module.count(".") > 1)
    edges = {
        (folder, folders[imported])
        for module, folder in folders.items()
        for imported in graph.find_modules_directly_imported_by(module)
        if imported in folders and folders[imported] != folder
    }
    lines = [STYLE, 'edge [color="#00000066", arrowsize=0.6]']
    for folder in sorted(set(folders.values())):
        size = f"\\n{sizes[folder]} modules" if sizes[folder] else ""
        lines.append(f'"{folder}" [label="{folder}{size}"]')
    lines += [f'"{a}" -> "{b}"' for a, b in sorted(edges)]
    return "digraph {\n" + "\n".join(lines) + "\n}\n"


def main() -> None:
    cli.ArgumentParser(__doc__).parse_args()
    text = draw(grimp.build_graph(PACKAGE, cache_dir=None))
    subprocess.run(["dot", "-Tsvg", "-o", str(PICTURE)], input=text, text=True, check=True)
    print(f"written: {PICTURE}")


if __name__ == "__main__":
    main()
