"""A pipeline whose engine writes down each token that it makes, in whichever process, and hangs when it is told to."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Self

from actors import Job, Message, Pipeline, stage
from actors.contracts.generation import Piece, Sampling
from actors.engines import Engine
from benchmarks.tally import Tallied, Tally

FOLDER = "TALLY"
"""The variable of the environment that names the folder of the tally; every replica inherits it."""

WORDS = " ".join(f"w{n:03}" for n in range(120))
TOKEN_S = 0.05

HANG, TOKENS = "hang", "tokens"
"""What it holds: the first engine that finds the one file makes nothing more for anybody; the other is the tally."""


class Hanging(Tallied):
    """The scripted engine with a tally, which hangs when it is told to."""

    async def __aenter__(self) -> Self:
        self._folder = Path(os.environ[FOLDER])
        self._hangs = False
        self.tally = Tally(self._folder / TOKENS)
        return await super().__aenter__()

    async def generate(
        self, request: str, prompt: Sequence[int], sampling: Sampling, *, said: Sequence[int] = ()
    ) -> AsyncGenerator[Piece, None]:
        async with aclosing(super().generate(request, prompt, sampling, said=said)) as pieces:
            while not self._is_told_to_hang() and (piece := await anext(pieces, None)):
                yield piece
            if self._hangs:
                await asyncio.Event().wait()

    def _is_told_to_hang(self) -> bool:
        with suppress(FileNotFoundError):
            (self._folder / HANG).unlink()
            self._hangs = True
        return self._hangs


class Tune(Message):
    """What is sung."""

    name: str


class Song(Message):
    """The answer."""

    text: str


@stage(uses=Hanging(says=WORDS, first_token_s=TOKEN_S, token_s=TOKEN_S), concurrency=8, replicas=2)
async def sing(tune: Tune, job: Job, engine: Engine) -> Song:
    return Song(text=await job.speak(engine, tune.name, max_tokens=1_000))


songs = Pipeline("songs", sing)
