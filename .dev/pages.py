"""Writing what was measured into the pages of the repository."""

import re


def insert_block(page: str, name: str, block: str) -> str:
    """Return a Markdown page with ``block`` between the markers ``<!-- name -->`` and
    ``<!-- end -->``, at its end if it has none."""
    begin, end = f"<!-- {name} -->", "<!-- end -->"
    block = f"{begin}\n{block}\n{end}"
    text, found = re.subn(f"{begin}.*?{end}", lambda _: block, page, count=1, flags=re.DOTALL)
    return text if found else f"{page.rstrip()}\n\n{block}\n"
