"""A tally of the tokens that engines make, which outlives whoever made them."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from actors.contracts.generation import Piece, Sampling
from actors.engines import Scripted


@dataclass(frozen=True, slots=True)
class Tally:
    """A folder with a file for each process, which has a byte for every token."""

    path: Path

    def __post_init__(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)

    def add(self, tokens: int) -> None:
        file = os.open(self.path / str(os.getpid()), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(file, b"." * tokens)
        finally:
            os.close(file)

    @property
    def tokens(self) -> int:
        """How many were made so far, by all of them."""
        return sum(self.by_process.values())

    @property
    def by_process(self) -> dict[int, int]:
        """How many each of them made, by its id."""
        return {int(file.name): file.stat().st_size for file in self.path.iterdir()}


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


class Observed(Tallied):
    """One whose model, as an installation's settings name it, is the folder of its tally: so each replica learns it."""

    def with_model(self, model: str) -> Self:
        return replace(self, model=model, tally=Tally(Path(model)))
