"""Documents: the files of a folder as text, or in one sentence why not."""

from __future__ import annotations

import stat
from os import stat_result
from pathlib import Path

from actors.contracts.errors import HeadraceError
from actors.index.page import text_of_html

MOST_BYTES = 10 << 20
HTML = {".html", ".htm", ".xhtml"}


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
