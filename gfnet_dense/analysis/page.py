"""One HTML file with all findings, which needs no other file: it can be mailed and printed."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from PIL import Image

MAX_SIDE = 1600, 16000  # largest width and height of a picture in the page, in pixels
QUALITY = 85  # of JPEGs in the page

STYLE = """
:root { color-scheme: light; --ink: #1d2733; --soft: #5b6876; --line: #d9dfe6; --back: #f5f7f9; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 66rem; padding: 1.5rem 1rem 4rem; color: var(--ink);
  background: #fff; font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
  overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .6rem; padding-top: .8rem;
  border-top: 2px solid var(--ink); }
p, ul { max-width: 46rem; }
a { color: #0b5cad; }
.facts { color: var(--soft); font-size: .85rem; margin: 0 0 1rem; }
.facts div { display: flex; gap: .6rem; }
.facts dt { flex: 0 0 6.5rem; }
.facts dd { margin: 0; }
code { font: .92em ui-monospace, Menlo, Consolas, monospace; }
.findings { background: var(--back); border-left: 4px solid #0b5cad; padding: .7rem 1rem .7rem 2rem;
  margin: 1rem 0; max-width: none; }
.findings li { margin: .25rem 0; }
nav ul { columns: 2 18rem; padding-left: 1.2rem; max-width: none; }
.scroll { overflow-x: auto; margin: .8rem 0 .4rem; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
th { border-bottom: 2px solid var(--ink); vertical-align: bottom; }
th.text, td.text { text-align: left; }
td.text { white-space: normal; min-width: 7rem; }
.columns { color: var(--soft); font-size: .82rem; max-width: 52rem; margin: 0 0 1.2rem; }
.columns b { color: var(--ink); font-weight: 600; }
figure { margin: 1rem 0; }
figure img { max-width: 100%; height: auto; display: block; }
figcaption { color: var(--soft); font-size: .85rem; margin-top: .3rem; }
@media print { body { max-width: none; font-size: 10.5pt; padding: 0; } nav { display: none; }
  .scroll { overflow: visible; } table { font-size: 7.5pt; } th, td { padding: 1pt 3pt; }
  tr, figure { break-inside: avoid; } h2 { break-after: avoid; }
  figure img { max-height: 23cm; width: auto; } }
"""


@dataclass
class Section:
    """A section of the page.

    Attributes:
        title: Its heading.
        blocks: HTML of its contents, as the functions of this module return it.
    """

    title: str
    blocks: list[str] = field(default_factory=list)


def paragraph(text: str) -> str:
    """Return a paragraph; the text is escaped."""
    return f"<p>{escape(text)}</p>"


def bullets(texts: Sequence[str]) -> str:
    """Return a list of sentences; the texts are escaped."""
    return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>"


def table(columns: Mapping[str, str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """Return a table, and below it the meaning of its columns; all texts are escaped.

    Args:
        columns: The meaning of each column by its heading; none is written where it is empty.
        rows: Rows of cells.
        texts: How many of the first columns are texts, and aligned to the left.
    """

    def cells(tag: str, values: Sequence[str]) -> str:
        kinds = (' class="text"' if i < texts else "" for i in range(len(values)))
        pairs = zip(kinds, values, strict=True)
        return "".join(f"<{tag}{kind}>{escape(value)}</{tag}>" for kind, value in pairs)

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    meanings = " ".join(
        f"<b>{escape(name)}</b>: {escape(meaning)}." for name, meaning in columns.items() if meaning
    )
    return (
        f'<div class="scroll"><table><thead><tr>{cells("th", list(columns))}</tr></thead>'
        f'<tbody>{body}</tbody></table></div><p class="columns">{meanings}</p>'
    )


def picture(path: Path, text: str, is_photo: bool = False) -> str:
    """Return a picture, which becomes part of the page, with its caption.

    Args:
        path: A PNG file.
        text: The caption, which is escaped.
        is_photo: Whether to embed a JPEG, and at most MAX_SIDE large.
    """
    kind, data = "png", path.read_bytes()
    with Image.open(path) as image:
        width, height = image.size
        if is_photo:
            image = image.convert("RGB")
            image.thumbnail(MAX_SIDE)
            (width, height), buffer = image.size, io.BytesIO()
            image.save(buffer, "JPEG", quality=QUALITY)
            kind, data = "jpeg", buffer.getvalue()
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return (
        f'<figure><img src="{source}" width="{width}" height="{height}" '
        f'alt="{escape(text)}"><figcaption>{escape(text)}</figcaption></figure>'
    )


def render(
    title: str, facts: Mapping[str, str], findings: Sequence[str], sections: Sequence[Section]
) -> str:
    """Return the whole page.

    Args:
        title: Its title.
        facts: About the run, by name: command, checkpoint, date.
        findings: Sentences on the main results.
        sections: Its sections.
    """
    about = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in facts.items()
    )
    contents = "".join(
        f'<li><a href="#s{i}">{escape(section.title)}</a></li>'
        for i, section in enumerate(sections)
    )
    body = "\n".join(
        f'<section><h2 id="s{i}">{escape(section.title)}</h2>\n'
        + "\n".join(section.blocks)
        + "</section>"
        for i, section in enumerate(sections)
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
<dl class="facts">{about}</dl>
<ul class="findings">{"".join(f"<li>{escape(text)}</li>" for text in findings)}</ul>
<nav aria-label="Contents"><ul>{contents}</ul></nav>
{body}
</body>
</html>
"""


def percent(value: float, digits: int = 1) -> str:
    """Return a share 0..1 in percent, a dash where it is not defined (NaN)."""
    return "–" if value != value else f"{100 * value:.{digits}f}"
