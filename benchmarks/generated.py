"""A generation by an engine, as whoever waits for it sees it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from actors.contracts.generation import Sampling
from actors.engines import Engine

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Generated:
    """When it was asked for, when the first and the last token were there, and how many there were."""

    asked: float
    first: float
    last: float
    tokens: int

    @property
    def first_token_s(self) -> float:
        return self.first - self.asked


async def generate(engine: Engine, prompt: str, tokens: int) -> Generated:
    """Ask an engine and nobody else."""
    asked, first, last, made = time.time(), 0.0, 0.0, 0
    async for piece in engine.generate("", engine.encode(prompt), Sampling(max_tokens=tokens, min_tokens=tokens)):
        last = time.time()
        first = first or last
        made += len(piece.tokens)
    return Generated(asked, first, last, made)


async def said(engine: Engine, prompt: str, tokens: int) -> str:
    """What an engine says, once all of it is said."""
    decoder, sampling = engine.decoder(), Sampling(max_tokens=tokens, min_tokens=tokens)
    pieces = engine.generate("", engine.encode(prompt), sampling)
    return "".join([decoder.feed(piece.tokens) async for piece in pieces])


async def in_streams(
    make: Callable[[int], Awaitable[T]], numbers: Sequence[int], *, streams: int, spread_s: float
) -> list[list[T]]:
    """Make the generations of these numbers in so many streams; each makes its share, one after the other.

    Streams begin one by one over `spread_s` seconds, as users do not arrive in step.
    """

    async def stream(at: int) -> list[T]:
        await asyncio.sleep(spread_s * at / streams)
        return [await make(number) for number in numbers[at::streams]]

    return await asyncio.gather(*(stream(at) for at in range(streams)))


def rate(streams: Sequence[Sequence[Generated]]) -> float:
    """Tokens a second: what each stream had between its first request and its last token, together."""
    return sum(sum(g.tokens for g in stream) / (stream[-1].last - stream[0].asked) for stream in streams)
