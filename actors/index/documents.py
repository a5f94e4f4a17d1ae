"""Documents: the files of a folder as text, or in one sentence why not."""

from __future__ import annotations

import stat
from html.parser import HTMLParser
from os import stat_result
from pathlib import Path

from actors.contracts.errors import HeadraceError

MOST_BYTES = 10 << 20
HTML = {".html", ".htm", ".xhtml"}

_BLOCKS = {"p", "div", "br", "li", "tr", "h1", "h2", "h3", "h4", "h5", "h6", "pre", "section", "article", "table"}
_UNSEEN = {"script", "style", "template"}


class NotADocument(HeadraceError):
    """A file that cannot be indexed; the message says why."""


def bytes_of(path: Path, status: stat_result) -> bytes:
    """What is in a file. Raises NotADocument, and OSError."""
    if not stat.S_ISREG(status.st_mode):
        raise NotADocument("it is no ordinary file")
    if status.st_size > MOST_BYTES:
        raise NotADocument(f"it has {status.st_size >> 20} MiB, and {MOST_BYTES >> 20} are the most: split it")
    return path.read_bytes()


def text_of(path: Path, data: bytes) -> str:
    """The text in a file's bytes. Raises NotADocument."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NotADocument(f"it is no UTF-8 text (byte {error.start}): convert it to text first") from None
    if "\0" in text:
        raise NotADocument("it is no text: it has null bytes")
    text = text_of_html(text) if path.suffix.lower() in HTML else text
    if not text.strip():
        raise NotADocument("it has no text")
    return text


def text_of_html(html: str) -> str:
    """What a reader of a page sees of it."""
    page = _Page()
    page.feed(html)
    page.close()
    return "".join(page.said)


class _Page(HTMLParser):
    """What a reader of a page sees; each block is a paragraph."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self._unseen = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._unseen += tag in _UNSEEN
        self._end_paragraph(tag)

    def handle_endtag(self, tag: str) -> None:
        self._unseen = max(0, self._unseen - (tag in _UNSEEN))
        self._end_paragraph(tag)

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self.said.append(data)

    def _end_paragraph(self, tag: str) -> None:
        if tag in _BLOCKS:
            self.said.append("\n\n")
