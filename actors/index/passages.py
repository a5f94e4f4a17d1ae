"""Passages: a document's text in pieces that are short enough to be read by a model, and know their line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

MOST = 800
"""Characters in one passage, at most."""

_HEADING = re.compile(r"#{1,6} ")
_ENDS = ("\n", ". ", "! ", "? ", "; ", " ")
"""Where a long paragraph is cut, best first."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some of a document's text, and the line on which it begins, from 1."""

    line: int
    text: str


def pieces_of(text: str) -> list[Piece]:
    """All of a text: paragraphs together as they fit, each heading with what follows it. Only white space is lost."""
    made: list[Piece] = []
    for piece in _paragraphs(text):
        before = made[-1] if made else None
        if before and not _HEADING.match(piece.text) and len(before.text) + 2 + len(piece.text) <= MOST:
            made[-1] = Piece(before.line, f"{before.text}\n\n{piece.text}")
        else:
            made.append(piece)
    return made


def _paragraphs(text: str) -> Iterator[Piece]:
    """What stands between empty lines or begins with a heading, in parts where it is too long for one passage."""
    begin, lines = 0, list[str]()
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        if lines and (not line.strip() or _HEADING.match(line)):
            yield from _parts(begin, "\n".join(lines).strip())
            lines = []
        if line.strip():
            begin = begin if lines else number
            lines.append(line.rstrip())


def _parts(line: int, text: str) -> Iterator[Piece]:
    while len(text) > MOST:
        cut = _cut(text)
        yield Piece(line, text[:cut].strip())
        line += text[:cut].count("\n")
        text = text[cut:].lstrip(" ")
        line += len(text) - len(text.lstrip("\n"))
        text = text.lstrip("\n")
    if text:
        yield Piece(line, text)


def _cut(text: str) -> int:
    """Where to cut: after the last good end in the second half of what fits, else where it is full."""
    for end in _ENDS:
        at = text.rfind(end, MOST // 2, MOST - len(end) + 1)
        if at > 0:
            return at + len(end)
    return MOST
