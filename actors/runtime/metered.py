"""An engine as one step sees it: what it generates is counted, and what is running can be stopped."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Self

from actors.contracts.generation import Piece, Prompt, Sampling, Usage
from actors.engines.protocol import Decoder, Engine, Pulse


class Metered(Engine):
    """Passes everything on to the replica's engine, under request names of this step, and keeps its usage."""

    def __init__(self, engine: Engine, claim: str) -> None:
        self._engine = engine
        self._claim = claim
        self._requests = 0
        self._usage = Usage()
        self._unkept = 0
        self._taken = 0
        self.model = engine.model

    def note(self, usage: Usage) -> None:
        """Count what was generated earlier and is used now."""
        self._usage += usage

    def keep(self, tokens: int) -> None:
        """So many of the generated tokens are stored, and never generated again."""
        self._unkept -= tokens

    @property
    def unkept(self) -> int:
        """How many of the generated tokens are not stored: wasted, if the step goes no further."""
        return self._unkept

    @property
    def taken(self) -> int:
        """How many tokens it has worked on for this step: generated ones, and prompts from their first token on."""
        return self._taken

    def take_usage(self) -> Usage:
        """What was used since the last time somebody took it."""
        usage, self._usage = self._usage, Usage()
        return usage

    def with_model(self, model: str) -> Self:
        raise TypeError("this engine is already open")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    @property
    def revision(self) -> str:
        return self._engine.revision

    @property
    def context(self) -> int:
        return self._engine.context

    def encode(self, prompt: Prompt) -> list[int]:
        return self._engine.encode(prompt)

    def decoder(self) -> Decoder:
        return self._engine.decoder()

    async def generate(
        self, request: str, prompt: Sequence[int], sampling: Sampling, *, said: Sequence[int] = ()
    ) -> AsyncGenerator[Piece, None]:
        self._requests += 1
        name = f"{self._claim}-{self._requests}"
        self._usage += Usage(prompt_tokens=len(prompt))
        read = len(prompt) + len(said)
        async with aclosing(self._engine.generate(name, prompt, sampling, said=said)) as pieces:
            async for piece in pieces:
                self._taken += read + len(piece.tokens)
                read = 0
                self._usage += Usage(output_tokens=len(piece.tokens))
                self._unkept += len(piece.tokens)
                yield piece

    async def abort(self, request: str) -> None:
        await self._engine.abort(request)

    def pulse(self) -> Pulse:
        return self._engine.pulse()

    async def check(self) -> None:
        await self._engine.check()
