"""A page: the text that its reader sees of its HTML.

Strangers write pages, so this takes time in proportion to their length, whatever is wrong with them: what is not closed
goes on to the end, as it does in a browser, and so nothing is looked at twice.
"""

from __future__ import annotations

import html
import re

_BLOCKS = {"p", "div", "br", "li", "tr", "h1", "h2", "h3", "h4", "h5", "h6", "pre", "section", "article", "table"}
_UNSEEN = {"script", "style", "template"}
_RAW = {name: re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE) for name in ("script", "style")}
"""The end of what has no tags in it, whatever it looks like."""

_MARKUP = re.compile(
    r"""
      <!--(?:-?>|.*?(?:--!?>|\Z))           # a comment
    | <!\[CDATA\[.*?(?:\]\]>|\Z)
    | <(?:[!?]|/(?![a-z]))[^>]*+(?:>|\Z)    # a declaration
    | </?(?P<name>[a-z][^\s/>]*+)
      (?:[^=>]++|=\s*+(?:"[^"]*+(?:"|\Z)|'[^']*+(?:'|\Z))?+)*+
      (?:>|\Z)
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE | re.ASCII,
)


def text_of_html(page: str) -> str:
    """What a reader of a page sees of it; each block is a paragraph."""
    said: list[str] = []
    unseen = at = 0
    while markup := _MARKUP.search(page, at):
        if not unseen:
            said.append(_read(page[at : markup.start()]))
        at, tag = markup.end(), markup[0]
        name = (markup["name"] or "").lower()
        if name in _UNSEEN and not tag.endswith("/>"):
            unseen = max(0, unseen - 1) if tag.startswith("</") else unseen + 1
        if name in _RAW and not tag.startswith("</") and not tag.endswith("/>"):
            end = _RAW[name].search(page, at)
            at = end.start() if end else len(page)
        if name in _BLOCKS:
            said.append("\n\n")
    if not unseen:
        said.append(_read(page[at:]))
    return "".join(said)


def _read(text: str) -> str:
    try:
        return html.unescape(text)
    except ValueError:  # a number of a character that has more digits than Python reads
        return text
