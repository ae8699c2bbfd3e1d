"""Insert measured tables and figures into the pages of the repository."""

import re


def insert_block(page: str, name: str, block: str) -> str:
    """Return a Markdown page with ``block`` between two markers.

    Args:
        page: Text of the page.
        name: The markers are ``<!-- name -->`` and ``<!-- end -->``. If the page has none, they are
            appended to it.
        block: Text that replaces everything between the markers.
    """
    begin, end = f"<!-- {name} -->", "<!-- end -->"
    block = f"{begin}\n{block}\n{end}"
    text, found = re.subn(f"{begin}.*?{end}", lambda _: block, page, count=1, flags=re.DOTALL)
    return text if found else f"{page.rstrip()}\n\n{block}\n"
