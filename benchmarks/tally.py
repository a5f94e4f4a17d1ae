"""A tally of the tokens that engines make, which outlives whoever made them."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from actors.contracts.generation import Piece, Sampling
from actors.engines import Scripted


@dataclass(frozen=True, slots=True)
class Tally:
    """A file with a byte for every token, of all processes together."""

    path: Path

    def add(self, tokens: int) -> None:
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(file, b"." * tokens)
        finally:
            os.close(file)

    @property
    def tokens(self) -> int:
        """How many were made so far."""
        return self.path.stat().st_size if self.path.exists() else 0


@dataclass
class Tallied(Scripted):
    """The scripted engine; what it makes is written down before anybody else has it."""

    tally: Tally | None = None

    async def generate(
        self, request: str, prompt: Sequence[int], sampling: Sampling, *, said: Sequence[int] = ()
    ) -> AsyncGenerator[Piece, None]:
        async with aclosing(super().generate(request, prompt, sampling, said=said)) as pieces:
            async for piece in pieces:
                if self.tally:
                    self.tally.add(len(piece.tokens))
                yield piece
